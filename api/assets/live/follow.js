// A list with data-follow="address of an event stream" shows new events until it is paused. The stream only
// signals that there is something new; the page itself is fetched again, so that events are rendered in one
// place. While the reader has the focus or an open entry in the list, new events wait behind a button.
import { announce, ask, unattended } from '../parts/sheet.js'

const follower = document.querySelector('[data-follow]')
if (follower && 'EventSource' in window) {
  const state = follower.querySelector('[data-state]')
  const button = follower.querySelector('[data-pause]')
  let stream
  let waiting = 0
  let shows = false
  const part = () => document.getElementById(follower.dataset.part)
  const isRead = () => part().contains(document.activeElement) || part().querySelector('details[open]')

  const tell = () => {
    follower.classList.toggle('is-paused', !stream)
    const news = waiting === 1 ? '1 new event' : `${waiting} new events`
    state.textContent = waiting ? news : stream ? 'Live' : 'Paused'
    button.textContent = waiting ? 'Show' : stream ? 'Pause' : 'Follow'
  }
  const show = async () => {
    if (shows) return
    shows = true
    const before = new Set([...part().querySelectorAll('[id]')].map((it) => it.id))
    const page = await ask(location.href, unattended).catch(() => null)
    shows = false
    const found = page?.getElementById(follower.dataset.part)
    if (!found) return
    const shown = document.adoptNode(found)
    for (const it of shown.querySelectorAll('[id]')) it.classList.toggle('is-new', !before.has(it.id))
    part().replaceWith(shown)
    const next = page.querySelector('[data-follow]')
    if (next) follower.dataset.follow = next.dataset.follow
    waiting = 0
    tell()
    announce(shown)
  }
  let timer
  const come = () => {
    waiting += 1
    clearTimeout(timer)
    timer = setTimeout(() => (isRead() ? tell() : show()), 150)
  }
  const follow = () => {
    stream = new EventSource(follower.dataset.follow)
    // The stream names each message after its event type, so every type needs a listener.
    for (const type of follower.dataset.types.split(' ')) stream.addEventListener(type, come)
    tell()
  }
  const pause = () => {
    stream.close()
    stream = undefined
    tell()
  }
  button.addEventListener('click', () => {
    if (waiting) show()
    else if (stream) pause()
    else show().then(follow)
  })
  // Browsers limit the connections to a host, so a hidden page holds none.
  document.addEventListener('visibilitychange', () => {
    if (!stream) return
    stream.close()
    if (document.hidden) return
    // The stream repeats the events since the list was rendered.
    waiting = 0
    follow()
  })
  // A page in the back-forward cache holds none either.
  addEventListener('pagehide', () => stream?.close())
  addEventListener('pageshow', (event) => {
    if (event.persisted && stream) follow()
  })
  follower.hidden = false
  follow()
}
