// A browser as the tests of the console drive it: Debian's Chromium without a window.
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'
import puppeteer from 'puppeteer-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const WIDE = { width: 1280, height: 800 }
const PHONE = { width: 390, height: 844 }
/** No page needs longer for anything. */
const LIMIT_MILLIS = 15000

export { assert }

/** Reads what the test says on standard input. */
export const input = () => JSON.parse(readFileSync(0, 'utf8'))

/** Runs a flow in a new browser, and writes what it tells for the test. */
export const run = async (flow) => {
  const given = input()
  mkdirSync(given.out, { recursive: true })
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-prefers-reduced-motion'],
  })
  const errors = []
  let told
  try {
    const context = browser.defaultBrowserContext()
    await context.overridePermissions(given.base, ['clipboard-read', 'clipboard-write'])
    const page = await browser.newPage()
    page.setDefaultTimeout(LIMIT_MILLIS)
    await page.setViewport(WIDE)
    page.on('pageerror', (error) => errors.push(error.message))
    page.on('console', (message) => {
      // What the policy refuses is told here too; answers that are no success are the flow's own business, and other sites'
      // pages are their own.
      if (!page.url().startsWith(given.base)) return
      if (message.type() === 'error' && !message.text().includes('the server responded')) errors.push(message.text())
    })
    try {
      told = await flow(new Visit(page, given), given)
    } catch (error) {
      await page.screenshot({ path: `${given.out}/failed.png` }).catch(() => {})
      error.message += `\nat ${page.url()}`
      throw error
    }
    assert.deepEqual(errors, [], 'the browser found errors')
  } finally {
    await browser.close()
  }
  process.stdout.write(JSON.stringify(told ?? null))
}

/** What somebody does on the pages. */
export class Visit {
  constructor(page, given) {
    this.page = page
    this.base = given.base
    this.out = given.out
    this.looked = []
  }

  goto(path) {
    return this.page.goto(this.base + path, { waitUntil: 'load' })
  }

  /** Does something that leads to another page, and waits for that page. */
  async to(act) {
    await Promise.all([this.page.waitForNavigation({ waitUntil: 'load' }), act()])
  }

  click(selector) {
    return this.page.locator(selector).setTimeout(LIMIT_MILLIS).click()
  }

  async fill(selector, text) {
    await this.page.locator(selector).fill(text)
  }

  has(selector) {
    return this.page.waitForSelector(selector, { timeout: LIMIT_MILLIS })
  }

  gone(selector) {
    return this.page.waitForSelector(selector, { hidden: true, timeout: LIMIT_MILLIS })
  }

  text(selector) {
    return this.page.$eval(selector, (element) => element.textContent.replace(/\s+/g, ' ').trim())
  }

  async says(selector, words) {
    await this.page.waitForFunction(
      (selector, words) => document.querySelector(selector)?.textContent.replace(/\s+/g, ' ').includes(words),
      { timeout: LIMIT_MILLIS }, selector, words,
    ).catch(async () => assert.fail(`${selector} does not say "${words}" but "${await this.text(selector).catch(() => 'nothing')}"`))
  }

  async open(selector) {
    await this.click(selector)
    await this.has('dialog[open] .sheet')
  }

  path() {
    const url = new URL(this.page.url())
    return url.pathname + url.search
  }

  async signIn(token, to = '') {
    await this.goto(`/console/sign-in${to && `?to=${encodeURIComponent(to)}`}`)
    await this.page.type('#secret', token)
    await this.to(() => this.page.click('.primary'))
  }

  /** Looks at a page or a dialog as everybody may have it: light and dark, wide and on a phone. */
  async look(name) {
    for (const [scheme, view] of [['light', WIDE], ['dark', WIDE], ['light', PHONE]]) {
      const part = view === PHONE ? 'phone' : scheme
      await this.page.emulateMediaFeatures([
        { name: 'prefers-color-scheme', value: scheme }, { name: 'prefers-reduced-motion', value: 'reduce' },
      ])
      await this.page.setViewport(view)
      await this.page.screenshot({ path: `${this.out}/${name}-${part}.png`, fullPage: view === PHONE })
      const violations = await this.violations()
      assert.deepEqual(violations, [], `${name}, ${part}`)
      const overflow = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(overflow <= 0, `${name}, ${part}: wider than the window by ${overflow}`)
    }
    await this.page.emulateMediaFeatures([])
    await this.page.setViewport(WIDE)
    this.looked.push(name)
  }

  async violations() {
    if (!(await this.page.evaluate(() => 'axe' in window))) await this.page.evaluate(axe)
    return this.page.evaluate(async (rules) => {
      const { violations } = await window.axe.run(document, { runOnly: rules, resultTypes: ['violations'] })
      return violations.flatMap((it) => it.nodes.map((node) => `${it.id}: ${node.target.join(' ')}: ${node.failureSummary}`))
    }, RULES)
  }

  /** Looks at every page that the navigation leads to. */
  async lookAtAll(prefix) {
    const paths = await this.page.$$eval('.rows a', (rows) => rows.map((row) => row.getAttribute('href')))
    for (const path of paths) {
      await this.goto(path)
      await this.look(`${prefix}-${path.split('?')[0].split('/').pop()}`)
    }
    return paths.map((path) => path.split('?')[0])
  }

  /** Everything that a page keeps anywhere, where a token must not be any more. */
  everything() {
    return this.page.evaluate(() => {
      const page = [document.documentElement.outerHTML, location.href, history.state,
        ...[...document.querySelectorAll('input, textarea')].map((field) => field.value)]
      // The browser's own page, which says that a form would be sent again, keeps nothing.
      const kept = location.protocol.startsWith('http') ? [document.cookie, { ...localStorage }, { ...sessionStorage }] : []
      return JSON.stringify([page, kept])
    })
  }
}
