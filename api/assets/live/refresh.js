// An element with data-refresh is fetched again every second until the response has it without the attribute.
import { announce, ask, unattended } from '../parts/sheet.js'

const WAIT_MILLIS = 1000

const refresh = async (part) => {
  const page = document.visibilityState === 'visible' ? await ask(location.href, unattended).catch(() => null) : null
  const found = page?.getElementById(part.id)
  // An element with the focus is not replaced under its reader.
  if (!found || part.contains(document.activeElement)) return watch(part)
  const shown = document.adoptNode(found)
  part.replaceWith(shown)
  announce(shown)
  watch(shown)
}

const watch = (part) => {
  if (part?.hasAttribute('data-refresh')) setTimeout(() => refresh(part), WAIT_MILLIS)
}

for (const part of document.querySelectorAll('[data-refresh]')) watch(part)
