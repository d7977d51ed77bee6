// A toast goes away by itself, unless somebody is about to use it.
const STAYS_MILLIS = 12000

for (const toast of document.querySelectorAll('.toast')) {
  const leave = () => {
    if (toast.matches(':hover, :focus-within')) setTimeout(leave, 2000)
    else toast.remove()
  }
  setTimeout(leave, STAYS_MILLIS)
}
