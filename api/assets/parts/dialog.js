// Links with data-dialog open their page's sheet in a dialog. A form in it is submitted by script; the
// response is another sheet or a redirect.
import { announce, ask, leave } from './sheet.js'

let busy = false

const open = async (url) => {
  if (busy) return
  busy = true
  const link = document.activeElement
  // A menu item disappears when its menu closes, so the focus returns to the menu's button.
  const opener = link.closest('details.popover')?.querySelector('summary') ?? link
  try {
    const page = await ask(url)
    const sheet = page.querySelector('.sheet')
    if (!sheet) return leave(url)
    const dialog = document.createElement('dialog')
    dialog.setAttribute('aria-labelledby', 'sheet-title')
    show(dialog, sheet)
    document.body.append(dialog)
    dialog.showModal()
    focusFirst(dialog)
    dialog.addEventListener('close', () => {
      dialog.remove()
      if (opener?.isConnected) opener.focus()
    })
    dialog.addEventListener('cancel', (event) => {
      if (!mayClose(dialog)) event.preventDefault()
    })
    dialog.addEventListener('submit', (event) => submit(event, dialog))
    dialog.addEventListener('click', (event) => click(event, dialog))
  } catch {
    leave(url)
  } finally {
    busy = false
  }
}

const show = (dialog, sheet) => {
  const close = document.createElement('button')
  close.type = 'button'
  close.className = 'button quiet icon-only dialog-close'
  close.setAttribute('aria-label', 'Close')
  close.dataset.close = ''
  close.textContent = '✕'
  dialog.replaceChildren(document.adoptNode(sheet), close)
  announce(sheet)
}

const focusFirst = (dialog) => {
  const first = dialog.querySelector('[aria-invalid="true"], [autofocus]')
    ?? dialog.querySelector('input:not([type=hidden]), select, textarea, .actions a, .actions button')
  first?.focus()
}

/** Lets token.js object, because an uncopied secret must not be lost by accident. */
const mayClose = (dialog) => dialog.dispatchEvent(new CustomEvent('console:leaving', { cancelable: true }))

const click = (event, dialog) => {
  if (event.defaultPrevented) return
  const closer = event.target.closest('[data-close]')
  if (closer) {
    event.preventDefault()
    if (mayClose(dialog)) dialog.close()
    return
  }
  const link = event.target.closest('a[href]')
  if (link && !link.download && !link.target && !mayClose(dialog)) event.preventDefault()
}

const submit = async (event, dialog) => {
  const form = event.target
  if (event.defaultPrevented || form.method !== 'post') return
  event.preventDefault()
  if (busy) return
  busy = true
  const fields = new URLSearchParams(new FormData(form, event.submitter))
  // The form returns to the page under the dialog.
  if ('returns' in form.dataset) fields.set('to', location.pathname + location.search)
  const buttons = [...dialog.querySelectorAll('button')].filter((button) => !button.disabled)
  for (const button of buttons) button.disabled = true
  try {
    const page = await ask(form.action, { method: 'POST', body: fields })
    const sheet = page.querySelector('.sheet')
    if (!sheet) throw new Error('the response has no sheet')
    show(dialog, sheet)
    focusFirst(dialog)
  } catch {
    for (const button of buttons) button.disabled = false
    const said = dialog.querySelector('.sheet > [role=alert]') ?? dialog.querySelector('.sheet').appendChild(document.createElement('p'))
    said.setAttribute('role', 'alert')
    said.className = 'error'
    said.textContent = 'Keyledger could not be reached, so this may or may not have been done. Check before you try again.'
  } finally {
    busy = false
  }
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-dialog]')
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return
  event.preventDefault()
  link.closest('details.popover')?.removeAttribute('open')
  open(link.href)
})
