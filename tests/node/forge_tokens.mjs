// Forges tokens from a valid one; all of them must be refused. Reads the valid token and the service's signing key as
// JSON from standard input, and writes the forgeries by name as JSON. `control` is made in the same way and must be
// accepted.
import { createPublicKey, createHmac } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, exportJWK, exportSPKI, generateKeyPair, importPKCS8, SignJWT } from 'jose'

const input = JSON.parse(await new Promise((resolve) => {
  let text = ''
  process.stdin.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
}))
const header = decodeProtectedHeader(input.token)
const claims = decodeJwt(input.token)
const own = await importPKCS8(input.private_key, 'RS256')
const other = await generateKeyPair('RS256', { extractable: true })
const pss = await importPKCS8(input.private_key, 'PS256')
const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const sign = (changes, key = own, headers = {}) =>
  new SignJWT({ ...claims, ...changes }).setProtectedHeader({ ...header, ...headers }).sign(key)
const publicPem = createPublicKey(input.private_key).export({ type: 'spki', format: 'pem' })
const hmac = (secret) => {
  const signed = `${encode({ ...header, alg: 'HS256' })}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
const [head, payload, signature] = input.token.split('.')
const now = Math.floor(Date.now() / 1000)
const { aud, exp, iss, ...bare } = claims
const without = (rest) => new SignJWT(rest).setProtectedHeader(header).sign(own)

console.log(JSON.stringify({
  control: await sign({}),
  expired: await sign({ iat: now - 7200, exp: now - 1 }),
  'tampered payload': `${head}.${encode({ ...claims, scope: 'admin' })}.${signature}`,
  'tampered signature': `${head}.${payload}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
  'no signature': `${head}.${payload}.`,
  'two parts': `${head}.${payload}`,
  'other audience': await sign({ aud: 'https://elsewhere.example' }),
  'no audience': await without({ ...bare, exp, iss }),
  'other issuer': await sign({ iss: 'https://elsewhere.example' }),
  'no issuer': await without({ ...bare, aud, exp }),
  'no expiry': await without({ ...bare, aud, iss }),
  'alg none': `${encode({ ...header, alg: 'none' })}.${payload}.`,
  'alg none with a signature': `${encode({ ...header, alg: 'none' })}.${payload}.${signature}`,
  'HS256 with the public key as PEM': hmac(publicPem),
  'HS256 with the public key as DER': hmac(createPublicKey(input.private_key).export({ type: 'spki', format: 'der' })),
  'PS256 with the same key': await sign({}, pss, { alg: 'PS256' }),
  'another key under the same name': await sign({}, other.privateKey),
  'another key that comes along': await sign({}, other.privateKey, { kid: undefined, jwk: await exportJWK(other.publicKey) }),
  'a key from elsewhere': await sign({}, other.privateKey, { kid: 'elsewhere', jku: 'https://elsewhere.example/jwks.json' }),
  'no key named': await sign({}, own, { kid: undefined }),
  'another type': await sign({}, own, { typ: 'JWT' }),
  'unknown application': await sign({ client_id: 'app_01KAJX7Q5M3J6S2Y9W8V4T1R0P', sub: 'app_01KAJX7Q5M3J6S2Y9W8V4T1R0P' }),
  'another version of the secret': await sign({ secret_version: claims.secret_version + 1 }),
  'a scope that there is not': await sign({ scope: 'everything' }),
}))
