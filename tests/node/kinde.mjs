// Sends the requests of Kinde's customers through Kinde's published client. Reads the address and the credentials as JSON
// from standard input, and writes the outcome of each step: the answer, or the status and the body of the error.
import { ApiKeys, Apis, getToken, init, validateToken } from '@kinde/management-api-js'

const input = JSON.parse(await new Promise((resolve) => {
  let text = ''
  process.stdin.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
}))
const { domain, org, other_org, free_org } = input
init({ kindeDomain: domain, clientId: input.client_id, clientSecret: input.client_secret })

const steps = {}
const step = async (name, call) => {
  try {
    steps[name] = await call()
  } catch (error) {
    if (error.status === undefined) throw error
    steps[name] = { status: error.status, message: error.message, body: error.body }
  }
  return steps[name]
}

await step('token_is_good', async () => validateToken(await getToken(), `${domain}/api`))

// An API with scopes.
const registered = await step('add_api', () => Apis.addApis({ requestBody: { name: 'Orders', audience: 'https://orders.example' } }))
const apiId = registered.api.id
await step('add_scope', () => Apis.addApiScope({ apiId, requestBody: { key: 'read:orders', description: 'Reads orders' } }))
await step('add_second_scope', () => Apis.addApiScope({ apiId, requestBody: { key: 'write:orders' } }))
await step('add_scope_again', () => Apis.addApiScope({ apiId, requestBody: { key: 'read:orders' } }))
const scopes = await step('scopes', () => Apis.getApiScopes({ apiId }))
await step('scope', () => Apis.getApiScope({ apiId, scopeId: scopes.scopes[0].id }))
await step('apis', () => Apis.getApis({ expand: 'scopes' }))
await step('apis_without_scopes', () => Apis.getApis())
await step('api', () => Apis.getApi({ apiId }))
const scope_ids = [scopes.scopes[0].id]

// Keys of an organization, and of a user.
const ofOrganization = await step('create_for_organization', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'Billing', type: 'organization', api_id: apiId, scope_ids, org_code: org } }))
const ofUser = await step('create_for_user', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'Laptop', type: 'user', api_id: apiId, user_id: 'kp_1', org_code: org } }))
const { id: keyId, key } = ofOrganization.api_key
await step('create_without_type', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'Script', api_id: apiId, scope_ids: ['write:orders'], user_id: 'kp_2', org_code: org } }))
await step('create_elsewhere', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'Elsewhere', type: 'organization', api_id: apiId, org_code: other_org } }))

await step('get_before', () => ApiKeys.getApiKey({ keyId }))
await step('verify', () => ApiKeys.verifyApiKey({ requestBody: { api_key: key } }))
await step('verify_again', () => ApiKeys.verifyApiKey({ requestBody: { api_key: key } }))
await step('verify_user', () => ApiKeys.verifyApiKey({ requestBody: { api_key: ofUser.api_key.key } }))
await step('get_after', () => ApiKeys.getApiKey({ keyId }))

// Lists.
await step('list', () => ApiKeys.getApiKeys())
await step('list_of_organization', () => ApiKeys.getApiKeys({ orgCode: org }))
await step('list_organization_keys', () => ApiKeys.getApiKeys({ keyType: 'organization' }))
await step('list_user_keys', () => ApiKeys.getApiKeys({ keyType: 'user' }))
await step('list_of_user', () => ApiKeys.getApiKeys({ userId: 'kp_2' }))
await step('list_revoked', () => ApiKeys.getApiKeys({ status: 'revoked' }))
await step('list_inactive', () => ApiKeys.getApiKeys({ status: 'inactive' }))
await step('list_bad_page', () => ApiKeys.getApiKeys({ pageSize: 0 }))
await step('list_bad_start', () => ApiKeys.getApiKeys({ startingAfter: 'key_nobody' }))
for (let n = 0; n < 5; n += 1) {
  await ApiKeys.createApiKey({ requestBody: { name: `Page ${n}`, type: 'organization', api_id: apiId, org_code: org } })
}
steps.pages = []
for (let startingAfter; ;) {
  const page = await ApiKeys.getApiKeys({ orgCode: org, pageSize: 3, startingAfter })
  steps.pages.push(page)
  if (!page.has_more) break
  startingAfter = page.api_keys.at(-1).id
}

// Rotation.
const rotated = await step('rotate', () => ApiKeys.rotateApiKey({ keyId }))
await step('verify_old', () => ApiKeys.verifyApiKey({ requestBody: { api_key: key } }))
await step('verify_new', () => ApiKeys.verifyApiKey({ requestBody: { api_key: rotated.api_key.key } }))
await step('get_rotated', () => ApiKeys.getApiKey({ keyId }))

// Deletion.
await step('delete', () => ApiKeys.deleteApiKey({ keyId }))
await step('verify_deleted', () => ApiKeys.verifyApiKey({ requestBody: { api_key: rotated.api_key.key } }))
await step('get_deleted', () => ApiKeys.getApiKey({ keyId }))
await step('rotate_deleted', () => ApiKeys.rotateApiKey({ keyId }))
await step('delete_deleted', () => ApiKeys.deleteApiKey({ keyId }))
await step('list_after', () => ApiKeys.getApiKeys({ orgCode: org, keyType: 'organization', pageSize: 1 }))

// Refused requests.
await step('get_unknown', () => ApiKeys.getApiKey({ keyId: 'api_key_0195ac80a14e8d71f42b98e75d3c61ad' }))
await step('create_nothing', () => ApiKeys.createApiKey({ requestBody: {} }))
await step('create_unknown', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'x', type: 'organization', api_id: apiId, org_code: 'nobody' } }))
await step('create_unknown_scope', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'x', type: 'organization', api_id: apiId, scope_ids: ['none'], org_code: org } }))
await step('create_environment', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'x', type: 'environment', api_id: apiId, org_code: org } }))
await step('create_free', () =>
  ApiKeys.createApiKey({ requestBody: { name: 'x', type: 'organization', api_id: apiId, org_code: free_org } }))
await step('verify_garbage', () => ApiKeys.verifyApiKey({ requestBody: { api_key: 'garbage' } }))
await step('verify_nothing', () => ApiKeys.verifyApiKey({ requestBody: {} }))
await step('no_such_call', () => Apis.updateApiScope({ apiId, scopeId: 'read:orders', requestBody: { description: 'x' } }))
await step('delete_scope', () => Apis.deleteApiScope({ apiId, scopeId: 'write:orders' }))
await step('scopes_after', () => Apis.getApiScopes({ apiId }))
await step('delete_api', () => Apis.deleteApi({ apiId }))
await step('api_after', () => Apis.getApi({ apiId }))

// A caller that may only read, and one with a wrong secret.
for (const [name, client] of [['reader', input.reader], ['stranger', { client_id: input.client_id, client_secret: 'wrong' }]]) {
  init({ kindeDomain: domain, clientId: client.client_id, clientSecret: client.client_secret, token: '' })
  await step(`${name}_list`, () => ApiKeys.getApiKeys())
  await step(`${name}_delete`, () => ApiKeys.deleteApiKey({ keyId: ofUser.api_key.id }))
  await step(`${name}_verify`, () => ApiKeys.verifyApiKey({ requestBody: { api_key: key } }))
}
console.log(JSON.stringify(steps))
