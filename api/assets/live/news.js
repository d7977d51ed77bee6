// An element with data-news="address of a count" shows how many keys were created since the page was
// rendered, with a link to them. The list itself does not move. If there is an event stream (data-stream),
// its first event starts the counting; otherwise, and from then on, the count is polled. A hidden page
// requests nothing.
import { unattended } from '../parts/sheet.js'

const COUNTED_EVERY_MILLIS = 15000
/** The delay from an event to the first count, which gathers bursts. */
const COUNTED_AFTER_MILLIS = 300

let news
let stream
let timer

const tell = (count, capped) => {
  const link = document.createElement('a')
  link.className = 'button small'
  link.href = news.dataset.href
  link.textContent = `${capped ? 'More than ' : ''}${count.toLocaleString('en')} new ${count === 1 ? 'key' : 'keys'} · Show`
  if (link.textContent !== news.textContent) news.replaceChildren(link)
}

const count = async () => {
  const asked = news
  const headers = { accept: 'application/json', ...unattended.headers }
  const answer = await fetch(asked.dataset.news, { headers }).catch(() => null)
  // A request that is refused, by sign-out or by a rate limit, shows nothing new.
  const { total, total_capped: capped } = answer?.ok ? await answer.json() : {}
  if (news !== asked) return
  if (total) tell(total, capped)
  if (!document.hidden) timer = setTimeout(count, COUNTED_EVERY_MILLIS)
}

const rest = () => {
  stream?.close()
  stream = undefined
  clearTimeout(timer)
}

const watch = () => {
  rest()
  if (!news || document.hidden) return
  const counts = Boolean(news.firstChild) || !news.dataset.stream || !('EventSource' in window)
  if (counts) {
    timer = setTimeout(count, COUNTED_EVERY_MILLIS)
    return
  }
  stream = new EventSource(news.dataset.stream)
  stream.addEventListener('KeyCreated', () => {
    rest()
    timer = setTimeout(count, COUNTED_AFTER_MILLIS)
  })
}

const find = () => {
  const found = document.querySelector('[data-news]')
  if (found === news) return
  news = found
  watch()
}

document.addEventListener('console:shown', find)
document.addEventListener('visibilitychange', watch)
addEventListener('pagehide', rest)
addEventListener('pageshow', (event) => event.persisted && watch())
find()
