// Events told as what changed: decoded as Sockudo's own client decodes them, by decoders we did not write. And filters.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { decode as applyVcdiff } from '@ably/vcdiff-decoder'
import { applyDelta as applyFossil } from 'fossil-delta'
import PusherHttp from 'pusher'
import WebSocket from 'ws'
import { APP, FEATURES, PATIENCE_MS, Server, within } from './harness.js'

// Frames of one key that Sockudo's client holds, whatever the server says.
const HELD = 30

let server
let pusher

before(async () => {
  server = await Server.start({
    apps: [{ ...APP, ...FEATURES, subscription_counts: false }],
    tables: { 'pusher.delta': [{ pattern: 'market', conflation_key: 'asset', conflation_keys_max: 3 }] },
  })
  const { id: appId, key, secret } = APP
  const { port } = server
  pusher = new PusherHttp({ appId, key, secret, host: '127.0.0.1', port, useTLS: false, timeout: PATIENCE_MS })
})
after(() => server.close())

class Client {
  static async open() {
    const client = new Client()
    client.socket = new WebSocket(`ws://127.0.0.1:${server.port}/app/${APP.key}?protocol=2`)
    client.frames = []
    client.held = new Map()
    client.base = undefined
    client.conflates = false
    client.deltas = 0
    client.socket.on('message', (bytes) => {
      client.hear(bytes.toString())
      client.socket.emit('heard')
    })
    await within(once(client.socket, 'open'), 'the upgrade')
    await client.until('sockudo:connection_established')
    return client
  }

  say(event, data) {
    this.socket.send(JSON.stringify({ event, data }))
  }

  async until(event, count = 1) {
    const found = () => this.frames.filter((frame) => frame.event === event)
    while (found().length < count) await within(once(this.socket, 'heard'), event)
    return found()
  }

  hear(text) {
    const frame = JSON.parse(text)
    if (frame.event === 'sockudo:delta_cache_sync') {
      this.conflates = true
      this.held.clear()
    } else if (frame.event === 'sockudo:delta') {
      const { delta, seq, base_index, algorithm, conflation_key = '' } = frame.data
      const base = this.conflates
        ? this.held.get(conflation_key).find((it) => it.seq === base_index).text
        : this.base
      const bytes = new Uint8Array(Buffer.from(delta, 'base64'))
      const from = new Uint8Array(Buffer.from(base))
      const made = algorithm === 'fossil' ? applyFossil(from, bytes) : applyVcdiff(bytes, from)
      this.deltas += 1
      const whole = Buffer.from(made).toString()
      this.hold(conflation_key, seq, whole)
      this.frames.push(JSON.parse(whole))
      return
    } else if (frame.__delta_seq !== undefined) {
      const bare = text
        .replace(/,"__delta_seq":\d+/g, '')
        .replace(/"__delta_seq":\d+,/g, '')
        .replace(/,"__conflation_key":"[^"]*"/g, '')
        .replace(/"__conflation_key":"[^"]*",/g, '')
      if (frame.__conflation_key !== undefined) this.conflates = true
      this.hold(frame.__conflation_key ?? '', frame.__delta_seq, bare)
    }
    this.frames.push(frame)
  }

  hold(key, seq, text) {
    this.base = text
    if (!this.held.has(key)) this.held.set(key, [])
    const held = this.held.get(key)
    held.push({ seq, text })
    if (held.length > HELD) held.shift()
  }
}

const NOTE = 'the same for ever: é, "quoted", \\ and 漢字. '.repeat(12)

for (const algorithm of ['fossil', 'xdelta3']) {
  test(`every event arrives as published, told as ${algorithm}`, async () => {
    const client = await Client.open()
    const plain = await Client.open()
    const channel = `prices-${algorithm}`
    client.say('sockudo:subscribe', { channel, delta: algorithm })
    plain.say('sockudo:subscribe', { channel })
    for (const it of [client, plain]) await it.until('sockudo_internal:subscription_succeeded')
    for (let n = 0; n < 40; n++) {
      const name = n % 7 === 3 ? 'other' : 'price'
      await pusher.trigger(channel, name, n % 11 === 5 ? 'small' : { n, price: n * 1.1, note: NOTE, last: -n })
    }
    const events = (it) => it.frames.filter((frame) => frame.channel === channel && !frame.event.includes(':'))
    while (events(plain).length < 40) await within(once(plain.socket, 'heard'), 'an event')
    while (events(client).length < 40) await within(once(client.socket, 'heard'), 'an event')
    const bare = ({ __delta_seq, ...frame }) => frame
    assert.deepEqual(events(client).map(bare), events(plain))
    assert.ok(client.deltas > 20, `${client.deltas}`)
    for (const it of [client, plain]) it.socket.close()
  })
}

test('a conflated channel is told by key, keys that come back included', async () => {
  const client = await Client.open()
  client.say('sockudo:subscribe', { channel: 'market' })
  await client.until('sockudo_internal:subscription_succeeded')
  client.say('sockudo:enable_delta_compression', { algorithms: ['fossil', 'xdelta3'] })
  const [enabled] = await client.until('sockudo:delta_compression_enabled')
  assert.deepEqual(enabled.data, { enabled: true, algorithm: 'fossil' })
  const published = []
  for (let n = 0; n < 60; n++) {
    // Five keys in turns, each for a while, and the server holds three.
    const data = { asset: `A${Math.floor(n / 4) % 5}`, n, note: NOTE }
    published.push(JSON.stringify(data))
    await pusher.trigger('market', 'price', data)
  }
  const heard = await client.until('price', 60)
  assert.deepEqual(heard.map((frame) => frame.data), published)
  assert.ok(client.deltas > 15, `${client.deltas}`)
  client.socket.close()
})

test('a filter lets through what it says', async () => {
  const client = await Client.open()
  client.say('sockudo:subscribe', {
    channel: 'orders',
    filter: { events: ['paid'], expression: { language: 'jmespath', source: 'data.total > `10`' } },
  })
  await client.until('sockudo_internal:subscription_succeeded')
  for (const [name, total] of [['paid', 5], ['made', 50], ['paid', 50]]) {
    await pusher.trigger('orders', name, { total })
  }
  const [frame] = await client.until('paid')
  assert.equal(frame.data, '{"total":50}')
  assert.equal(client.frames.filter((it) => it.channel === 'orders').length, 2)
  client.socket.close()
})
