// Verifies a message with the reference library of Standard Webhooks, as a receiver does. Reads the secret, headers and
// body as JSON from standard input, and writes the message as the library returns it, or false.
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
