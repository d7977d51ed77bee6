// The field in the organization switcher (data-switch="address with %7Bid%7D in place of the id") searches
// while typing.
import { say } from './sheet.js'

const WAIT_MILLIS = 150
const FOUND_MAX = 12

for (const field of document.querySelectorAll('input[data-switch]')) {
  const list = field.closest('.popover').querySelector('ul')
  const first = [...list.children]
  let timer
  const row = (it) => {
    const link = document.createElement('a')
    link.href = field.dataset.switch.replace('%7Bid%7D', encodeURIComponent(it.id))
    const name = document.createElement('bdi')
    name.textContent = it.name ?? it.id
    link.append(name)
    const item = document.createElement('li')
    item.append(link)
    return item
  }
  const find = async () => {
    const typed = field.value.trim()
    if (!typed) return list.replaceChildren(...first)
    const query = new URLSearchParams({ q: typed, limit: FOUND_MAX })
    const answer = await fetch(`/v1/organizations?${query}`, { headers: { accept: 'application/json' } }).catch(() => null)
    if (!answer?.ok || field.value.trim() !== typed) return
    const { data } = await answer.json()
    const found = data.filter((it) => it.status === 'active')
    const none = document.createElement('li')
    none.className = 'none'
    none.textContent = 'No matching organizations'
    list.replaceChildren(...(found.length ? found.map(row) : [none]))
    say(found.length === 1 ? '1 organization' : `${found.length || 'No'} organizations`)
  }
  field.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(find, WAIT_MILLIS)
  })
  field.closest('details').addEventListener('toggle', (event) => event.target.open && field.focus())
}
