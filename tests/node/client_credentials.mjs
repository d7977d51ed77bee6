// Obtains an access token with published libraries: openid-client finds the token endpoint by discovery (RFC 8414) and
// requests a token; jose verifies it with the keys from the metadata. Reads its parameters as JSON from standard input,
// and writes the token, its claims and the introspection as JSON.
import { createRemoteJWKSet, jwtVerify } from 'jose'
import * as oauth from 'openid-client'

const input = JSON.parse(await new Promise((resolve) => {
  let text = ''
  process.stdin.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
}))
const methods = { basic: oauth.ClientSecretBasic, post: oauth.ClientSecretPost }
const authentication = methods[input.method](input.client_secret)
try {
  const configuration = await oauth.discovery(new URL(input.issuer), input.client_id, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [oauth.allowInsecureRequests],
  })
  const granted = await oauth.clientCredentialsGrant(configuration, input.parameters)
  const metadata = configuration.serverMetadata()
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri))
  const checked = await jwtVerify(granted.access_token, keys, {
    issuer: metadata.issuer,
    audience: input.parameters.audience ?? metadata.issuer,
    typ: 'at+jwt',
    algorithms: metadata.access_token_signing_alg_values_supported,
  })
  const introspection = input.introspect ? await oauth.tokenIntrospection(configuration, granted.access_token) : null
  console.log(JSON.stringify({ granted, header: checked.protectedHeader, claims: checked.payload, introspection }))
} catch (error) {
  console.log(JSON.stringify({ error: error.error ?? error.code ?? String(error), status: error.status }))
}
