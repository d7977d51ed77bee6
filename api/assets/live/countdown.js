// An element with data-countdown="milliseconds left" counts down second by second and then shows the text in
// data-over. The service sends the remaining time rather than the end, so that a wrong browser clock does not
// matter.
const MINUTE = 60
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

const words = (seconds) => {
  const units = [[Math.floor(seconds / DAY), 'd'], [Math.floor(seconds / HOUR) % 24, 'h'],
    [Math.floor(seconds / MINUTE) % 60, 'min'], [seconds % 60, 's']]
  const first = units.findIndex(([count], index) => count || index === units.length - 1)
  return `in ${units.slice(first, first + 3).map(([count, unit]) => `${count} ${unit}`).join(' ')}`
}

const watch = (part) => {
  const end = Date.now() + Number(part.dataset.countdown)
  const time = part.querySelector('time')
  const tick = () => {
    const left = end - Date.now()
    if (!part.isConnected) return
    if (left <= 0) {
      time.parentElement.textContent = part.dataset.over
      part.classList.remove('warn')
      return
    }
    time.textContent = words(Math.ceil(left / 1000))
    setTimeout(tick, left % 1000 || 1000)
  }
  tick()
}

for (const part of document.querySelectorAll('[data-countdown]')) watch(part)
