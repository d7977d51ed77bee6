// Checks a message as a receiver does, with the reference library of Standard Webhooks. Reads secret, headers and body as
// JSON from standard input, and writes what the library makes of the message, or false.
import { Webhook } from 'standardwebhooks'

const input = JSON.parse(await new Promise((resolve) => {
  let text = ''
  process.stdin.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
}))
try {
  console.log(JSON.stringify({ verified: new Webhook(input.secret).verify(input.body, input.headers) }))
} catch (error) {
  console.log(JSON.stringify({ verified: false, error: String(error) }))
}
