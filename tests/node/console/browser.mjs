// The browser of the console's tests: Debian's Chromium, headless.
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'
import puppeteer from 'puppeteer-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const COLOUR_RULES = ['color-contrast', 'link-in-text-block']
const WIDE = { width: 1280, height: 800 }
const PHONE = { width: 390, height: 844 }
/** The time limit of every step. */
const LIMIT_MILLIS = 15000

export { assert }

/** Reads the test's input from standard input. */
export const input = () => JSON.parse(readFileSync(0, 'utf8'))

/** Runs a flow in a new browser and writes its result for the test. */
export const run = async (flow) => {
  const given = input()
  mkdirSync(given.out, { recursive: true })
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-prefers-reduced-motion'],
  })
  const errors = []
  let result
  try {
    const visit = await Visit.begin(browser, given, errors)
    try {
      result = await flow(visit, given)
    } catch (error) {
      const page = (await browser.pages()).at(-1)
      await page.screenshot({ path: `${given.out}/failed.png` }).catch(() => {})
      error.message += `\nat ${page.url()}`
      throw error
    }
    assert.deepEqual(errors, [], 'the browser found errors')
  } finally {
    await browser.close()
  }
  process.stdout.write(JSON.stringify(result ?? null))
}

/** A person's visit to the console. */
export class Visit {
  /** Begins a visit with its own cookies. Pages built like one in `seen` are not checked again. */
  static async begin(browser, given, errors, seen = new Set()) {
    const context = await browser.createBrowserContext()
    await context.overridePermissions(given.base, ['clipboard-read', 'clipboard-write'])
    const page = await context.newPage()
    page.setDefaultTimeout(LIMIT_MILLIS)
    await page.setViewport(WIDE)
    page.on('pageerror', (error) => errors.push(error.message))
    page.on('console', (message) => {
      // Violations of the content security policy arrive here too. Error responses are left to the flow, and
      // pages of other sites are ignored.
      if (!page.url().startsWith(given.base)) return
      if (message.type() === 'error' && !message.text().includes('the server responded')) errors.push(message.text())
    })
    return Object.assign(new Visit(), { browser, given, errors, page, seen, base: given.base, out: given.out, looked: [] })
  }

  /** Begins another person's visit, with its own cookies. */
  somebodyElse() {
    return Visit.begin(this.browser, this.given, this.errors, this.seen)
  }

  goto(path) {
    return this.page.goto(this.base + path, { waitUntil: 'load' })
  }

  /** Performs an action that leads to another page, and waits for that page. */
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

