// A form with data-live="id" searches while typing: the element with that id is replaced, and the field keeps
// its focus.
import { announce, ask, say } from '../parts/sheet.js'

const WAIT_MILLIS = 120

for (const form of document.querySelectorAll('form[data-live]')) {
  let timer
  let latest = 0
  const show = async () => {
    const query = new URLSearchParams(new FormData(form))
    for (const [name, value] of [...query]) if (!value) query.delete(name)
    const path = new URL(form.action).pathname
    const address = query.size ? `${path}?${query}` : path
    const number = ++latest
    const page = await ask(address).catch(() => null)
    const part = page?.getElementById(form.dataset.live)
    if (!part) return form.submit()
    // Outdated: the text changed while the page was fetched.
    if (number !== latest) return
    document.getElementById(form.dataset.live).replaceWith(document.adoptNode(part))
    history.replaceState(null, '', address)
    announce(part)
    say(part.querySelector('.list-foot [role=status], .empty h2')?.textContent ?? '')
  }
  form.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(show, WAIT_MILLIS)
  })
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    clearTimeout(timer)
    show()
  })
}
