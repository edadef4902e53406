// The HTTP API as the stock server SDK uses it.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Server, next, record, subscribed } from './harness.js'

const json = async (promise) => (await promise).json()
const md5 = (text) => crypto.createHash('md5').update(text).digest('hex')

describe('HTTP API', () => {
  let server, backend
  before(async () => {
    server = await Server.start({
      apps: [{ ...APP, ...FEATURES, event_payload_bytes_max: 5000, event_channels_max: 10, event_batch_max: 10 }],
    })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  // Signs by hand, so that each part can be wrong.
  function signed({ method = 'POST', path = '/events', body = '', change = () => {}, key = APP.key, app = APP.id }) {
    const query = { auth_key: key, auth_timestamp: String(Math.floor(Date.now() / 1000)), auth_version: '1.0' }
    if (method === 'POST') query.body_md5 = md5(body)
    change(query)
    const target = `/apps/${app}${path}`
    const line = Object.keys(query).filter((name) => name !== 'auth_signature').sort()
      .map((name) => `${name}=${query[name]}`).join('&')
    query.auth_signature ??= crypto.createHmac('sha256', APP.secret).update(`${method}\n${target}\n${line}`).digest('hex')
    if (query.auth_signature === '-') delete query.auth_signature
    return fetch(`http://127.0.0.1:${server.port}${target}?${new URLSearchParams(query)}`, {
      method,
      body: method === 'POST' ? body : undefined,
      headers: { 'content-type': 'application/json' },
    })
  }

  const event = JSON.stringify({ name: 'e', channels: ['c'], data: '{}' })

  test('a batch arrives, each event in its channel and in order', async () => {
    const client = await backend.connected()
    const { channel: one } = await subscribed(client, 'batch-1')
    const { channel: two } = await subscribed(client, 'batch-2')
    const heard = [record(one), record(two)]
    const last = next(two, 'z')
    const response = await backend.pusher.triggerBatch([
      { channel: 'batch-1', name: 'a', data: { n: 1 } },
      { channel: 'batch-2', name: 'b', data: 'text' },
      { channel: 'batch-1', name: 'c', data: { n: 2 } },
      { channel: 'batch-2', name: 'z', data: {} },
    ])
    assert.equal(response.status, 200)
    await last
    const fence = next(one, 'fence')
    await backend.pusher.trigger('batch-1', 'fence', {})
    await fence
    const events = (list) => list.filter(([name]) => !name.startsWith('pusher:'))
    assert.deepEqual(events(heard[0]), [['a', { n: 1 }], ['c', { n: 2 }], ['fence', {}]])
    assert.deepEqual(events(heard[1]), [['b', 'text'], ['z', {}]])
  })

  test('the excluded socket does not hear it, the others do', async () => {
    const [a, b] = await Promise.all([backend.connected(), backend.connected()])
    const { channel: own } = await subscribed(a, 'exclude')
    const { channel: other } = await subscribed(b, 'exclude')
    const heard = record(own)
    const got = next(other, 'e')
    await backend.pusher.trigger('exclude', 'e', {}, { socket_id: a.connection.socket_id })
    await got
    const fence = next(own, 'fence')
    await backend.pusher.trigger('exclude', 'fence', {}, { socket_id: '1.1' })
    await fence
    assert.deepEqual(heard.filter(([name]) => name === 'e'), [])
  })

  test('a publish can ask for counts', async () => {
    const clients = await Promise.all(['1', '2', '2'].map((id) => backend.connected({ id })))
    for (const client of clients) await subscribed(client, 'presence-info')
    await subscribed(clients[0], 'info')
    const answer = await json(
      backend.pusher.trigger(['presence-info', 'info'], 'e', {}, { info: 'user_count,subscription_count' }),
    )
    assert.equal(answer.channels['presence-info'].user_count, 2)
    assert.equal(answer.channels['presence-info'].subscription_count, 3)
    assert.equal(answer.channels.info.subscription_count, 1)
    assert.equal('user_count' in answer.channels.info, false)
    const batch = await json(backend.pusher.triggerBatch([
      { channel: 'info', name: 'e', data: {}, info: 'subscription_count' },
      { channel: 'presence-info', name: 'e', data: {}, info: 'user_count' },
    ]))
    assert.equal(batch.batch[0].subscription_count, 1)
    assert.equal(batch.batch[1].user_count, 2)
  })

  test('channels can be listed and asked about', async () => {
    const clients = await Promise.all(['x', 'y', 'y'].map((id) => backend.connected({ id })))
    for (const client of clients) await subscribed(client, 'presence-query')
    await subscribed(clients[0], 'query-plain')
    const all = await json(backend.pusher.get({ path: '/channels' }))
    assert.ok('presence-query' in all.channels && 'query-plain' in all.channels)
    assert.deepEqual(Object.keys(all.channels).filter((name) => name.startsWith('#')), [])
    const some = await json(
      backend.pusher.get({ path: '/channels', params: { filter_by_prefix: 'presence-q', info: 'user_count' } }),
    )
    assert.deepEqual(some.channels, { 'presence-query': { user_count: 2 } })
    const one = await json(
      backend.pusher.get({ path: '/channels/presence-query', params: { info: 'user_count,subscription_count' } }),
    )
    assert.deepEqual([one.occupied, one.user_count, one.subscription_count], [true, 2, 3])
    assert.equal((await json(backend.pusher.get({ path: '/channels/nobody-there' }))).occupied, false)
    const { users } = await json(backend.pusher.get({ path: '/channels/presence-query/users' }))
    assert.deepEqual(users.map(({ id }) => id).sort(), ['x', 'y'])
    for (const request of [
      { path: '/channels/query-plain/users' },
      { path: '/channels/query-plain', params: { info: 'user_count' } },
      { path: '/channels', params: { info: 'user_count' } },
    ]) {
      await assert.rejects(backend.pusher.get(request), { status: 400 })
    }
  })

  test('a channel left by all is listed no more', async () => {
    const client = await backend.connected()
    await subscribed(client, 'vacant-soon')
    client.unsubscribe('vacant-soon')
    await subscribed(client, 'vacant-fence')
    const { channels } = await json(backend.pusher.get({ path: '/channels', params: { filter_by_prefix: 'vacant-' } }))
    assert.deepEqual(Object.keys(channels), ['vacant-fence'])
  })

  test('the cached event of a cache channel can be read', async () => {
    await backend.pusher.trigger('cache-read', 'e', { n: 1 })
    const answer = await json(backend.pusher.get({ path: '/channels/cache-read', params: { info: 'cache' } }))
    assert.equal(typeof answer.cache.data, 'string')
    assert.ok(answer.cache.data.includes('1'))
    assert.ok(answer.cache.ttl > 0)
  })

  test('requests share one connection', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    const sockets = new Set()
    agent.on('free', (socket) => sockets.add(socket.localPort))
    const pusher = backend.publisher({ agent })
    for (let n = 0; n < 20; n += 1) {
      await (await pusher.trigger('keep-alive', 'e', { n })).text()
      await (await pusher.get({ path: '/channels' })).text()
    }
    agent.destroy()
    assert.equal(sockets.size, 1)
  })

  test('what is not signed right is refused', async () => {
    const now = Math.floor(Date.now() / 1000)
    const wrong = await Promise.all([
      signed({ body: event }),
      fetch(`http://127.0.0.1:${server.port}/apps/${APP.id}/events`, { method: 'POST', body: event }),
      signed({ body: event, change: (query) => (query.auth_timestamp = String(now - 700)) }),
      signed({ body: event, change: (query) => (query.auth_timestamp = String(now + 700)) }),
      signed({ body: event, change: (query) => delete query.auth_timestamp }),
      signed({ body: event, change: (query) => (query.body_md5 = md5('other')) }),
      signed({ body: event, change: (query) => delete query.body_md5 }),
      signed({ body: event, change: (query) => (query.auth_signature = '0'.repeat(64)) }),
      signed({ body: event, change: (query) => (query.auth_signature = 'zz') }),
      signed({ body: event, change: (query) => (query.auth_signature = '-') }),
      signed({ body: event, app: '9999' }),
      signed({ method: 'GET', path: '/channels', change: (query) => (query.body_md5 = md5('other')) }),
      // Not needed, and right: some SDKs send it with a GET too.
      signed({ method: 'GET', path: '/channels', change: (query) => (query.body_md5 = md5('')) }),
    ])
    assert.deepEqual(wrong.map(({ status }) => status), [200, 400, ...Array(10).fill(401), 200])
    for (const response of wrong.slice(1, -1)) {
      const body = await response.json()
      assert.equal(typeof body.error, 'string', JSON.stringify(body))
    }
  })

  test('an unknown key and a wrong signature look the same', async () => {
    const [unknown, forged] = await Promise.all([
      signed({ body: event, key: 'no-such-key' }),
      signed({ body: event, change: (query) => (query.auth_signature = '0'.repeat(64)) }),
    ])
    assert.equal(unknown.status, forged.status)
    assert.deepEqual(await unknown.json(), await forged.json())
  })

  test('what is signed right and wrong inside is refused by name', async () => {
    const cases = [
      ['', 400], ['{', 400], ['[]', 400], ['null', 400],
      [JSON.stringify({ channels: ['c'], data: '' }), 400],
      [JSON.stringify({ name: 'e', data: '' }), 400],
      [JSON.stringify({ name: 'e', channels: [], data: '' }), 400],
      [JSON.stringify({ name: 'e', channels: Array.from({ length: 11 }, (_, i) => `c${i}`), data: '' }), 400],
      [JSON.stringify({ name: 'e', channels: ['bad name'], data: '' }), 400],
      [JSON.stringify({ name: 'e', channels: ['x'.repeat(201)], data: '' }), 400],
      [JSON.stringify({ name: 'n'.repeat(201), channels: ['c'], data: '' }), 400],
      [JSON.stringify({ name: 'e', channels: ['c'], data: 'x'.repeat(6000) }), 413],
      [JSON.stringify({ name: 5, channels: ['c'], data: '' }), 400],
    ]
    for (const [body, status] of cases) {
      const response = await signed({ body })
      // The framework of another server answers 422 where a field is missing or of another type.
      const accepted = status === 400 ? [400, 422] : [status]
      assert.ok(accepted.includes(response.status), `${body.slice(0, 80)}: ${response.status}`)
      assert.equal(typeof (await response.json()).error, 'string')
    }
    const batch = JSON.stringify({ batch: Array.from({ length: 11 }, () => ({ name: 'e', channel: 'c', data: '' })) })
    assert.equal((await signed({ path: '/batch_events', body: batch })).status, 400)
  })

  test('no route is 404, another method is 405', async () => {
    const base = `http://127.0.0.1:${server.port}`
    assert.equal((await fetch(`${base}/nowhere`)).status, 404)
    assert.equal((await signed({ method: 'GET', path: '/events' })).status, 405)
  })

  test('the operator sees that it is up', async () => {
    const base = `http://127.0.0.1:${server.port}`
    assert.equal((await fetch(`${base}/up`)).status, 200)
    assert.equal((await fetch(`${base}/ready`)).status, 200)
    assert.equal((await fetch(`${base}/live`)).status, 200)
    const metrics = await (await fetch(`${base}/metrics`)).text()
    assert.match(metrics, /^# TYPE \w+ counter$/m)
    assert.equal(typeof (await (await fetch(`${base}/stats`)).json()), 'object')
  })
})
