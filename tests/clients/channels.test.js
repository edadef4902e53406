// Every kind of channel, through pusher-js.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, Raw, Server, next, nextError, record, subscribed } from './harness.js'

describe('channels', () => {
  let server, backend
  before(async () => {
    server = await Server.start()
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  test('a client connects and is told its socket id and activity timeout', async () => {
    const raw = await Raw.open(server)
    const greeting = await raw.greet()
    assert.match(greeting.socket_id, /^\d+\.\d+$/)
    assert.equal(greeting.activity_timeout, 120)
    raw.socket.close()
    const client = await backend.connected()
    assert.match(client.connection.socket_id, /^\d+\.\d+$/)
  })

  test('a second client gets another socket id', async () => {
    const [one, two] = await Promise.all([backend.connected(), backend.connected()])
    assert.notEqual(one.connection.socket_id, two.connection.socket_id)
  })

  for (const name of [
    'news',
    'cache-news',
    'private-news',
    'private-cache-news',
    'presence-news',
    'presence-cache-news',
    'private-encrypted-news',
    'private-encrypted-cache-news',
    'odd_name-=@,.;',
    'a'.repeat(200),
  ]) {
    test(`an event reaches a subscriber of ${name.slice(0, 40)}`, async () => {
      const client = await backend.connected({ id: 'u1', user_info: { name: 'One' } })
      const { channel } = await subscribed(client, name)
      const payload = { text: 'Grüße, 世界 \u{1f600} "quoted" \\ \u0000', list: [1, 2.5, null, true], nested: { a: {} } }
      const heard = next(channel, 'greeting')
      const response = await backend.pusher.trigger(name, 'greeting', payload)
      assert.equal(response.status, 200)
      assert.deepEqual((await heard).data, payload)
    })
  }

  test('a string stays a string, and one that looks like JSON is what the client parses', async () => {
    const client = await backend.connected()
    const { channel } = await subscribed(client, 'strings')
    for (const [sent, expected] of [['plain words', 'plain words'], ['{"a":1}', { a: 1 }], ['', '']]) {
      const heard = next(channel, 'text')
      await backend.pusher.trigger('strings', 'text', sent)
      assert.deepEqual((await heard).data, expected)
    }
  })

  test('one publish to many channels arrives in each, and in no other', async () => {
    const client = await backend.connected()
    const names = Array.from({ length: 20 }, (_, i) => `many-${i}`)
    const channels = await Promise.all(names.map((name) => subscribed(client, name)))
    const { channel: other } = await subscribed(client, 'many-other')
    const elsewhere = record(other)
    const all = Promise.all(channels.map(({ channel }) => next(channel, 'all')))
    await backend.pusher.trigger(names, 'all', { n: 1 })
    await all
    const fence = next(other, 'fence')
    await backend.pusher.trigger('many-other', 'fence', {})
    await fence
    assert.deepEqual(elsewhere.filter(([event]) => event === 'all'), [])
  })

  test('many events of one channel arrive once each and in order', async () => {
    const clients = await Promise.all([0, 1, 2, 3].map(() => backend.connected()))
    const channels = await Promise.all(clients.map((client) => subscribed(client, 'ordered')))
    const heard = channels.map(({ channel }) => {
      const numbers = []
      channel.bind('n', ({ n }) => numbers.push(n))
      return numbers
    })
    const last = Promise.all(channels.map(({ channel }) => next(channel, 'n', ({ n }) => n === 199)))
    for (let n = 0; n < 200; n += 1) await backend.pusher.trigger('ordered', 'n', { n })
    await last
    for (const numbers of heard) assert.deepEqual(numbers, Array.from({ length: 200 }, (_, n) => n))
  })

  test('after unsubscribing nothing comes, and subscribing again works', async () => {
    const client = await backend.connected()
    const first = await subscribed(client, 'leave')
    const heard = record(first.channel)
    const { channel: fence } = await subscribed(client, 'leave-fence')
    client.unsubscribe('leave')
    await subscribed(client, 'leave-fence-2') // its answer comes after the unsubscribe was read
    await backend.pusher.trigger('leave', 'late', {})
    const passed = next(fence, 'fence')
    await backend.pusher.trigger('leave-fence', 'fence', {})
    await passed
    assert.deepEqual(heard.filter(([event]) => event === 'late'), [])
    const again = await subscribed(client, 'leave')
    const back = next(again.channel, 'back')
    await backend.pusher.trigger('leave', 'back', {})
    await back
  })

  for (const name of ['private-forged', 'presence-forged', 'private-cache-forged', 'private-encrypted-forged']) {
    test(`a forged signature does not open ${name}`, async () => {
      const client = await backend.connected({ id: 'mallory', forged: true })
      const refused = nextError(client, 4009)
      const channel = client.subscribe(name)
      await refused
      assert.equal(channel.subscribed, false)
      // The connection is as good as before.
      await subscribed(client, 'open')
    })
  }

  test('a signature for another channel or socket is refused', async () => {
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const member = backend.pusher.authorizeChannel(socket_id, 'presence-a', { user_id: '1' })
    const wrong = [
      ['private-a', backend.pusher.authorizeChannel(socket_id, 'private-b')],
      ['private-a', backend.pusher.authorizeChannel('1.1', 'private-a')],
      ['private-a', { auth: `other-key:${'0'.repeat(64)}` }],
      ['private-a', { auth: '' }],
      ['private-a', {}],
      ['presence-a', { ...member, channel_data: '{"user_id":"2"}' }],
      ['presence-a', { auth: 'x', channel_data: member.channel_data }],
    ]
    for (const [channel, data] of wrong) {
      raw.send('pusher:subscribe', { channel, ...data })
      const { data: error } = await raw.next('pusher:error')
      assert.equal(error.code, 4009, `${channel} ${JSON.stringify(data)}: ${JSON.stringify(error)}`)
    }
    raw.socket.close()
  })

  test('the auth endpoint may say no; the channel hears it and stays closed', async () => {
    const client = await backend.connected({ id: 'x', denied: true })
    const channel = client.subscribe('private-denied')
    const { data } = await next(channel, 'pusher:subscription_error')
    assert.equal(data.status, 403)
  })

  test('bad channel names get 4300 and the connection stays', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    for (const channel of ['with space', 'ümlaut', 'a/b', 'x'.repeat(201), '#server-to-user-somebody']) {
      raw.send('pusher:subscribe', { channel })
      const { data } = await raw.next('pusher:error')
      assert.ok([4009, 4300].includes(data.code), `${channel}: ${JSON.stringify(data)}`)
    }
    raw.send('pusher:subscribe', { channel: 'fine' })
    await raw.next('pusher_internal:subscription_succeeded')
    raw.socket.close()
  })

  test('frames have the shape of protocol 7: strings in strings and nothing beside', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    raw.send('pusher:subscribe', { channel: 'shape' })
    const answer = await raw.next('pusher_internal:subscription_succeeded')
    assert.deepEqual(answer, { event: answer.event, channel: 'shape', data: '{}', binary: false })
    await backend.pusher.trigger('shape', 'thing', { a: 1 })
    const event = await raw.next('thing')
    assert.deepEqual(event, { event: 'thing', channel: 'shape', data: '{"a":1}', binary: false })
    raw.send('pusher:ping', {})
    assert.deepEqual(Object.keys(await raw.next('pusher:pong')).includes('channel'), false)
    raw.socket.close()
  })

  test('what is not JSON, or has no event, is answered and the connection stays', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    for (const text of ['not json', '{"data":{}}', '[]', '{"event":5}', '']) {
      raw.socket.send(text)
      assert.equal((await raw.next('pusher:error')).data.code, 4000, text)
    }
    raw.socket.send('{"event":"pusher:unheard-of","data":{}}')
    raw.send('pusher:ping', {})
    await raw.next('pusher:pong')
    raw.socket.close()
  })

  test('a compressed connection hears the same as a plain one', async () => {
    const [plain, packed] = await Promise.all([Raw.open(server), Raw.open(server, { deflate: true })])
    assert.equal(plain.socket.extensions, '')
    assert.match(packed.socket.extensions, /permessage-deflate/)
    for (const raw of [plain, packed]) {
      await raw.greet()
      raw.send('pusher:subscribe', { channel: 'packed' })
      await raw.next('pusher_internal:subscription_succeeded')
    }
    for (const length of [0, 10, 125, 126, 1000, 5000, 60_000]) {
      await backend.pusher.trigger('packed', 'bulk', { text: 'words '.repeat(length / 6) })
      assert.deepEqual(await packed.next('bulk'), await plain.next('bulk'))
    }
    // And compressed the other way.
    packed.socket.send(JSON.stringify({ event: 'pusher:ping', data: { pad: 'z'.repeat(4000) } }))
    await packed.next('pusher:pong')
    plain.socket.close()
    packed.socket.close()
  })

  test('the subscription count follows subscriptions', async () => {
    const [one, two] = await Promise.all([backend.connected(), backend.connected()])
    const channel = one.subscribe('counted')
    await next(channel, 'pusher:subscription_count', ({ subscription_count }) => subscription_count === 1)
    const up = next(channel, 'pusher:subscription_count', ({ subscription_count }) => subscription_count === 2)
    await subscribed(two, 'counted')
    await up
    assert.equal(channel.subscriptionCount, 2)
    const down = next(channel, 'pusher:subscription_count', ({ subscription_count }) => subscription_count === 1)
    two.unsubscribe('counted')
    await down
  })

  test('a cache channel tells a newcomer the last event, or that there is none', async () => {
    for (const name of ['cache-price', 'private-cache-price', 'presence-cache-price']) {
      const [early, late] = await Promise.all(['e', 'l'].map((id) => backend.connected({ id })))
      const first = early.subscribe(name)
      await next(first, 'pusher:cache_miss')
      for (const price of [1, 2, 3]) await backend.pusher.trigger(name, 'price', { price })
      const second = late.subscribe(name)
      const heard = record(second)
      assert.deepEqual((await next(second, 'price')).data, { price: 3 })
      const fence = next(second, 'fence')
      await backend.pusher.trigger(name, 'fence', {})
      await fence
      const events = heard.map(([event]) => event).filter((event) => !event.startsWith('pusher:subscription_count'))
      assert.deepEqual(events.filter((event) => !event.includes('member')), [
        'pusher:subscription_succeeded',
        'price',
        'fence',
      ])
    }
  })

  test('an encrypted cache channel opens its last event too', async () => {
    const name = 'private-encrypted-cache-price'
    await backend.pusher.trigger(name, 'price', { price: 9 })
    const client = await backend.connected()
    const channel = client.subscribe(name)
    assert.deepEqual((await next(channel, 'price')).data, { price: 9 })
  })

  test('an encrypted event is opaque to the server and to who has no key', async () => {
    const name = 'private-encrypted-secret'
    const client = await backend.connected()
    const { channel } = await subscribed(client, name)
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const { auth } = backend.pusher.authorizeChannel(socket_id, name)
    raw.send('pusher:subscribe', { channel: name, auth })
    await raw.next('pusher_internal:subscription_succeeded')
    const heard = next(channel, 'secret')
    await backend.pusher.trigger(name, 'secret', { pin: 4711 })
    assert.deepEqual((await heard).data, { pin: 4711 })
    const sealed = JSON.parse((await raw.next('secret')).data)
    assert.deepEqual(Object.keys(sealed).sort(), ['ciphertext', 'nonce'])
    raw.socket.close()
  })

  test('the app key stands in the path; the key of no app is refused for good', async () => {
    const raw = await Raw.open(server, { key: 'nobody' })
    assert.equal((await raw.next('pusher:error')).data.code, 4001)
    assert.equal((await raw.ended()).code, 4001)
    const client = backend.client(null, {}, 'nobody')
    const ended = next(client.connection, 'disconnected')
    await nextError(client, 4001)
    await ended
    assert.equal((await Raw.open(server, { path: `/app/${APP.key}/?protocol=7` }).then((raw) => raw.greet()))
      .activity_timeout, 120)
  })
})
