// Takes the pictures of docs/console.md with an example organization. See tests/pictures.sh.
import { mkdirSync } from 'node:fs'
import puppeteer from 'puppeteer-core'

const [base, out] = process.argv.slice(2)
const root = process.env.ROOT_KEY
mkdirSync(out, { recursive: true })

const call = async (method, path, body) => {
  const answer = await fetch(base + path, {
    method, headers: { authorization: `Bearer ${root}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`)
  return answer.status === 204 ? null : answer.json()
}
const create = (more) => call('POST', '/v1/keys', { organization_id: 'acme', environment: 'production', ...more })

await call('POST', '/v1/organizations', { id: 'acme', kind: 'paid', name: 'Acme' })
const api = await call('POST', '/v1/apis', { name: 'Orders', audience: 'https://orders.example', scopes: ['read:orders', 'write:orders', 'read:invoices'] })
await create({ name: 'Warehouse sync', expires_in: 'never', description: 'Reads stock every five minutes' })
await create({ name: 'Staging checks', environment: 'preview', expires_in: 'two_weeks' })
await create({ name: 'Partner import', api_id: api.id, scopes: ['write:orders'], expires_in: 'six_months' })
const nightly = await create({ name: 'Nightly report', description: 'Sums up the day for finance', expires_in: 'one_year' })
const laptop = await create({ name: 'Ada’s laptop', user_id: 'ada@acme.example', expires_in: 'one_month' })
const billing = await create({ name: 'Billing', api_id: api.id, scopes: ['read:orders', 'read:invoices'], expires_in: 'three_months', description: 'Charges cards at the end of each month' })
for (let n = 0; n < 60; n += 1) {
  await call('POST', '/v1/keys/verify', { token: billing.token, ...(n % 8 === 0 && { environment: 'preview' }) })
}
for (let n = 0; n < 23; n += 1) await call('POST', '/v1/keys/verify', { token: nightly.token })
await call('POST', '/v1/keys/verify', { token: 'kl_live_guessed' })
await call('PATCH', `/v1/keys/${billing.key.id}`, { name: 'Billing service' })
await call('POST', `/v1/keys/${billing.key.id}/rotate`, { overlap_seconds: 86400 })
await call('POST', '/v1/keys/verify', { token: laptop.token })
await call('POST', `/v1/keys/${laptop.key.id}/revoke`, { reason: 'key_compromise', note: 'Found in a public repository' })
for (let n = 0; n < 4; n += 1) await call('POST', '/v1/keys/verify', { token: laptop.token })
const { url: link } = await call('POST', '/v1/portal-sessions', { organization_id: 'acme', role: 'member', user_id: 'ada@acme.example' })

const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] })
const page = await browser.newPage()
await page.setViewport({ width: 1280, height: 800 })
const picture = (name) => page.screenshot({ path: `${out}/${name}.png`, optimizeForSpeed: false })
const scheme = (value) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }, { name: 'prefers-reduced-motion', value: 'reduce' }])

await scheme('light')
await page.goto(`${base}/console/sign-in?to=${encodeURIComponent('/console/keys?organization_id=acme')}`)
await page.type('#secret', root)
await Promise.all([page.waitForNavigation(), page.click('.primary')])
await picture('keys')
await page.click('[data-create]')
await page.waitForSelector('dialog[open] #name')
await page.type('dialog #name', 'Reports')
await picture('create')
await page.click('dialog .button.primary')
await page.waitForSelector('dialog [data-token]')
// Secret scanners would report a token in a picture as a leak.
await page.evaluate(() => {
  const shown = document.getElementById('token')
  const masked = `${shown.value.slice(0, 16)}${'•'.repeat(24)}`
  document.getElementById('try').textContent = document.getElementById('try').textContent.replace(shown.value, masked)
  shown.value = masked
})
await picture('token')
await page.click('button[data-copy=token]')
await Promise.all([page.waitForNavigation(), page.click('[data-done]')])
await page.goto(`${base}/console/overview`)
await picture('overview')
await page.goto(`${base}/console/audit`)
await page.click('#verification button')
await page.waitForSelector('#verification .callout.good')
await page.reload()
await page.click('.timeline > li:nth-child(3) summary')
await picture('audit')
await page.goto(`${base}/console/test`)
await page.type('#token', laptop.token)
await Promise.all([page.waitForNavigation(), page.click('main .primary')])
await picture('test')
await scheme('dark')
await page.goto(`${base}/console/keys/${billing.key.id}`)
await picture('key')
// A member who signed in with a link, on a phone.
await scheme('light')
const phone = await (await browser.createBrowserContext()).newPage()
await phone.setViewport({ width: 390, height: 720, deviceScaleFactor: 2 })
await phone.goto(link)
await Promise.all([phone.waitForNavigation(), phone.click('#continue')])
await phone.goto(`${base}/console/keys/${laptop.key.id}`)
await phone.screenshot({ path: `${out}/member.png` })
await browser.close()
