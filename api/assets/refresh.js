// A part of a page marked with data-refresh changes by itself: it is asked for again until it is so marked no more.
import { announce, ask } from './sheet.js'

const WAIT_MILLIS = 1000

const refresh = async (part) => {
  const page = document.visibilityState === 'visible' ? await ask(location.href).catch(() => null) : null
  const found = page?.getElementById(part.id)
  // Whoever reads there is not disturbed.
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
