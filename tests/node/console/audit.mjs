// The audit log stays open while others work.
import { assert, run } from './browser.mjs'

await run(async (visit, given) => {
  const create = async (name) => {
    const answer = await fetch(`${given.base}/v1/keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${given.root}`, 'content-type': 'application/json' },
      body: JSON.stringify({ organization_id: given.organization, environment: 'preview', name }),
    })
    assert.equal(answer.status, 201)
    return (await answer.json()).token
  }
  const tokens = []
  const says = (words) => visit.says('#events', words)
  await visit.signIn(given.root, `/console/audit?organization_id=${given.organization}`)
  await visit.says('[data-follow]', 'Live')

  // New events appear by themselves.
  tokens.push(await create('First of all'))
  await says('created key First of all')
  await visit.has('.is-new')

  // While an event is open, the list does not change and counts the new events.
  await visit.click('#events .raw > summary')
  tokens.push(await create('Second to none'))
  await visit.says('[data-follow]', '1 new event')
  assert.ok(!(await visit.text('#events')).includes('Second to none'))
  await visit.look('audit-log-open')
  await visit.click('[data-pause]')
  await says('created key Second to none')
  await visit.says('[data-follow]', 'Live')

  // While paused, new events are not shown.
  await visit.click('[data-pause]')
  await visit.says('[data-follow]', 'Paused')
  tokens.push(await create('Third time lucky'))
  assert.ok(!(await visit.text('#events')).includes('Third time lucky'))
  await visit.click('[data-pause]')
  await says('created key Third time lucky')

  await visit.click('.more-filters > summary')
  await visit.look('audit-log-filters')
  await visit.fill('#request_id', 'req_unheard_of')
  await visit.to(() => visit.click('.filters .button'))
  await says('No matching events')
  await visit.goto('/console/audit?from=yesterday')
  await visit.says('#from-error', 'must be an RFC 3339 time')
  await visit.look('audit-log-wrong')
  return { tokens }
})
