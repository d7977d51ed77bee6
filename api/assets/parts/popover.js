// Menus close on a click elsewhere or on Esc, which returns the focus to their button.
const openOnes = () => document.querySelectorAll('details.popover[open]')

document.addEventListener('click', (event) => {
  for (const popover of openOnes()) if (!popover.contains(event.target)) popover.open = false
})

document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return
  for (const popover of openOnes()) {
    popover.open = false
    popover.querySelector('summary').focus()
    event.preventDefault()
  }
  if (location.hash === '#menu') location.hash = '#content'
})
