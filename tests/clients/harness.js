// Starts the real binary, a back end with an auth endpoint, and stock clients; stops them all.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import PusherJs from 'pusher-js'
import PusherHttp from 'pusher'
import WebSocket from 'ws'

// What one wait may take; only a failing test gets near it.
export const PATIENCE_MS = 10_000

export const APP = { id: '1001', key: 'first-key', secret: 'first-secret' }
export const FEATURES = {
  client_events: true,
  user_authentication: true,
  watchlist: true,
  subscription_counts: true,
}
const MASTER_KEY = Buffer.alloc(32, 7).toString('base64')

export function binary() {
  if (process.env.BINARY_UNDER_TEST) return process.env.BINARY_UNDER_TEST
  const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL('../../target', import.meta.url))
  const built = ['release', 'debug'].map((profile) => join(target, profile, 'ringmain')).find(existsSync)
  if (!built) throw new Error('no ringmain binary: build it, or name it in BINARY_UNDER_TEST')
  return built
}

const toml = (value) => JSON.stringify(value)

// A configuration file: `settings` by their dotted keys, then one table per app and per row of `tables`.
function configuration({ settings = {}, apps = [{ ...APP, ...FEATURES }], tables = {} }) {
  const pairs = (table) => Object.entries(table).map(([key, value]) => `${key} = ${toml(value)}`)
  const lines = pairs(settings)
  for (const [name, rows] of Object.entries({ apps, ...tables })) {
    for (const row of rows) lines.push('', `[[${name}]]`, ...pairs(row))
  }
  return lines.join('\n') + '\n'
}

// The real binary. `port` is 0 for the first start and known from then on.
export class Server {
  static async start(options = {}) {
    const server = new Server(options)
    await server.run(0)
    return server
  }

  constructor(options) {
    this.directory = mkdtempSync(join(tmpdir(), 'ringmain-clients-'))
    this.file = join(this.directory, 'ringmain.toml')
    this.text = ''
    writeFileSync(this.file, configuration(options))
  }

  // Listens on `port`; resolves once the banner has named the address.
  async run(port) {
    const directory = join(this.directory, 'data')
    // The variables of whoever runs the tests are none of the tests' settings.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('RINGMAIN_')))
    const args = ['serve', '--config', this.file, '--listen', `127.0.0.1:${port}`, '--data', directory]
    const child = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'pipe'], env })
    this.child = child
    this.exit = once(child, 'exit')
    this.text = ''
    let ready
    const listening = new Promise((resolve) => (ready = resolve))
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.text += text
        const found = /127\.0\.0\.1:([1-9]\d*)\b/.exec(this.text)
        if (found) ready(Number(found[1]))
      })
    }
    const died = this.exit.then(([code, signal]) => {
      throw new Error(`ringmain ended before it listened (${code ?? signal}):\n${this.text}`)
    })
    died.catch(() => {})
    this.port = await within(Promise.race([listening, died]), 'the banner')
  }

  // Resolves to the exit code (or the signal that ended it).
  async stop(signal = 'SIGTERM', ms = PATIENCE_MS) {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
    const [code, by] = await within(this.exit, `the exit after ${signal}`, ms)
    return code ?? by
  }

  async close() {
    try {
      await this.stop('SIGKILL')
    } finally {
      rmSync(this.directory, { recursive: true, force: true })
    }
  }
}

