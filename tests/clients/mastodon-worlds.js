// The two places that Mastodon's clients are tried in, with the same people in both: a server that stands alone, and one
// in the place of Mastodon's own, started as that is, with a Redis and a PostgreSQL of the test's own.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import PusherHttp from 'pusher'
import { APP, PATIENCE_MS, Server, binary, within } from './harness.js'

// How often it is looked whether a server that tells nobody of it has started.
const LOOK_MS = 50
// Debian's `nobody`: PostgreSQL refuses to run as root.
const NOBODY = 65534
const SCHEMA = fileURLToPath(new URL('../data/mastodon.sql', import.meta.url))
const PASSWORD = "a#secret'/?"

// The people of that file, for who has no database.
const row = (user, token, permissions = ['read']) => ({ user: String(user), token, permissions })
const TABLES = {
  'mastodon.tokens': [
    ...['ann', 'bob', 'cyd', 'dee', 'eve', 'fay'].map((name, i) => row(i + 1, `token-${name}`)),
    row(2, 'token-bob-statuses', ['read:statuses']),
    row(2, 'token-bob-notifications', ['read:notifications']),
  ],
  'mastodon.accounts': [
    { id: '1', lists: ['1'] },
    { id: '2', lists: ['2'], blocks: ['3'], mutes: ['7'], domain_blocks: ['bad.example'] },
    { id: '4', languages: ['de', 'fr'] },
    { id: '5', blocks: ['2'] },
  ],
  'mastodon.filters': [
    { account: '2', title: 'Spoilers', context: ['home', 'public'], action: 'warn', keywords: ['spoiler', 'ending'], whole_word: true },
    { account: '6', title: 'Cats', context: ['public'], action: 'hide', keywords: ['cat'], whole_word: false },
  ],
}

const PEOPLE = { 2: 'bob', 3: 'cyd', 7: 'gus@far.example', 8: 'hal@bad.example' }

// A status as Mastodon publishes it.
export function status(id, { author = 6, text = 'hello', language = 'en', ...more } = {}) {
  const acct = PEOPLE[author] ?? 'fay'
  const account = {
    id: String(author),
    username: acct.split('@')[0],
    acct,
    display_name: '',
    locked: false,
    bot: false,
    created_at: '2026-01-01T00:00:00.000Z',
    note: '',
    url: `https://example.com/@${acct}`,
    avatar: 'https://example.com/a.png',
    avatar_static: 'https://example.com/a.png',
    header: 'https://example.com/h.png',
    header_static: 'https://example.com/h.png',
    followers_count: 0,
    following_count: 0,
    statuses_count: 1,
    last_status_at: null,
    emojis: [],
    fields: [],
  }
  return {
    id: String(id),
    created_at: '2026-01-02T03:04:05.678Z',
    in_reply_to_id: null,
    in_reply_to_account_id: null,
    sensitive: false,
    spoiler_text: '',
    visibility: 'public',
    language,
    uri: `https://example.com/users/${acct}/statuses/${id}`,
    url: `https://example.com/@${acct}/${id}`,
    replies_count: 0,
    reblogs_count: 0,
    favourites_count: 0,
    edited_at: null,
    content: `<p>${text}</p>`,
    reblog: null,
    application: null,
    account,
    media_attachments: [],
    mentions: [],
    tags: [],
    emojis: [],
    card: null,
    poll: null,
    ...more,
  }
}

export const notification = (id) => ({ id, type: 'favourite', created_at: '2026-01-02T03:04:05.678Z', account: status(1).account, status: status(1) })

class World {
  get url() {
    return `http://127.0.0.1:${this.server.port}`
  }

  get socketUrl() {
    return `ws://127.0.0.1:${this.server.port}`
  }

  // Peers are not told that they hear a channel: publishes there until `heard`, who passes over these, has one.
  async tuned(heard, ...channels) {
    const until = Date.now() + PATIENCE_MS
    for (const channel of channels) {
      const before = heard.marks
      while (heard.marks === before) {
        if (Date.now() > until) throw new Error(`nothing is heard on ${channel}; ${this.server.text}`)
        await this.publish('delete', MARK, channel)
        await Promise.race([heard.more(), pause(LOOK_MS)])
      }
    }

  }
}

