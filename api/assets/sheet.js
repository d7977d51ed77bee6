// Asks for pages, and takes the parts out of them that are shown in the page that is open.

/** Marks a request as a script's: a redirect is then told in a header, for the script to follow. */
const headers = { 'console-script': '1', accept: 'text/html' }

/** Asks for a page; goes where it leads to, if it leads elsewhere, and then never resolves. */
export const ask = async (url, options = {}) => {
  const answer = await fetch(url, { ...options, headers: { ...headers, ...options.headers } })
  const location = answer.headers.get('console-location')
  if (location) {
    leave(location)
    return new Promise(() => {})
  }
  return new DOMParser().parseFromString(await answer.text(), 'text/html')
}

/** Goes to a page, also if it is the one that is open. */
export const leave = (location) => {
  window.onbeforeunload = null
  if (new URL(location, document.baseURI).href === window.location.href) window.location.reload()
  else window.location.assign(location)
}

/** Says something to those who hear the page. */
export const say = (text) => {
  const said = document.getElementById('said')
  if (said) said.textContent = text.replace(/\s+/g, ' ').trim()
}

/** Announces that a part of the page was put there or exchanged. */
export const announce = (part) => part.dispatchEvent(new CustomEvent('console:shown', { bubbles: true }))
