// Signing in with an OpenID provider continues to the requested page.
import { assert, run } from './browser.mjs'

run(async (visit, { base, issuer }) => {
  const { page } = visit
  const signIn = async (person) => {
    await visit.to(() => visit.click(`a[href^="/console/openid"]`))
    assert.ok(page.url().startsWith(issuer), page.url())
    await visit.fill('[name=login]', person)
    await visit.fill('[name=password]', 'any')
    await visit.to(() => visit.click('[type=submit]'))
    // The provider asks for consent.
    await visit.to(() => visit.click('[type=submit]'))
  }
  await visit.goto('/console/keys?q=none')
  await visit.look('sign-in-openid')
  await signIn('olga')
  await page.waitForFunction((base) => location.href === `${base}/console/keys?q=none`, {}, base)
  await visit.says('.who', 'olga')
  await visit.goto('/console/keys')
  await visit.open('[data-create]')
  await visit.click('dialog .button.primary')
  await visit.has('dialog [data-token]')
  const token = await page.$eval('#token', (field) => field.value)
  await visit.click('button[data-copy=token]')
  await visit.to(() => visit.click('[data-done]'))
  await visit.to(() => visit.click('tbody .title'))
  const key = visit.path().split('/').pop()
  await visit.to(() => visit.click('.who button'))
  assert.equal(visit.path(), '/console/sign-in')
  // A user of the provider who has no role here.
  await page.deleteCookie(...(await page.cookies(issuer)))
  await signIn('stray')
  await visit.says('.sheet', 'you have no role in an organization')
  return { key, tokens: [token] }
})