const MARK = '999999'

// What a client hears, in order: events as { stream, event, payload }.
export class Heard {
  constructor() {
    this.events = []
    this.marks = 0
    this.waiting = []
  }

  put(event) {
    if (event.event === 'delete' && String(event.payload) === MARK) this.marks += 1
    else this.events.push(event)
    for (const resolve of this.waiting.splice(0)) resolve()
  }

  more() {
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  // The next event.
  async next() {
    const until = Date.now() + PATIENCE_MS
    while (this.events.length === 0) await within(this.more(), 'an event', until - Date.now())
    return this.events.shift()
  }

  // The next events by their names and ids.
  async ids(count) {
    const ids = []
    while (ids.length < count) {
      const { event, payload } = await this.next()
      ids.push(`${event} ${payload?.id ?? payload}`)
    }
    return ids
  }
}

// A server that stands alone: tokens and accounts in its settings, events by signed requests.
export class Alone extends World {
  static title = 'alone'

  static async start() {
    const world = new Alone()
    world.server = await Server.start({ settings: { 'mastodon.app': APP.id }, apps: [APP], tables: TABLES })
    return world
  }

  async publish(event, payload, ...channels) {
    const { id: appId, key, secret } = APP
    const pusher = new PusherHttp({ appId, key, secret, host: '127.0.0.1', port: this.server.port, useTLS: false })
    const answer = await pusher.post({ path: '/mastodon/events', body: { event, payload, channels } })
    if (answer.status !== 202) throw new Error(`refused: ${answer.status} ${await answer.text()}`)
  }

  close() {
    return this.server.close()
  }
}

// Programs of Debian's that a test starts for itself, in a directory of their own.
class Program {
  constructor(name) {
    this.directory = mkdtempSync(join(tmpdir(), `rm-${name}-`))
    chmodSync(this.directory, 0o755)
    this.owner = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
    if (this.owner.uid) chownSync(this.directory, NOBODY, NOBODY)
  }

  spawn(program, args) {
    const child = spawn(program, args, { cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'], ...this.owner })
    this.text = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (this.text += text))
    this.child = child
    this.exit = once(child, 'exit')
  }

  async up(try_) {
    const until = Date.now() + 3 * PATIENCE_MS
    while (!(await try_())) {
      if (this.child.exitCode !== null || Date.now() > until) throw new Error(`it does not start: ${this.text}`)
      await pause(LOOK_MS)
    }
  }

  async stop(signal) {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
    await within(this.exit, 'the end of a program', 3 * PATIENCE_MS)
  }

  async close(signal) {
    try {
      await this.stop(signal)
    } finally {
      rmSync(this.directory, { recursive: true, force: true })
    }
  }
}

async function freePort() {
  const listener = net.createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address()
  await new Promise((resolve) => listener.close(resolve))
  return port
}

class Redis extends Program {
  static async start() {
    const redis = new Redis('redis')
    redis.port = await freePort()
    await redis.run()
    return redis
  }

  async run() {
    const args = ['--bind', '127.0.0.1', '--port', String(this.port), '--save', '', '--requirepass', PASSWORD]
    this.spawn('redis-server', args)
    await this.up(() => this.ask('PING').then(() => true, () => false))
  }

