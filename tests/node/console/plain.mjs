// Without scripts: every form works, by clicks alone.
import { assert, run } from './browser.mjs'

run(async (visit, { root, organization }) => {
  const { page } = visit
  await page.setJavaScriptEnabled(false)
  await visit.signIn(root, `/console/keys?organization_id=${organization}`)
  await visit.to(() => page.click('[data-create]'))
  assert.ok(visit.path().startsWith('/console/keys/new'))
  await page.type('#name', 'Plain')
  await visit.to(() => page.click('form.fields .primary'))
  const token = await page.$eval('#token', (field) => field.value)
  await visit.to(() => page.click('[data-done]'))
  await page.goBack().catch(() => {})
  assert.ok(!(await page.content()).includes(token), 'going back does not show it again')
  await visit.goto(`/console/keys?organization_id=${organization}&q=plai`)
  await visit.to(() => page.click('tbody .title'))
  const key = visit.path().split('/').pop()
  await visit.to(() => page.click('.page-actions a[href$="/edit"]'))
  await page.$eval('#name', (field) => { field.value = '' })
  await page.type('#name', 'Plainer')
  await visit.to(() => page.click('form.fields .primary'))
  assert.ok((await visit.text('.toast')).includes('Changes saved.'))
  await visit.to(() => page.click('.page-actions a[href$="/revoke"]'))
  await visit.to(() => page.click('.danger'))
  assert.ok((await visit.text('.toast')).includes('is revoked'))
  await visit.to(() => page.click('.page-actions a[href$="/delete"]'))
  await page.type('#confirmation', 'Plainer')
  await visit.to(() => page.click('.danger'))
  assert.ok((await visit.text('.toast')).includes('is deleted'))
  await visit.to(() => page.click('.who button'))
  return { key, tokens: [token] }
})
