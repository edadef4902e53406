// The real binary, a web site with the official Hypothesis client in it, and a browser that visits it.
//
// The site is what the client needs around it: a page to annotate, the client's own files, its
// sidebar, and as much of the annotation API as it asks for. It keeps no annotations: whatever a
// sidebar shows has come through the socket.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import PusherHttp from 'pusher'

// What one wait may take; only a failing test gets near it. The client's own delay before it
// connects again is two seconds, then four.
export const PATIENCE_MS = 20_000

// The app and the user of development mode.
export const APP = { id: 'app-id', key: 'app-key', secret: 'app-secret' }
export const USER = { userid: 'acct:dev@localhost', token: 'dev-token' }

const CLIENT = dirname(createRequire(import.meta.url).resolve('hypothesis/package.json'))
const QUOTE = 'the quick brown fox'

function binary() {
  if (process.env.BINARY_UNDER_TEST) return process.env.BINARY_UNDER_TEST
  const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL('../../target', import.meta.url))
  const built = ['release', 'debug'].map((profile) => join(target, profile, 'ringmain')).find(existsSync)
  if (!built) throw new Error('no ringmain binary: build it, or name it in BINARY_UNDER_TEST')
  return built
}

function browserProgram() {
  const program = process.env.CHROMIUM ?? '/usr/bin/chromium'
  if (!existsSync(program)) throw new Error(`no browser at ${program}: install chromium, or name it in CHROMIUM`)
  return program
}

