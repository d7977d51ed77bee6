// Single-key shortcuts: / searches, c creates, ? lists them. They are inactive while typing and can be turned
// off, which people who use speech input or press keys by accident need (WCAG 2.1.4).
const KEPT = 'keyledger-single-keys'

const areOff = () => {
  try {
    return localStorage.getItem(KEPT) === 'off'
  } catch {
    return false
  }
}
const turn = (on) => {
  try {
    if (on) localStorage.removeItem(KEPT)
    else localStorage.setItem(KEPT, 'off')
  } catch {
    // Without storage, the choice lasts for this page only.
  }
  mark()
}
/** Lets CSS hide the hints to shortcuts that are off. */
const mark = () => document.documentElement.classList.toggle('without-single-keys', areOff())

const help = () => {
  const opener = document.activeElement
  const dialog = document.createElement('dialog')
  dialog.setAttribute('aria-labelledby', 'sheet-title')
  dialog.innerHTML = `<section class="sheet"><h1 id="sheet-title">Keyboard shortcuts</h1><dl class="facts">
    <dt><kbd>/</kbd></dt><dd>Search</dd><dt><kbd>c</kbd></dt><dd>Create</dd>
    <dt><kbd>?</kbd></dt><dd>Show shortcuts</dd><dt><kbd>Esc</kbd></dt><dd>Close</dd></dl>
    <label class="check-line"><input type="checkbox">Use single-key shortcuts</label>
    <div class="actions"><button type="button" class="button" autofocus>Close</button></div></section>`
  const box = dialog.querySelector('input')
  box.checked = !areOff()
  box.addEventListener('change', () => turn(box.checked))
  dialog.querySelector('button').addEventListener('click', () => dialog.close())
  dialog.addEventListener('close', () => {
    dialog.remove()
    if (opener?.isConnected) opener.focus()
  })
  document.body.append(dialog)
  dialog.showModal()
}

for (const button of document.querySelectorAll('[data-keyboard]')) {
  button.hidden = false
  button.addEventListener('click', help)
}
mark()

document.addEventListener('keydown', (event) => {
  if (areOff() || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
  if (event.target.closest('input, select, textarea, [contenteditable]') || document.querySelector('dialog[open]')) return
  const found = { '/': () => document.querySelector('main input[type=search]')?.focus(),
    c: () => document.querySelector('[data-create]')?.click(), '?': help }[event.key]
  if (!found) return
  event.preventDefault()
  found()
})
