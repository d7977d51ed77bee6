// People who sign in with links see and do what their role allows.
import { assert, run } from './browser.mjs'

const enter = async (visit, { role, link }, others) => {
  const { page } = visit
  await page.goto(link, { waitUntil: 'load' })
  assert.ok(!page.url().includes('#'), 'the secret is taken out of the address')
  await visit.look(`${role}-link`)
  await visit.to(() => visit.click('#continue'))
  await page.waitForFunction(() => location.pathname.startsWith('/console/'))
  const result = { pages: await visit.lookAtAll(role), tokens: [] }
  await visit.goto('/console/keys')
  await visit.says('.who', role)
  const shows = async (words) => (await visit.text('main')).includes(words)
  assert.equal(await shows('Somebody else'), role !== 'member')

  if (role === 'auditor') {
    assert.equal(await page.$('[data-create]'), null)
    assert.equal(await page.$('.more summary'), null)
    await visit.goto(`/console/keys/${others}`)
    await visit.says('.timeline', 'created it')
    assert.equal(await page.$('.page-actions .button'), null)
    await visit.look('auditor-key')
    const answer = await visit.goto(`/console/keys/new`)
    assert.equal(answer.status(), 403)
  } else {
    await visit.open('[data-create]')
    await visit.fill('dialog #name', `Made by the ${role}`)
    await visit.look(`${role}-create`)
    assert.equal(await page.$('dialog [name=owner]') === null, role === 'member')
    await visit.click('dialog .button.primary')
    await visit.has('dialog [data-token]')
    result.tokens.push(await page.$eval('#token', (field) => field.value))
    await visit.click('button[data-copy=token]')
    await visit.to(() => visit.click('[data-done]'))
    await visit.to(() => visit.click('tbody .title'))
    result.key = visit.path().split('/').pop()
    await visit.look(`${role}-key`)
    await visit.says('.timeline', 'created it')
    assert.equal(await page.$('.timeline a[download]') === null, role === 'member')
    await visit.open('.page-actions a[href$="/revoke"]')
    await visit.to(() => visit.click('dialog .danger'))
    await visit.says('.toast', 'was revoked')
    const answer = await visit.goto(`/console/keys/${others}`)
    assert.equal(answer.status(), role === 'member' ? 404 : 200)
  }
  if (role !== 'auditor') {
    await visit.goto('/console/test')
    await visit.fill('#token', result.tokens[0])
    await visit.to(() => visit.click('.primary'))
    await visit.says('[role=status] code', 'REVOKED')
  }
  // A request forged in the person's own session is refused like the page.
  const forged = await page.evaluate(async (key, own) => {
    const token = document.querySelector('[name=csrf_token]').value
    const send = async (fields) => {
      const answer = await fetch(`/console/keys/${key}/revoke`, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' })
      return answer.status
    }
    return [await send({ reason: 'superseded' }), own ? null : await send({ csrf_token: token })]
  }, others, role === 'admin' || role === 'owner')
  assert.deepEqual(forged, [403, { member: 404, auditor: 403 }[role] ?? null])
  const cookies = await page.evaluate(() => document.cookie)
  assert.equal(cookies, '', 'no script reads the session')
  await visit.to(() => visit.click('.who button'))
  assert.equal(visit.path(), '/console/sign-in')
  return { ...result, looked: visit.looked }
}

run(async (visit, { people, others }) => {
  const results = []
  for (const person of people) results.push(await enter(await visit.somebodyElse(), person, others))
  return results
})
