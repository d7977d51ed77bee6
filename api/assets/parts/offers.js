// A field with data-offers="path of an endpoint" suggests what the endpoint finds for the typed text. The
// chosen value is an id; its name appears below the field.
const WAIT_MILLIS = 150
const OFFERS_MAX = 20

let timer

const name = (field) => {
  const chosen = [...field.list.options].find((option) => option.value === field.value.trim())
  const named = field.parentElement.querySelector('[data-named]')
  named.textContent = chosen?.textContent ?? ''
  named.hidden = !chosen
}

const offer = async (field) => {
  const typed = field.value.trim()
  const query = new URLSearchParams({ q: typed, limit: OFFERS_MAX })
  const answer = await fetch(`${field.dataset.offers}?${query}`, { headers: { accept: 'application/json' } }).catch(() => null)
  // The initial suggestions remain.
  if (!answer?.ok) return
  const { data } = await answer.json()
  if (field.value.trim() !== typed) return
  const found = data.filter((it) => it.status === 'active')
  field.list.replaceChildren(...found.map((it) => new Option(it.name ?? it.id, it.id)))
  name(field)
}

document.addEventListener('input', (event) => {
  const field = event.target
  if (!field.dataset?.offers || !field.list) return
  clearTimeout(timer)
  name(field)
  if (field.value.trim()) timer = setTimeout(() => offer(field), WAIT_MILLIS)
})
