// A toast disappears after a while. The time pauses while the pointer or the focus is in it, and while the
// page is hidden. It can be closed earlier. Screen readers hear its text.
import { say } from './sheet.js'

const STAYS_MILLIS = 12000
/** The time that remains after a pause, at least. */
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
    // `:focus-within` is up to date only after the event.
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