  /** Checks a page or a dialog in light and dark, on desktop and phone. A page that differs from a checked one only in its
   * words is not checked again. */
  async look(name) {
    for (const [scheme, view] of [['light', WIDE], ['dark', WIDE], ['light', PHONE]]) {
      const part = view === PHONE ? 'phone' : scheme
      await this.page.emulateMediaFeatures([
        { name: 'prefers-color-scheme', value: scheme }, { name: 'prefers-reduced-motion', value: 'reduce' },
      ])
      await this.page.setViewport(view)
      if (await this.isNew(part)) {
        await this.page.screenshot({ path: `${this.out}/${name}-${part}.png`, fullPage: view === PHONE })
        // Dark differs in colours only.
        const violations = await this.violations(scheme === 'dark' ? COLOUR_RULES : RULES)
        assert.deepEqual(violations, [], `${name}, ${part}`)
      }
      const overflow = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(overflow <= 0, `${name}, ${part}: wider than the window by ${overflow}`)
      const cutOff = await this.page.$$eval('dialog[open], .sheet', (all) => all.filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.className || it.localName))
      assert.deepEqual(cutOff, [], `${name}, ${part}: what is in it is wider`)
    }
    await this.page.emulateMediaFeatures([])
    await this.page.setViewport(WIDE)
    this.looked.push(name)
  }

  /** Whether the frame, content or dialog of the page has a structure that was not checked before. */
  async isNew(part) {
    const built = await this.page.evaluate(() => {
      const own = ['href', 'id', 'value', 'name', 'for', 'aria-label', 'aria-labelledby', 'aria-describedby', 'title', 'datetime', 'action',
        'form', 'download', 'list', 'd', 'x', 'y', 'width', 'height', 'class']
      const structure = (node) => {
        if (node.nodeType === Node.TEXT_NODE) return node.textContent.trim() && '·'
        if (node.nodeType !== Node.ELEMENT_NODE || node.localName === 'main' || node.localName === 'dialog') return ''
        const tag = `${node.localName}.${[...node.classList].sort().join('.')}`
        const attributes = [...node.attributes].map((it) => (own.includes(it.name) || it.name.startsWith('data-') ? `${it.name}${it.value && '='}` : `${it.name}=${it.value}`))
        const parts = [...node.childNodes].map(structure).filter(Boolean)
        // Equal rows count once.
        return `<${tag} ${attributes.sort().join(' ')}>${parts.filter((it, index) => it !== parts[index - 1]).join('')}</>`
      }
      const parts = [document.body, document.querySelector('main'), ...document.querySelectorAll('dialog')].filter(Boolean)
      return parts.map((it) => [...it.childNodes].map(structure).join(''))
    })
    const unseen = built.map((it) => `${part} ${it}`).filter((it) => !this.seen.has(it))
    unseen.forEach((it) => this.seen.add(it))
    return unseen.length > 0
  }

  async violations(rules) {
    if (!(await this.page.evaluate(() => 'axe' in window))) await this.page.evaluate(axe)
    return this.page.evaluate(async (rules) => {
      const { violations } = await window.axe.run(document, { runOnly: rules, resultTypes: ['violations'] })
      return violations.flatMap((it) => it.nodes.map((node) => `${it.id}: ${node.target.join(' ')}: ${node.failureSummary}`))
    }, rules)
  }

  /** Tabs through a page from start to end: every focused element is visible, uncovered, and has a focus ring. */
  async tabThrough(name) {
    const { page } = this
    await page.evaluate(() => {
      document.activeElement.blur()
      scrollTo(0, 0)
    })
    const seen = new Set()
    for (;;) {
      await page.keyboard.press('Tab')
      const found = await page.evaluate(() => {
        const it = document.activeElement
        if (it === document.body) return null
        const { left, right, top, bottom } = it.getBoundingClientRect()
        const shown = it.matches('input[type=checkbox], input[type=radio]') ? it.closest('label') ?? it : it
        const [x, y] = [(left + right) / 2, (top + bottom) / 2]
        const at = document.elementFromPoint(x, y)
        const style = getComputedStyle(shown)
        const words = `${it.tagName} ${it.getAttribute('aria-label') ?? it.textContent.trim().slice(0, 40)} ${it.getAttribute('href') ?? it.name ?? ''}`
        return { words, path: [...document.querySelectorAll('*')].indexOf(it), hidden: !at || !(shown.contains(at) || at.contains(shown)),
          bare: style.outlineStyle === 'none' && !shown.matches(':has(:focus-visible)') }
      })
      if (!found || seen.has(found.path)) break
      seen.add(found.path)
      assert.ok(!found.hidden, `${name}: the focus is hidden on ${found.words}`)
      assert.ok(!found.bare, `${name}: the focus does not show on ${found.words}`)
    }
    assert.ok(seen.size > 6, `${name}: only ${seen.size} things have the focus`)
  }

  /** Checks every page of the navigation. */
  async lookAtAll(prefix) {
    const paths = await this.page.$$eval('.rows a', (rows) => rows.map((row) => row.getAttribute('href')))
    for (const path of paths) {
      await this.goto(path)
      await this.look(`${prefix}-${path.split('?')[0].split('/').pop()}`)
    }
    return paths.map((path) => path.split('?')[0])
  }

  /** Everything that a page keeps, where a token must no longer be. */
  everything() {
    return this.page.evaluate(() => {
      const page = [document.documentElement.outerHTML, location.href, history.state,
        ...[...document.querySelectorAll('input, textarea')].map((field) => field.value)]
      // The browser's own page that warns of resubmitting a form keeps nothing.
      const kept = location.protocol.startsWith('http') ? [document.cookie, { ...localStorage }, { ...sessionStorage }] : []
      return JSON.stringify([page, kept])
    })
  }
}
