// Events that peers send each other, through pusher-js.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Raw, Server, next, nextError, record, subscribed } from './harness.js'

describe('client events', () => {
  let server, backend
  before(async () => {
    server = await Server.start({
      apps: [
        { ...APP, ...FEATURES, client_events_per_second_max: 20, event_payload_bytes_max: 2000 },
        { id: '1002', key: 'mute-key', secret: 'mute-secret' },
        {
          id: '1003',
          key: 'strict-key',
          secret: 'strict-secret',
          client_events: true,
          client_events_per_second_max: 5,
          client_events_terminate: true,
        },
      ],
    })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  for (const name of ['private-talk', 'presence-talk', 'private-cache-talk']) {
    test(`one peer's event on ${name} reaches the others and not itself`, async () => {
      const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((id) => backend.connected({ id })))
      const [sender, ...others] = await Promise.all([a, b, c].map((client) => subscribed(client, name)))
      const own = record(sender.channel)
      const heard = others.map(({ channel }) => next(channel, 'client-typing'))
      assert.equal(sender.channel.trigger('client-typing', { on: true, text: 'ü' }), true)
      for (const { data, metadata } of await Promise.all(heard)) {
        assert.deepEqual(data, { on: true, text: 'ü' })
        assert.equal(metadata?.user_id, name.startsWith('presence-') ? 'a' : undefined)
      }
      const fence = next(sender.channel, 'fence')
      await backend.pusher.trigger(name, 'fence', {})
      await fence
      assert.deepEqual(own.filter(([event]) => event === 'client-typing'), [])
    })
  }

  test('refused on public and encrypted channels, unsubscribed ones, and without the prefix', async () => {
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const subscribe = async (channel) => {
      raw.send('pusher:subscribe', { channel, ...backend.pusher.authorizeChannel(socket_id, channel) })
      await raw.next('pusher_internal:subscription_succeeded')
    }
    await subscribe('square')
    await subscribe('private-encrypted-vault')
    for (const channel of ['square', 'private-encrypted-vault', 'private-elsewhere']) {
      raw.send('client-shout', { a: 1 }, channel)
      assert.equal((await raw.next('pusher:error')).data.code, 4301, channel)
    }
    raw.send('pusher:ping', {})
    await raw.next('pusher:pong')
    raw.socket.close()
  })

  test('refused where the app has them off', async () => {
    const mute = await Backend.start(server, { id: '1002', key: 'mute-key', secret: 'mute-secret' })
    const client = await mute.connected({ id: 'x' })
    const { channel } = await subscribed(client, 'private-talk')
    const refused = nextError(client, 4301)
    channel.trigger('client-typing', {})
    await refused
    await mute.close()
  })

  test('above the rate the event is refused with 4301, and the connection stays', async () => {
    const [client, other] = await Promise.all([backend.connected(), backend.connected()])
    const { channel } = await subscribed(client, 'private-fast')
    const { channel: listening } = await subscribed(other, 'private-fast')
    let arrived = 0
    listening.bind('client-n', () => (arrived += 1))
    const refused = nextError(client, 4301)
    for (let n = 0; n < 60; n += 1) channel.trigger('client-n', { n })
    await refused
    const fence = next(listening, 'fence')
    await backend.pusher.trigger('private-fast', 'fence', {})
    await fence
    // A second may have turned over meanwhile, never two.
    assert.ok(arrived >= 20 && arrived <= 41, `${arrived} of 60 arrived`)
    await subscribed(client, 'still-here')
  })

  test('above the rate the connection is closed with 4301 where the app says so', async () => {
    const strict = { id: '1003', key: 'strict-key', secret: 'strict-secret' }
    const keeper = await Backend.start(server, strict)
    const raw = await Raw.open(server, { key: strict.key })
    const { socket_id } = await raw.greet()
    raw.send('pusher:subscribe', {
      channel: 'private-x',
      ...keeper.pusher.authorizeChannel(socket_id, 'private-x'),
    })
    await raw.next('pusher_internal:subscription_succeeded')
    for (let n = 0; n < 30; n += 1) raw.send('client-n', { n }, 'private-x')
    assert.equal((await raw.ended()).code, 4301)
    await keeper.close()
  })

  test('a payload above the limit is refused', async () => {
    const client = await backend.connected()
    const { channel } = await subscribed(client, 'private-big')
    const refused = nextError(client, 4301)
    channel.trigger('client-big', { text: 'x'.repeat(3000) })
    await refused
  })
})
