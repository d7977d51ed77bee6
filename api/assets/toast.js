// A toast goes away by itself after a while, which goes by only while nobody is about to use it: the pointer is elsewhere, the
// focus too, and the page is looked at. It can be closed before that. What it says is told to those who hear pages.
import { say } from './sheet.js'

const STAYS_MILLIS = 12000
/** However often somebody came near it, it then stays this long. */
const STAYS_MILLIS_MIN = 2000

for (const toast of document.querySelectorAll('.toast')) {
  let left = STAYS_MILLIS
  let since
  let timer
  const close = () => {
    clearTimeout(timer)
    const hadFocus = toast.contains(document.activeElement)
    toast.closest('.toasts').remove()
    if (hadFocus) document.getElementById('content').focus()
  }
  const run = () => {
    if (timer) left -= Date.now() - since
    clearTimeout(timer)
    timer = undefined
    if (document.hidden || toast.matches(':hover, :focus-within')) return
    since = Date.now()
    timer = setTimeout(close, Math.max(left, STAYS_MILLIS_MIN))
  }
  for (const type of ['pointerenter', 'pointerleave', 'focusin', 'focusout']) {
    // Where the focus went is known only once it is there.
    toast.addEventListener(type, () => setTimeout(run))
  }
  document.addEventListener('visibilitychange', run)
  const button = toast.querySelector('[data-dismiss]')
  button.hidden = false
  button.addEventListener('click', close)
  toast.addEventListener('keydown', (event) => event.key === 'Escape' && close())
  run()
  setTimeout(() => say(toast.querySelector('p').textContent), 200)
}
