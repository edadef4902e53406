// A back end for Web Push, whole: gives the page its VAPID key, registers browsers with Ringmain, publishes. Node 18 or
// newer, no packages. docs/push.md says how to run it.
import { createHash, createHmac } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import http from 'node:http'

const {
  RINGMAIN = 'http://127.0.0.1:6001',
  APP_ID = 'app-id',
  APP_KEY = 'app-key',
  APP_SECRET = 'app-secret',
  PORT = '8080',
  VAPID_SUBJECT = 'mailto:you@example.com',
  VAPID_PUBLIC_KEY,
  VAPID_PRIVATE_KEY,
} = process.env
if (!VAPID_PUBLIC_KEY || !VAPID_PRIVATE_KEY) {
  console.error('no VAPID keys: ringmain push keys > push.env; set -a; . ./push.env; set +a')
  process.exit(2)
}

// A signed request of the server API; `query` goes with a GET or DELETE.
async function ask(method, path, body, query = {}) {
  const text = body === undefined ? '' : JSON.stringify(body)
  const parameters = {
    auth_key: APP_KEY,
    auth_timestamp: Math.floor(Date.now() / 1000),
    auth_version: '1.0',
    ...(text && { body_md5: createHash('md5').update(text).digest('hex') }),
    ...query,
  }
  const pairs = Object.keys(parameters).sort().map((name) => `${name}=${parameters[name]}`)
  const full = `/apps/${APP_ID}/push/${path}`
  const signed = [method, full, pairs.join('&')].join('\n')
  const signature = createHmac('sha256', APP_SECRET).update(signed).digest('hex')
  const answer = await fetch(`${RINGMAIN}${full}?${pairs.join('&')}&auth_signature=${signature}`, {
    method,
    headers: text ? { 'content-type': 'application/json' } : {},
    body: text || undefined,
  })
  const said = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${said}`)
  return said ? JSON.parse(said) : undefined
}

// Who a browser belongs to is known here and nowhere else: from a session, say.
const userOf = () => 'ann'

const routes = {
  'GET /key': async () => ({ key: VAPID_PUBLIC_KEY }),
  'POST /subscribe': async ({ subscription, locale, channel }) => {
    // One endpoint is one device: a name made from it stays the same when the browser comes again.
    const id = createHash('sha256').update(subscription.endpoint).digest('hex').slice(0, 32)
    await ask('POST', 'deviceRegistrations', {
      id,
      clientId: userOf(),
      platform: 'browser',
      formFactor: 'desktop',
      locale,
      push: { recipient: { transportType: 'web', endpoint: subscription.endpoint, ...subscription.keys } },
    })
    return ask('POST', 'channelSubscriptions', { deviceId: id, channel })
  },
  'POST /send': async ({ channel, title, body }) =>
    ask('POST', 'publish', {
      recipients: [{ type: 'channel', channel }],
      payload: { title, body, data: { url: '/' } },
      sync: true,
    }),
}
const files = {
  'GET /': ['index.html', 'text/html'],
  'GET /sw.js': ['sw.js', 'text/javascript'],
}

// The credentials, before anything is sent. They are kept sealed; giving the same again changes nothing.
await ask('POST', 'credentials/webpush', {
  publicKey: VAPID_PUBLIC_KEY,
  privateKey: VAPID_PRIVATE_KEY,
  subject: VAPID_SUBJECT,
})
const server = http.createServer(async (request, response) => {
  const name = `${request.method} ${request.url}`
  try {
    if (files[name]) {
      const [file, type] = files[name]
      const bytes = await readFile(new URL(file, import.meta.url))
      return response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(bytes)
    }
    if (!routes[name]) return response.writeHead(404).end()
    let text = ''
    for await (const part of request) text += part
    const answer = await routes[name](text ? JSON.parse(text) : {})
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  } catch (error) {
    console.error(error.message)
    response.writeHead(502, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: error.message }))
  }
})
server.listen(Number(PORT), '127.0.0.1', () => console.log(`open http://localhost:${server.address().port}/`))