export function within(promise, what, ms = PATIENCE_MS) {
  let timer
  const late = new Promise((_, reject) => {
    const error = new Error(`${what} did not come within ${ms} ms`)
    timer = setTimeout(() => reject(error), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// The next `event` that `target` (a pusher-js client, channel, connection, user ...) emits and
// `where` accepts. Arm it before the act that causes the event.
export function next(target, event, where = () => true, ms = PATIENCE_MS) {
  let listener
  const found = new Promise((resolve) => {
    listener = (value, metadata) => {
      if (where(value, metadata)) resolve({ data: value, metadata })
    }
    target.bind(event, listener)
  })
  return within(found, event, ms).finally(() => target.unbind(event, listener))
}

// Everything a channel says, in order, as [event, data] pairs.
export function record(channel) {
  const heard = []
  channel.bind_global((event, data) => heard.push([event, data]))
  return heard
}

export const codeOf = (error) => error?.data?.code ?? error?.error?.data?.code

export function nextError(pusher, code) {
  return next(pusher.connection, 'error', (error) => codeOf(error) === code)
}

// A web application beside the server: it signs for its users and publishes.
export class Backend {
  static async start(server, app = APP) {
    const backend = new Backend(server, app)
    backend.http = http.createServer((request, response) => backend.answer(request, response))
    backend.http.listen(0, '127.0.0.1')
    await once(backend.http, 'listening')
    backend.url = `http://127.0.0.1:${backend.http.address().port}`
    return backend
  }

  constructor(server, app) {
    this.server = server
    this.app = app
    this.clients = []
    this.pusher = this.publisher()
  }

  publisher(options = {}) {
    return new PusherHttp({
      appId: this.app.id,
      key: this.app.key,
      secret: this.app.secret,
      host: '127.0.0.1',
      port: this.server.port,
      useTLS: false,
      encryptionMasterKeyBase64: MASTER_KEY,
      timeout: PATIENCE_MS,
      ...options,
    })
  }

  // Who asks stands in a header here, where a web application would look at its session cookie.
  async answer(request, response) {
    const parts = []
    for await (const part of request) parts.push(part)
    const form = new URLSearchParams(Buffer.concat(parts).toString())
    const user = JSON.parse(request.headers['x-user'] ?? 'null')
    let answer
    if (request.url === '/user-auth') {
      answer = user && this.pusher.authenticateUser(form.get('socket_id'), user)
    } else if (user?.denied !== true) {
      const channel = form.get('channel_name')
      const member = channel.startsWith('presence-')
        ? { user_id: user?.id, user_info: user?.user_info }
        : undefined
      answer = this.pusher.authorizeChannel(form.get('socket_id'), channel, member)
    }
    if (user?.forged && answer) answer.auth = answer.auth.replace(/.$/, (hex) => (hex === '0' ? '1' : '0'))
    response.writeHead(answer ? 200 : 403, { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer ?? { error: 'denied' }))
  }

  // Options that lead a stock client to our server and this back end.
  options(user) {
    const headers = { 'x-user': JSON.stringify(user ?? null) }
    return {
      cluster: 'local',
      wsHost: '127.0.0.1',
      wsPort: this.server.port,
      forceTLS: false,
      enabledTransports: ['ws'],
      disableStats: true,
      channelAuthorization: { endpoint: `${this.url}/auth`, transport: 'ajax', headers },
      userAuthentication: { endpoint: `${this.url}/user-auth`, transport: 'ajax', headers },
    }
  }

  client(user, options = {}, key = this.app.key) {
    const client = new PusherJs(key, { ...this.options(user), ...options })
    // Errors are looked at where a test expects them; an unheard one must not end the run.
    client.connection.bind('error', () => {})
    this.clients.push(client)
    return client
  }

  async connected(user, options) {
    const client = this.client(user, options)
    await next(client.connection, 'connected')
    return client
  }

  async close() {
    for (const client of this.clients) client.disconnect()
    this.http.closeAllConnections()
    this.http.close()
  }
}

export async function subscribed(client, name) {
  const channel = client.subscribe(name)
  const { data } = await next(channel, 'pusher:subscription_succeeded')
  return { channel, data }
}

// A bare WebSocket that speaks the protocol by hand, for what the stock client hides.
export class Raw {
  static async open(server, { key = APP.key, path, headers = {}, deflate = false } = {}) {
    const url = `ws://127.0.0.1:${server.port}${path ?? `/app/${key}?protocol=7&client=raw&version=1`}`
    const raw = new Raw()
    raw.socket = new WebSocket(url, { headers, perMessageDeflate: deflate })
    raw.messages = []
    raw.waiting = []
    raw.closed = new Promise((resolve) => {
      raw.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    raw.socket.on('message', (bytes, binary) => {
      raw.messages.push({ ...JSON.parse(bytes), binary })
      raw.look()
    })
    raw.socket.on('error', () => {})
    await within(Promise.race([once(raw.socket, 'open'), raw.closed]), 'the upgrade')
    return raw
  }

  look() {
    this.waiting = this.waiting.filter(({ where, resolve }) => {
      const at = this.messages.findIndex(where)
      if (at >= 0) resolve(this.messages.splice(at, 1)[0])
      return at < 0
    })
  }

  next(event, where = () => true) {
    const found = new Promise((resolve) => {
      this.waiting.push({ where: (message) => message.event === event && where(message), resolve })
    })
    this.look()
    return within(found, event).catch((error) => {
      const heard = this.messages.map((message) => JSON.stringify(message).slice(0, 100)).slice(-10)
      throw new Error(`${error.message}; heard last: ${heard.join(' ')}`)
    })
  }

  send(event, data, channel) {
    this.socket.send(JSON.stringify({ event, data, channel }))
  }

  async greet() {
    const { data } = await this.next('pusher:connection_established')
    return JSON.parse(data)
  }

  ended() {
    return within(this.closed, 'the close')
  }
}
