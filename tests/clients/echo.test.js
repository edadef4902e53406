// Laravel Echo, which speaks through pusher-js and has conventions of its own.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import EchoModule from 'laravel-echo'
import PusherJs from 'pusher-js'
import { APP, Backend, Server, next, within } from './harness.js'

const Echo = EchoModule.default ?? EchoModule

// A promise and the callback that fulfils it.
function called(what) {
  let call
  const promise = new Promise((resolve) => (call = (...values) => resolve(values)))
  return [within(promise, what), call]
}

describe('laravel-echo', () => {
  let server, backend
  const echoes = []
  before(async () => {
    server = await Server.start()
    backend = await Backend.start(server)
  })
  after(async () => {
    for (const echo of echoes) echo.disconnect()
    await backend?.close()
    await server?.close()
  })

  async function connect(user) {
    const options = backend.options(user)
    const echo = new Echo({
      broadcaster: 'pusher',
      Pusher: PusherJs,
      key: APP.key,
      ...options,
      authEndpoint: options.channelAuthorization.endpoint,
      auth: { headers: options.channelAuthorization.headers },
    })
    echoes.push(echo)
    echo.connector.pusher.connection.bind('error', () => {})
    await next(echo.connector.pusher.connection, 'connected')
    return echo
  }

  async function joined(channel) {
    const [done, call] = called('subscribed')
    channel.subscribed(call)
    await done
    return channel
  }

  test('hears events on a public channel, by class and by name', async () => {
    const echo = await connect()
    assert.match(echo.socketId(), /^\d+\.\d+$/)
    const channel = await joined(echo.channel('orders'))
    for (const [listen, event] of [['OrderShipped', 'App\\Events\\OrderShipped'], ['.order.shipped', 'order.shipped']]) {
      const [heard, call] = called(event)
      channel.listen(listen, call)
      await backend.pusher.trigger('orders', event, { order: { id: 1 } })
      assert.deepEqual((await heard)[0], { order: { id: 1 } })
    }
  })

  test('toOthers leaves out the sender', async () => {
    const [mine, theirs] = [await connect(), await connect()]
    const own = await joined(mine.channel('to-others'))
    const other = await joined(theirs.channel('to-others'))
    const heard = []
    own.listen('.e', () => heard.push('e'))
    const [got, call] = called('e')
    other.listen('.e', call)
    await backend.pusher.trigger('to-others', 'e', {}, { socket_id: mine.socketId() })
    await got
    const [fence, passed] = called('fence')
    own.listen('.fence', passed)
    await backend.pusher.trigger('to-others', 'fence', {})
    await fence
    assert.deepEqual(heard, [])
  })

  test('private channels: events, notifications and whispers', async () => {
    const [a, b] = [await connect({ id: '1' }), await connect({ id: '2' })]
    const one = await joined(a.private('App.Models.User.1'))
    const two = await joined(b.private('App.Models.User.1'))
    const [noted, note] = called('notification')
    one.notification(note)
    const notification = { id: 'n1', type: 'App\\Notifications\\InvoicePaid', amount: 5 }
    await backend.pusher.trigger(
      'private-App.Models.User.1',
      'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated',
      notification,
    )
    assert.deepEqual((await noted)[0], notification)
    const [whispered, hear] = called('whisper')
    two.listenForWhisper('typing', hear)
    one.whisper('typing', { name: 'one' })
    assert.deepEqual((await whispered)[0], { name: 'one' })
  })

  test('an encrypted private channel', async () => {
    const echo = await connect({ id: '1' })
    const channel = await joined(echo.encryptedPrivate('vault'))
    const [heard, call] = called('e')
    channel.listen('.e', call)
    await backend.pusher.trigger('private-encrypted-vault', 'e', { pin: 1 })
    assert.deepEqual((await heard)[0], { pin: 1 })
  })

  test('a presence channel: here, joining, leaving, whisper', async () => {
    const a = await connect({ id: '1', user_info: { name: 'One' } })
    const [present, here] = called('here')
    const [came, joining] = called('joining')
    const [went, leaving] = called('leaving')
    const room = a.join('room').here(here).joining(joining).leaving(leaving)
    assert.deepEqual((await present)[0], [{ name: 'One' }])
    const b = await connect({ id: '2', user_info: { name: 'Two' } })
    const other = await joined(b.join('room'))
    assert.deepEqual((await came)[0], { name: 'Two' })
    const [whispered, hear] = called('whisper')
    room.listenForWhisper('hi', hear)
    other.whisper('hi', { n: 1 })
    assert.deepEqual((await whispered)[0], { n: 1 })
    b.leave('room')
    assert.deepEqual((await went)[0], { name: 'Two' })
  })

  test('a refused private channel tells its error handler', async () => {
    const echo = await connect({ id: 'x', denied: true })
    const [failed, call] = called('error')
    echo.private('forbidden').error(call)
    assert.equal((await failed)[0].status, 403)
  })

  test('leaving a channel leaves its private and presence twins too', async () => {
    const echo = await connect({ id: '1' })
    await joined(echo.channel('twin'))
    await joined(echo.private('twin'))
    echo.leave('twin')
    assert.deepEqual(Object.keys(echo.connector.channels), [])
  })
})