export function within(promise, what, ms = PATIENCE_MS) {
  let timer
  const late = new Promise((_, reject) => {
    const error = new Error(`${what} did not come within ${ms} ms`)
    timer = setTimeout(() => reject(error), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// Everything of one kind that happened, in order, and a way to wait for the next of it.
export class Log {
  constructor() {
    this.entries = []
    this.waiting = []
  }

  push(entry) {
    this.entries.push(entry)
    this.waiting = this.waiting.filter(({ where, resolve }) => {
      const found = where(entry)
      if (found) resolve(entry)
      return !found
    })
  }

  // The first entry that `where` accepts, at or after index `from`.
  when(where, what, from = 0) {
    const found = this.entries.slice(from).find(where)
    if (found) return Promise.resolve(found)
    return within(new Promise((resolve) => this.waiting.push({ where, resolve })), what).catch((error) => {
      const heard = this.entries.slice(from).map((entry) => JSON.stringify(entry).slice(0, 160))
      throw new Error(`${error.message}; there were: ${heard.slice(-10).join(' ') || 'none'}`)
    })
  }
}

// The real binary in development mode. It keeps its port through a restart.
export class Server {
  static async start() {
    const server = new Server()
    await server.run(0)
    return server
  }

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'ringmain-hypothesis-'))
  }

  async run(port = this.port) {
    const args = ['serve', '--listen', `127.0.0.1:${port}`, '--data', join(this.directory, 'data')]
    // The variables of whoever runs the tests are none of the tests' settings.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('RINGMAIN_')))
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
    this.pusher = new PusherHttp({
      appId: APP.id,
      key: APP.key,
      secret: APP.secret,
      host: '127.0.0.1',
      port: this.port,
      useTLS: false,
      timeout: PATIENCE_MS,
    })
  }

  // Tells the server one thing that happened; resolves once it is accepted.
  async publish(event) {
    const response = await this.pusher.post({ path: '/hypothesis/events', body: event })
    if (response.status !== 202) throw new Error(`published, and answered ${response.status}`)
  }

  async stop(signal) {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
    await within(this.exit, `the exit after ${signal}`)
  }

  async close() {
    try {
      await this.stop('SIGKILL')
    } finally {
      rmSync(this.directory, { recursive: true, force: true })
    }
  }
}

const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.woff2': 'font/woff2' }

export const WORLD = {
  id: '__world__',
  groupid: 'group:__world__@localhost',
  name: 'Public',
  links: { html: 'http://localhost/groups/__world__/public' },
  organization: null,
  public: true,
  scoped: false,
  scopes: { enforced: false, uri_patterns: [] },
  type: 'open',
}

export class Site {
  static async start(server) {
    const site = new Site(server)
    site.http = http.createServer((request, response) => site.answer(request, response))
    site.http.listen(0, '127.0.0.1')
    await once(site.http, 'listening')
    site.url = `http://127.0.0.1:${site.http.address().port}`
    return site
  }

  constructor(server) {
    this.server = server
    this.groups = [WORLD]
    // Each API request as [method, path, user], and how many there were when the last reader came.
    this.asked = new Log()
    this.askedBefore = 0
  }

  async answer(request, response) {
    const { pathname } = new URL(request.url, this.url)
    const parts = []
    for await (const part of request) parts.push(part)
    const send = (status, type, body) => {
      response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' })
      response.end(body)
    }
    if (pathname.startsWith('/api')) {
      const body = await this.api(request, pathname, Buffer.concat(parts).toString())
      return send(body ? 200 : 404, 'application/json', JSON.stringify(body ?? { status: 'failure' }))
    }
    if (pathname.startsWith('/client/')) {
      const file = join(CLIENT, normalize(decodeURIComponent(pathname.slice('/client'.length))))
      if (!file.startsWith(CLIENT) || !existsSync(file)) return send(404, 'text/plain', '')
      return send(200, TYPES[extname(file)] ?? 'application/octet-stream', readFileSync(file))
    }
    if (pathname === '/sidebar') return send(200, 'text/html', this.sidebar())
    if (pathname.startsWith('/pages/')) return send(200, 'text/html', this.page(pathname.startsWith('/pages/members/')))
    send(404, 'text/plain', '')
  }

  boot(config) {
    return `<script type="application/json" class="js-hypothesis-config">${JSON.stringify({
      assetRoot: `${this.url}/client/`,
      sidebarAppUrl: `${this.url}/sidebar`,
      notebookAppUrl: `${this.url}/sidebar`,
      profileAppUrl: `${this.url}/sidebar`,
      ...config,
    })}</script><script src="${this.url}/client/build/boot.js"></script>`
  }

  // On a members' page the embedding site has logged its user in, and vouches for her to the client.
  page(members) {
    const service = { apiUrl: `${this.url}/api/`, authority: 'localhost', grantToken: 'granted', icon: null }
    const config = { openSidebar: true, ...(members && { services: [service] }) }
    return `<!doctype html><meta charset="utf-8"><title>An article</title>
      <p>Here ${QUOTE} jumps over the lazy dog.</p>${this.boot(config)}`
  }

  sidebar() {
    const config = { apiUrl: `${this.url}/api/`, authDomain: 'localhost', oauthClientId: 'client', rpcAllowedOrigins: [] }
    return `<!doctype html><meta charset="utf-8"><title>Hypothesis</title>
      <hypothesis-app></hypothesis-app>${this.boot(config)}`
  }

  async api(request, path, body) {
    const user = request.headers.authorization === `Bearer ${USER.token}` ? USER.userid : null
    this.asked.push([request.method, path, user])
    const route = (method, end) => ({ method, url: `${this.url}/api/${end}`, desc: '' })
    const link = (end) => `${this.url}/${end}`
    switch (path) {
      case '/api/':
        return {
          links: {
            annotation: {
              create: route('POST', 'annotations'),
              read: route('GET', 'annotations/:id'),
              update: route('PATCH', 'annotations/:id'),
              delete: route('DELETE', 'annotations/:id'),
              flag: route('PUT', 'annotations/:id/flag'),
              hide: route('PUT', 'annotations/:id/hide'),
              unhide: route('DELETE', 'annotations/:id/hide'),
            },
            group: { read: route('GET', 'groups/:id'), member: { delete: route('DELETE', 'groups/:pubid/members/:userid') } },
            groups: { read: route('GET', 'groups') },
            links: route('GET', 'links'),
            profile: {
              read: route('GET', 'profile'),
              update: route('PATCH', 'profile'),
              groups: { read: route('GET', 'profile/groups') },
            },
            search: route('GET', 'search'),
            analytics: { events: { create: route('POST', 'analytics/events') } },
          },
        }
      case '/api/links':
        return {
          'account.settings': link('account'),
          'forgot-password': link('forgot'),
          'groups.new': link('groups/new'),
          help: link('help'),
          'oauth.authorize': link('oauth/authorize'),
          'oauth.revoke': link('oauth/revoke'),
          'search.tag': link('search?q=tag::tag'),
          signup: link('signup'),
          user: link('users/:user'),
          websocket: `ws://127.0.0.1:${this.server.port}/ws`,
        }
      case '/api/token':
        return { access_token: USER.token, refresh_token: 'refresh', token_type: 'Bearer', expires_in: 3600 }
      case '/api/profile':
        // The client opens its socket once it has its profile, and sets its filter when it searches.
        // In this order the filter comes first on a new socket, before `whoami`, whose answer then
        // tells that the server has read it.
        await this.asked.when(([, asked]) => asked === '/api/search', 'the search', this.askedBefore)
        return this.model(user)
      case '/api/groups':
        return [WORLD]
      case '/api/profile/groups':
        return user ? this.groups : []
      case '/api/search':
        return { total: 0, rows: [] }
      case '/api/analytics/events':
        return JSON.parse(body)
    }
    return undefined
  }

  model(userid) {
    const groups = this.groups.map(({ name, id, public: open }) => ({ name, id, public: open }))
    return { userid, authority: 'localhost', groups, features: {}, preferences: {} }
  }

  async close() {
    this.http.closeAllConnections()
    this.http.close()
  }
}

export async function openBrowser() {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update']
  return chromium.launch({
    executablePath: browserProgram(),
    headless: true,
    args: [...args, '--disable-sync', '--no-first-run'],
    timeout: 60_000,
  })
}

// One reader: a browser window on a page of the site, with the sidebar open and its socket heard.
export class Reader {
  static async open(browser, site, path) {
    const reader = new Reader()
    reader.url = `${site.url}${path}`
    reader.context = await browser.newContext({ viewport: { width: 1400, height: 900 } })
    reader.page = await reader.context.newPage()
    reader.page.setDefaultTimeout(PATIENCE_MS)
    reader.sent = new Log()
    reader.heard = new Log()
    reader.said = new Log()
    reader.sockets = []
    reader.page.on('console', (message) => reader.said.push(message.text()))
    reader.page.on('pageerror', (error) => reader.said.push(String(error)))
    reader.page.on('websocket', (socket) => {
      reader.sockets.push(socket.url())
      socket.on('framesent', ({ payload }) => reader.sent.push(JSON.parse(payload)))
      socket.on('framereceived', ({ payload }) => reader.heard.push(JSON.parse(payload)))
    })
    site.askedBefore = site.asked.entries.length
    await reader.page.goto(reader.url)
    await reader.listening()
    reader.sidebar = reader.page.frames().find((frame) => frame.url().startsWith(`${site.url}/sidebar`))
    return reader
  }

  // Resolves when the server has answered the `whoami` of a socket opened after entry `from`.
  listening(from = 0) {
    return this.heard.when(({ type }) => type === 'whoyouare', 'whoyouare', from)
  }

  // The next annotation event at or after entry `from`.
  event(action, id, from = 0) {
    const wanted = ({ type, options, payload }) =>
      type === 'annotation-notification' && options.action === action && payload[0].id === id
    return this.heard.when(wanted, `${action} of ${id}`, from)
  }

  events() {
    const told = this.heard.entries.filter(({ type }) => type === 'annotation-notification')
    return told.map(({ options, payload }) => [options.action, payload[0].id])
  }

  get clientId() {
    return this.sent.entries.find(({ messageType }) => messageType === 'client_id').value
  }

  // What the client shows while it holds updates back for its reader to ask for.
  get notice() {
    return this.sidebar.getByTestId('notification')
  }

  card(text) {
    return this.sidebar.getByTestId('thread-card').filter({ hasText: text })
  }

  async applyUpdates() {
    await this.notice.click()
    await this.notice.waitFor({ state: 'detached' })
  }

  async close() {
    await this.context.close()
  }
}

let annotations = 0

// An annotation as the API renders it, on the words that every page of the site has.
export function annotation(uri, fields = {}) {
  annotations += 1
  const id = fields.id ?? `annotation-${annotations}`
  const user = fields.user ?? 'acct:writer@localhost'
  const now = `2026-01-02T03:04:05.${String(annotations).padStart(6, '0')}+00:00`
  return {
    id,
    created: now,
    updated: now,
    user,
    uri,
    text: 'a note',
    tags: [],
    group: '__world__',
    moderation_status: 'APPROVED',
    permissions: { read: ['group:__world__'], admin: [user], update: [user], delete: [user] },
    target: [{ source: uri, selector: [{ type: 'TextQuoteSelector', exact: QUOTE, prefix: 'Here ', suffix: ' jumps' }] }],
    document: { title: ['An article'] },
    links: { html: `http://localhost/a/${id}`, json: `http://localhost/api/annotations/${id}` },
    actions: [],
    mentions: [],
    user_info: { display_name: 'A Writer' },
    flagged: false,
    hidden: false,
    ...fields,
  }
}

export const PUBLIC = { shared: true, group: '__world__', group_world_readable: true }

export function event(action, note, { visibility = PUBLIC, src_client_id = null } = {}) {
  const { id, uri, group, user } = note
  const body = action === 'delete' ? { id, uri, group, user } : note
  return { kind: 'annotation', action, annotation: body, visibility, src_client_id }
}
