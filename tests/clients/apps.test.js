// Several apps, who may connect to them, and limits from the configuration file.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Raw, Server, next, nextError, record, subscribed } from './harness.js'

const SECOND = { id: '1002', key: 'second-key', secret: 'second-secret' }
const HOME = { id: '1003', key: 'home-key', secret: 'home-secret' }
const SMALL = { id: '1004', key: 'small-key', secret: 'small-secret' }
const OFF = { id: '1005', key: 'off-key', secret: 'off-secret' }
const PLAIN = { id: '1006', key: 'plain-key', secret: 'plain-secret' }

describe('apps', () => {
  let server, first, second
  before(async () => {
    server = await Server.start({
      settings: { 'pusher.subscriptions_per_connection_max': 5, 'websocket.message_bytes_max': 4096 },
      apps: [
        { ...APP, ...FEATURES },
        { ...SECOND, ...FEATURES },
        { ...HOME, allowed_origins: ['https://home.example', '*.partner.example'] },
        { ...SMALL, connections_max: 2, channel_name_bytes_max: 20, event_name_bytes_max: 10 },
        { ...OFF, enabled: false },
        { ...PLAIN },
      ],
    })
    first = await Backend.start(server)
    second = await Backend.start(server, SECOND)
  })
  after(async () => {
    await first?.close()
    await second?.close()
    await server?.close()
  })

  test('the same channel name in two apps is two channels', async () => {
    const a = await first.connected({ id: 'a' })
    const b = await second.connected({ id: 'b' })
    const one = await subscribed(a, 'presence-shared')
    const two = await subscribed(b, 'presence-shared')
    assert.deepEqual(Object.keys(two.data.members), ['b'])
    const heard = [record(one.channel), record(two.channel)]
    const mine = next(one.channel, 'mine')
    const theirs = next(two.channel, 'theirs')
    await first.pusher.trigger('presence-shared', 'mine', {})
    await second.pusher.trigger('presence-shared', 'theirs', {})
    await Promise.all([mine, theirs])
    assert.deepEqual(heard.map((list) => list.map(([event]) => event).filter((event) => !event.startsWith('pusher:'))), [
      ['mine'],
      ['theirs'],
    ])
    const { channels } = await (await second.pusher.get({ path: '/channels' })).json()
    assert.deepEqual(Object.keys(channels), ['presence-shared'])
  })

  test("one app's signature opens nothing in another", async () => {
    const raw = await Raw.open(server, { key: SECOND.key })
    const { socket_id } = await raw.greet()
    raw.send('pusher:subscribe', { channel: 'private-x', ...first.pusher.authorizeChannel(socket_id, 'private-x') })
    assert.equal((await raw.next('pusher:error')).data.code, 4009)
    raw.socket.close()
    await assert.rejects(first.publisher({ appId: SECOND.id }).trigger('c', 'e', {}), { status: 401 })
  })

  test('only listed origins connect', async () => {
    const connect = (origin) => Raw.open(server, { key: HOME.key, headers: origin ? { origin } : {} })
    for (const origin of ['https://home.example', 'https://a.partner.example']) {
      const raw = await connect(origin)
      await raw.greet()
      raw.socket.close()
    }
    for (const origin of ['https://evil.example', 'https://home.example.evil.example', 'https://xpartner.example', undefined]) {
      const raw = await connect(origin)
      assert.equal((await raw.next('pusher:error')).data.code, 4009, origin)
      assert.equal((await raw.ended()).code, 4009, origin)
    }
  })

  test('a disabled app can do nothing', async () => {
    const raw = await Raw.open(server, { key: OFF.key })
    assert.equal((await raw.next('pusher:error')).data.code, 4003)
    assert.equal((await raw.ended()).code, 4003)
    const off = await Backend.start(server, OFF)
    await assert.rejects(off.pusher.trigger('c', 'e', {}), { status: 403 })
    await off.close()
  })

  test("an app's connections are counted, and freed when they end", async () => {
    const open = () => Raw.open(server, { key: SMALL.key })
    const two = [await open(), await open()]
    await Promise.all(two.map((raw) => raw.greet()))
    const third = await open()
    assert.equal((await third.next('pusher:error')).data.code, 4004)
    assert.equal((await third.ended()).code, 4004)
    two[0].socket.close()
    await two[0].ended()
    const again = await open()
    await again.greet()
    two[1].socket.close()
    again.socket.close()
    await Promise.all([two[1].ended(), again.ended()])
  })

  test('name limits are the app\'s own', async () => {
    const raw = await Raw.open(server, { key: SMALL.key })
    await raw.greet()
    raw.send('pusher:subscribe', { channel: 'x'.repeat(21) })
    assert.equal((await raw.next('pusher:error')).data.code, 4300)
    raw.socket.close()
    await raw.ended()
    const small = await Backend.start(server, SMALL)
    await assert.rejects(small.pusher.trigger('x'.repeat(21), 'e', {}), { status: 400 })
    await assert.rejects(small.pusher.trigger('x', 'e'.repeat(11), {}), { status: 400 })
    await small.pusher.trigger('x', 'e', {})
    await small.close()
  })

  test('one connection may hold so many subscriptions and no more', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    for (let n = 0; n < 5; n += 1) raw.send('pusher:subscribe', { channel: `c${n}` })
    for (let n = 0; n < 5; n += 1) await raw.next('pusher_internal:subscription_succeeded')
    raw.send('pusher:subscribe', { channel: 'c5' })
    const { data } = await raw.next('pusher:error')
    assert.ok([4004, 4100, 4300, 4301].includes(data.code), JSON.stringify(data))
    raw.send('pusher:unsubscribe', { channel: 'c0' })
    raw.send('pusher:subscribe', { channel: 'c5' })
    await raw.next('pusher_internal:subscription_succeeded')
    raw.socket.close()
  })

  test('a message above its limit ends that connection with 1009', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    raw.socket.send(JSON.stringify({ event: 'pusher:ping', data: 'x'.repeat(5000) }))
    assert.equal((await raw.ended()).code, 1009)
  })

  test('an app without sign-in refuses it', async () => {
    const plain = await Backend.start(server, PLAIN)
    const client = await plain.connected({ id: 'x' })
    const refused = next(client.connection, 'error')
    client.signin()
    await refused
    assert.equal(client.user.user_data, null)
    await plain.close()
  })

  test('an app without subscription counts sends none', async () => {
    const plain = await Backend.start(server, PLAIN)
    const client = await plain.connected()
    const { channel } = await subscribed(client, 'quiet')
    const heard = record(channel)
    const other = await plain.connected()
    await subscribed(other, 'quiet')
    const fence = next(channel, 'fence')
    await plain.pusher.trigger('quiet', 'fence', {})
    await fence
    assert.deepEqual(heard.map(([event]) => event), ['fence'])
    await plain.close()
  })

  test('a refused client does not try again', async () => {
    const client = first.client(null, {}, OFF.key)
    const ended = next(client.connection, 'disconnected')
    await nextError(client, 4003)
    await ended
  })
})
