// A list marked with data-follow="address of a stream of events" shows what comes, until somebody pauses it. The stream only
// says that there is something new; the page is asked for it, so that there is one way to tell of an event. While somebody
// reads in the list, or has something in it open, new events wait for a button.
import { announce, ask } from './sheet.js'

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
    const page = await ask(location.href).catch(() => null)
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
    // Every type of event is a name of its own in the stream, so what is listened for is the types that there are.
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
  // Browsers have few connections to a host: a page that nobody looks at holds none.
  document.addEventListener('visibilitychange', () => {
    if (!stream) return
    stream.close()
    if (document.hidden) return
    // What has come since the list was shown comes again.
    waiting = 0
    follow()
  })
  // Nor does one that is kept for going back to.
  addEventListener('pagehide', () => stream?.close())
  addEventListener('pageshow', (event) => {
    if (event.persisted && stream) follow()
  })
  follower.hidden = false
  follow()
}
