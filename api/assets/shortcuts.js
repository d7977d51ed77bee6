// Single keys for those who look at many keys: / searches, c creates, ? tells what there is. Not while somebody types.
const help = () => {
  const dialog = document.createElement('dialog')
  dialog.setAttribute('aria-labelledby', 'sheet-title')
  dialog.innerHTML = `<section class="sheet"><h1 id="sheet-title">Keyboard</h1><dl class="facts">
    <dt><kbd>/</kbd></dt><dd>Search</dd><dt><kbd>c</kbd></dt><dd>Create</dd>
    <dt><kbd>?</kbd></dt><dd>This list</dd><dt><kbd>Esc</kbd></dt><dd>Close</dd></dl>
    <div class="actions"><button type="button" class="button" autofocus>Close</button></div></section>`
  dialog.querySelector('button').addEventListener('click', () => dialog.close())
  dialog.addEventListener('close', () => dialog.remove())
  document.body.append(dialog)
  dialog.showModal()
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
  if (event.target.closest('input, select, textarea, [contenteditable]') || document.querySelector('dialog[open]')) return
  const found = { '/': () => document.querySelector('input[type=search]')?.focus(),
    c: () => document.querySelector('[data-create]')?.click(), '?': help }[event.key]
  if (!found) return
  event.preventDefault()
  found()
})
