// The selection bar, which CSS shows once a key is selected: it counts the keys, and one checkbox selects the
// page.
const refresh = () => {
  const bar = document.querySelector('.selection')
  if (!bar) return
  const boxes = [...document.querySelectorAll('input[data-row]')]
  const chosen = boxes.filter((box) => box.checked).length
  bar.querySelector('[data-choose-none]').hidden = false
  bar.querySelector('[data-count]').textContent = chosen === 1 ? '1 key selected' : `${chosen} keys selected`
  const all = document.querySelector('input[data-all]')
  if (!all) return
  all.closest('label').hidden = false
  all.checked = chosen > 0 && chosen === boxes.length
  all.indeterminate = chosen > 0 && chosen < boxes.length
}

document.addEventListener('change', (event) => {
  if (event.target.matches('input[data-all]')) {
    for (const box of document.querySelectorAll('input[data-row]')) box.checked = event.target.checked
  }
  if (event.target.matches('input[data-all], input[data-row]')) refresh()
})
document.addEventListener('click', (event) => {
  if (!event.target.closest('[data-choose-none]')) return
  for (const box of document.querySelectorAll('input[data-row]')) box.checked = false
  refresh()
})
document.addEventListener('console:shown', refresh)
window.addEventListener('pageshow', refresh)
refresh()
