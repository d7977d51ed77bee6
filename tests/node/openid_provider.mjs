// A real OpenID provider on the loopback address. Reads one line of JSON with the audience and the users (as clients, each
// with its claims), and writes {"issuer"} when it listens. Every further line rotates the signing key; a line
// {"redirect_uri"} also registers the console as a client for browsers; a line {"header", "claims"} writes {"token"}, a JWT
// with these that the current key signs; "stop" ends the process.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { SignJWT, exportJWK, generateKeyPair } from 'jose'
import Provider from 'oidc-provider'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const { audience, people } = JSON.parse((await lines.next()).value)
let number = 0
let redirectUri
let sign

const provide = async (issuer) => {
  number += 1
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const kid = `key-${number}`
  const key = { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' }
  sign = ({ header, claims }) => new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid, ...header }).sign(privateKey)
  return new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: ['not a secret'] },
    clients: [...(redirectUri ? [{
      client_id: 'console',
      client_secret: 'secret-of-the-console',
      id_token_signed_response_alg: 'ES256',
      redirect_uris: [redirectUri],
    }] : []), ...people.map(({ id }) => ({
      client_id: id,
      client_secret: 'secret-of-the-test',
      id_token_signed_response_alg: 'ES256',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_post',
    }))],
    claims: { openid: ['sub', 'role', 'organization_id'] },
    findAccount: (context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, ...people.find((person) => person.id === id)?.claims }),
    }),
    ttl: { ClientCredentials: (context, token) => people.find(({ id }) => id === token.clientId).seconds ?? 600 },
    features: {
      devInteractions: { enabled: Boolean(redirectUri) },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (context, resource) => ({
          scope: 'use',
          audience: resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    extraTokenClaims: (context, token) => people.find(({ id }) => id === token.clientId)?.claims,
  })
}

let answer
const server = createServer((request, response) => answer(request, response))
await new Promise((done) => server.listen(0, '127.0.0.1', done))
const issuer = `http://127.0.0.1:${server.address().port}`
answer = (await provide(issuer)).callback()
console.log(JSON.stringify({ issuer, audience }))
for await (const line of lines) {
  if (line === 'stop') break
  const asked = line.startsWith('{') ? JSON.parse(line) : {}
  if (asked.claims) {
    console.log(JSON.stringify({ token: await sign(asked) }))
    continue
  }
  if (asked.redirect_uri) redirectUri = asked.redirect_uri
  answer = (await provide(issuer)).callback()
  console.log(JSON.stringify({ number }))
}
process.exit(0)
