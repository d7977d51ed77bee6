// The link's secret stands after the #, which browsers send nowhere. It is taken out of the address at once, and used only
// when a person presses the button: programs that look at links ahead of people do not use it up.
const button = document.getElementById('continue')
const message = document.getElementById('message')
const link = location.hash.slice(1)
history.replaceState(null, '', location.pathname)

const end = (text) => {
  message.textContent = text
  button.hidden = true
}

if (link) button.hidden = false
else end('This link is not complete. Open it as it was given to you.')
button.addEventListener('click', async () => {
  button.disabled = true
  try {
    const answer = await fetch('/portal/session', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ link }),
    })
    if (answer.ok) location.replace('/console')
    else end('This link was used before, or its time is over. Ask for a new one.')
  } catch {
    button.disabled = false
    message.textContent = 'The service cannot be reached. Try again.'
  }
})