  // One command, on a connection of its own.
  async ask(...words) {
    const socket = net.connect(this.port, '127.0.0.1')
    try {
      await within(once(socket, 'connect'), 'Redis')
      const command = (words) => `*${words.length}\r\n` + words.map((it) => `$${Buffer.byteLength(it)}\r\n${it}\r\n`).join('')
      socket.write(command(['AUTH', PASSWORD]) + command(words))
      let text = ''
      socket.setEncoding('utf8').on('data', (more) => (text += more))
      while (!/^\+OK\r\n[^]*\r\n$/.test(text)) await within(once(socket, 'data'), 'an answer of Redis')
      return text.slice('+OK\r\n'.length).trim()
    } finally {
      socket.destroy()
    }
  }
}

class Postgres extends Program {
  static async start() {
    const postgres = new Postgres('pg')
    const top = '/usr/lib/postgresql'
    const newest = readdirSync(top).sort((a, b) => b - a).find((it) => existsSync(join(top, it, 'bin/initdb')))
    postgres.programs = join(top, newest, 'bin')
    postgres.port = await freePort()
    const { directory, owner } = postgres
    writeFileSync(join(directory, 'password'), PASSWORD)
    const auth = ['--auth-host=scram-sha-256', '--auth-local=trust', '--username=mastodon', '--pwfile=password']
    const options = ['--pgdata', 'data', '--no-sync', '--encoding=UTF8', '--locale=C', ...auth]
    const made = spawnSync(join(postgres.programs, 'initdb'), options, { cwd: directory, encoding: 'utf8', ...owner })
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`)
    const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'shared_buffers=16MB', 'dynamic_shared_memory_type=mmap']
    const args = ['-D', 'data', '-p', String(postgres.port), '-k', directory, ...settings.flatMap((it) => ['-c', it])]
    postgres.spawn(join(postgres.programs, 'postgres'), args)
    await postgres.up(() => postgres.psql('SELECT 1', 'postgres').status === 0)
    postgres.run('CREATE DATABASE mastodon_production', 'postgres')
    postgres.run(readFileSync(SCHEMA, 'utf8'))
    return postgres
  }

  psql(sql, database = 'mastodon_production') {
    const at = ['-h', this.directory, '-p', String(this.port), '-U', 'mastodon', '-d', database]
    return spawnSync(join(this.programs, 'psql'), ['-XqAt', '-v', 'ON_ERROR_STOP=1', ...at], { input: sql, encoding: 'utf8' })
  }

  run(sql, database) {
    const { status, stdout, stderr } = this.psql(sql, database)
    if (status !== 0) throw new Error(stderr)
    return stdout
  }
}

// `ringmain mastodon`, in a folder as Mastodon's.
class Streaming extends Server {
  constructor(lines) {
    super({})
    writeFileSync(join(this.directory, '.env.production'), lines.join('\n'))
  }

  async run(port) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(RINGMAIN_|DB_|REDIS_|DATABASE)/.test(name)))
    Object.assign(env, { NODE_ENV: 'production', PORT: String(port) })
    const child = spawn(binary(), ['mastodon'], { cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'], env })
    this.child = child
    this.exit = once(child, 'exit')
    this.text = ''
    let ready
    const listening = new Promise((resolve) => (ready = resolve))
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.text += text
        // The words that Mastodon's own tests wait for.
        const found = /Streaming API now listening on 127\.0\.0\.1:(\d+)/.exec(this.text)
        if (found) ready(Number(found[1]))
      })
    }
    const died = this.exit.then(([code, signal]) => {
      throw new Error(`ringmain ended before it listened (${code ?? signal}):\n${this.text}`)
    })
    died.catch(() => {})
    this.port = await within(Promise.race([listening, died]), 'the words that it listens')
  }
}

// A server in the place of Mastodon's own: everything is in its Redis and its PostgreSQL.
export class InPlace extends World {
  static title = "in the place of Mastodon's own"

  static async start() {
    const world = new InPlace()
    ;[world.redis, world.postgres] = await Promise.all([Redis.start(), Postgres.start()])
    world.server = new Streaming([
      '# Mastodon writes such a file.',
      'LOCAL_DOMAIN=example.com',
      'DB_HOST=127.0.0.1',
      `DB_PORT=${world.postgres.port}`,
      `DB_PASS="${PASSWORD}"`,
      'export REDIS_HOST=127.0.0.1',
      `REDIS_PORT=${world.redis.port} # its own`,
      `REDIS_PASSWORD="${PASSWORD}"`,
      'REDIS_DB=0',
    ])
    await world.server.run(0)
    return world
  }

  async publish(event, payload, ...channels) {
    for (const channel of channels) await this.redis.ask('PUBLISH', channel, JSON.stringify({ event, payload }))
  }

  async close() {
    await Promise.allSettled([this.server?.close(), this.redis?.close('SIGKILL'), this.postgres?.close('SIGINT')])
  }
}
