// A part marked with data-countdown="milliseconds left" counts its time down, second by second, and says what stands in
// data-over when it has come. What is left is the service's word, so that it does not matter what the browser's clock says.
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
