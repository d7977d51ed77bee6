// Fetches pages whose parts other modules show in the open page.

/** Marks a request as a script's. The server then returns a redirect in a header, for the script to follow. */
const headers = { 'console-script': '1', accept: 'text/html' }

/** Options of a request that nobody has caused by doing something. It does not count as a use of the session. */
export const unattended = { headers: { 'console-unattended': '1' } }

/** Fetches a page. Follows a redirect by leaving the open page, and then never resolves. */
export const ask = async (url, options = {}) => {
  const answer = await fetch(url, { ...options, headers: { ...headers, ...options.headers } })
  const location = answer.headers.get('console-location')
  if (location) {
    leave(location)
    return new Promise(() => {})
  }
  return new DOMParser().parseFromString(await answer.text(), 'text/html')
}

/** Navigates to an address, and reloads if it is the open page. */
export const leave = (location) => {
  window.onbeforeunload = null
  if (new URL(location, document.baseURI).href === window.location.href) window.location.reload()
  else window.location.assign(location)
}

/** Announces a text to screen readers. */
export const say = (text) => {
  const said = document.getElementById('said')
  if (said) said.textContent = text.replace(/\s+/g, ' ').trim()
}

/** Tells other modules that an element was added or replaced. */
export const announce = (part) => part.dispatchEvent(new CustomEvent('console:shown', { bubbles: true }))
