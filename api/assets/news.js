// A part marked with data-news="address of a count" tells how many keys have come since the page was made, with a link to them.
// What is listed stays as it is meanwhile. Where events can be followed (data-stream), the first one that comes sets off the
// counting; elsewhere, and from then on, it is counted now and then. Nothing is asked for while nobody looks at the page.
const COUNTED_EVERY_MILLIS = 15000
/** Those who follow events are told this soon. */
const TOLD_AFTER_MILLIS = 300

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
  const answer = await fetch(asked.dataset.news, { headers: { accept: 'application/json' } }).catch(() => null)
  // Whoever is signed out, or is told to come less often, is told nothing new.
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
    timer = setTimeout(count, TOLD_AFTER_MILLIS)
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
