// Buttons with data-copy="id" copy the value or text of the element with that id.
document.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-copy]')
  if (!button) return
  const source = document.getElementById(button.dataset.copy)
  const text = source.value ?? source.textContent
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // Browsers offer no clipboard without TLS. The selection can still be copied by hand.
    source.select?.()
    if (!document.execCommand('copy')) return
  }
  const label = button.querySelector('[data-label]') ?? button
  label.dataset.before ??= label.textContent
  label.textContent = 'Copied'
  button.dispatchEvent(new CustomEvent('console:copied', { bubbles: true }))
  setTimeout(() => { label.textContent = label.dataset.before }, 2000)
})

document.addEventListener('focusin', (event) => {
  if (event.target.matches?.('input[data-select]')) event.target.select()
})
