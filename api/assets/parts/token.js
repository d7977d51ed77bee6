// A secret is shown once. Leaving without having copied it asks for confirmation, and the page drops the
// secret on leave.
const sheetOf = (within) => within.querySelector('.sheet[data-token]')

const watch = (sheet) => {
  if (sheet.dataset.watched) return
  sheet.dataset.watched = '1'
  const ask = sheet.querySelector('[data-unsaved]')
  let mayLeave = false
  const leave = () => {
    mayLeave = true
    window.onbeforeunload = null
  }
  window.onbeforeunload = (event) => event.preventDefault()
  // The value beside the secret is public, so copying it alone is not enough.
  sheet.addEventListener('console:copied', (event) => event.target.dataset.copy !== 'beside' && leave())
  sheet.querySelector('input[data-select]').addEventListener('copy', leave)
  const stop = (event) => {
    if (mayLeave) return
    event.preventDefault()
    ask.hidden = false
    ask.querySelector('button').focus()
  }
  sheet.closest('dialog')?.addEventListener('console:leaving', stop)
  sheet.addEventListener('click', (event) => {
    if (event.target.closest('[data-stay]')) {
      ask.hidden = true
      sheet.querySelector('button[data-copy]').focus()
    } else if (event.target.closest('[data-leave]')) {
      leave()
    } else if (event.target.closest('a[href]') && !sheet.closest('dialog')) {
      stop(event)
    }
  })
}

document.addEventListener('console:shown', (event) => {
  if (event.target.matches('.sheet[data-token]')) watch(event.target)
})
if (sheetOf(document)) watch(sheetOf(document))
// A page in the back-forward cache must not keep the secret.
window.addEventListener('pagehide', () => sheetOf(document)?.remove())
