// What Sockudo has and Pusher has not: the documented requests as they are written, and stock clients of protocol 7 beside
// peers of protocol 2 who change what both have heard.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import EchoModule from 'laravel-echo'
import PusherJs from 'pusher-js'
import { APP, Backend, FEATURES, Raw, Server, next, record, subscribed, within } from './harness.js'

const Echo = EchoModule.default ?? EchoModule
const V2 = { path: `/app/${APP.key}?protocol=2` }
const kept = { 'history.channels': [{ pattern: 'orders', mode: 'durable' }, { pattern: '*', mode: 'memory' }] }

describe('protocol 7 beside protocol 2', () => {
  let server, backend
  before(async () => {
    server = await Server.start({ apps: [{ ...APP, ...FEATURES, subscription_counts: false }], tables: kept })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  const user = { id: 'ann', user_info: { name: 'Ann' } }

  // A peer that speaks by hand, subscribed.
  async function peer(options, name) {
    const prefix = options === V2 ? 'sockudo' : 'pusher'
    const raw = await Raw.open(server, options)
    const { socket_id } = JSON.parse((await raw.next(`${prefix}:connection_established`)).data)
    const member = name.startsWith('presence-') ? { user_id: 'bob', user_info: {} } : undefined
    const signed = name.includes('-') ? backend.pusher.authorizeChannel(socket_id, name, member) : {}
    raw.send(`${prefix}:subscribe`, { channel: name, ...signed })
    await raw.next(`${prefix}_internal:subscription_succeeded`)
    raw.messages.length = 0
    return raw
  }

  const post = async (path, body) => (await backend.pusher.post({ path, body })).json()

  // Publishes a message, changes and annotates it in every way, and publishes something else.
  async function live(name) {
    const options = { info: 'subscription_count', tags: { a: 'b' }, extras: { headers: { c: 1 } } }
    const told = await (await backend.pusher.trigger(name, 'e', 'one', options)).json()
    const message = `/channels/${name}/messages/${told.channels[name].message_serial}`
    await post(`${message}/append`, { data: ', two' })
    await post(`${message}/update`, { data: { n: 3 }, name: 'other', client_id: 'ann' })
    await post(`${message}/annotations`, { type: 'likes:flag.v1', clientId: 'ann' })
    await post(`${message}/delete`, { description: 'enough' })
    await backend.pusher.trigger(name, 'fence', {})
    return { message, serial: told.channels[name].message_serial }
  }

  for (const name of ['lobby', 'private-lobby', 'presence-lobby']) {
    test(`${name}: stock clients hear the publish and nothing of what becomes of it`, async () => {
      const client = await backend.connected(user)
      const { channel } = await subscribed(client, name)
      const heard = record(channel)
      const [seven, two] = [await peer({}, name), await peer(V2, name)]
      const fence = next(channel, 'fence')
      const { serial } = await live(name)
      await fence
      await two.next('fence')
      await seven.next('fence')

      const events = heard.filter(([event]) => !event.startsWith('pusher:'))
      assert.deepEqual(events, [['e', 'one'], ['fence', {}]])
      // Not a member more than protocol 7 has.
      const told = seven.messages.filter(({ event }) => !event.startsWith('pusher_internal:'))
      assert.deepEqual(told, [{ event: 'e', channel: name, data: 'one', binary: false }])

      const beside = two.messages.filter(({ channel }) => channel === name)
      assert.deepEqual(
        beside.map(({ event, data }) => [event, data]).filter(([event]) => !event.startsWith('sockudo_internal:')),
        [
          ['e', 'one'],
          ['sockudo:message.append', ', two'],
          ['sockudo:message.update', { n: 3 }],
          ['sockudo:message.delete', { n: 3 }],
        ],
      )
      const summary = beside.find(({ event }) => event === 'sockudo_internal:message')
      assert.deepEqual(summary.data.annotations.summary['likes:flag.v1'], { total: 1, clientIds: ['ann'], clipped: false })
      const [create] = beside
      assert.deepEqual([create.serial, create.tags, create.extras.headers.sockudo_message_serial], [1, { a: 'b' }, serial])

      // Who comes later is not told in protocol 7, and told the sum in protocol 2.
      const later = await peer({}, name)
      await backend.pusher.trigger(name, 'last', {})
      await later.next('last')
      assert.deepEqual(later.messages.filter(({ event }) => !event.startsWith('pusher_internal:')), [])
      for (const raw of [seven, two, later]) raw.socket.terminate()
      client.disconnect()
    })
  }

  test('the changed message as the stock server SDK reads it', async () => {
    const { message } = await live('readings')
    const read = async (path, params) => (await backend.pusher.get({ path, params })).json()
    const { item } = await read(message)
    assert.deepEqual([item.action, item.data, item.name, item.history_serial], ['delete', { n: 3 }, 'other', 1])
    const { items } = await read(`${message}/versions`, { direction: 'oldest_first' })
    assert.deepEqual(items.map(({ action }) => action), ['create', 'append', 'update', 'delete'])
    const page = await read('/channels/readings/history', { direction: 'oldest_first' })
    assert.deepEqual(page.items.map(({ message: { event } }) => event), ['sockudo:message.delete', 'fence'])
  })

  test('a cache channel keeps what was published for protocol 7, whatever became of it', async () => {
    await live('cache-lobby')
    const client = await backend.connected()
    const channel = client.subscribe('cache-lobby')
    assert.deepEqual((await next(channel, 'fence')).data, {})
    client.disconnect()
  })

  test('members of both protocols: an update is news for protocol 2 only', async () => {
    const client = await backend.connected(user)
    const { channel, data: members } = await subscribed(client, 'presence-both')
    const heard = record(channel)
    const added = next(channel, 'pusher:member_added')
    const two = await peer(V2, 'presence-both')
    await added
    two.send('sockudo:presence_update', { channel: 'presence-both', data: { mood: 'good' } })
    await two.next('sockudo_internal:presence_update')
    const removed = next(channel, 'pusher:member_removed')
    two.send('sockudo:unsubscribe', { channel: 'presence-both' })
    await removed
    assert.deepEqual(heard.map(([event]) => event), ['pusher:member_added', 'pusher:member_removed'])
    assert.equal(members.count, 1)
    two.socket.terminate()
    client.disconnect()
  })

  test('laravel-echo hears the publish and nothing else', async () => {
    const options = backend.options(user)
    const echo = new Echo({ broadcaster: 'pusher', Pusher: PusherJs, key: APP.key, ...options,
      authEndpoint: options.channelAuthorization.endpoint, auth: { headers: options.channelAuthorization.headers } })
    echo.connector.pusher.connection.bind('error', () => {})
    const heard = []
    const channel = echo.private('echoes')
    channel.listenToAll((event, data) => heard.push([event, data]))
    await within(new Promise((resolve) => channel.subscribed(resolve)), 'the subscription')
    const fence = within(new Promise((resolve) => channel.listen('.fence', resolve)), 'the fence')
    await live('private-echoes')
    await fence
    assert.deepEqual(heard.map(([, data]) => data), ['one', {}])
    echo.disconnect()
  })
})

// Sockudo documentation, "HTTP API": each body as it stands there.
describe('the documented requests', () => {
  const EVENT = `{
"name": "order.created",
"channel": "orders",
"data": {
"id": "ord_123"
},
"idempotency_key": "order-created-ord_123"
}`
  const BATCH = `{
"batch": [
{
"channel": "orders",
"name": "order.created",
"data": { "id": "ord_123" }
},
{
"channel": "orders",
"name": "order.paid",
"data": { "id": "ord_123" }
}
]
}`
  const MUTATION = `{
"data": {
"body": "edited message"
},
"description": "user edit",
"idempotency_key": "edit-msg-1-v2"
}`
  const ANNOTATION = `{
"type": "reactions:distinct.v1",
"name": "like",
"client_id": "user-1",
"count": 1
}`
  const md5 = (text) => crypto.createHash('md5').update(text).digest('hex')
  let server
  before(async () => {
    const apps = [{ ...APP, ...FEATURES, event_payload_bytes_max: 2000 }, { ...APP, id: '1002', key: 'off', enabled: false }]
    server = await Server.start({ apps, tables: kept })
  })
  after(() => server?.close())

  async function ask(method, target, body, { app = APP.id, key = APP.key, secret = APP.secret, headers = {}, ...change } = {}) {
    const [path, given = ''] = `/apps/${app}${target}`.split('?')
    const query = { ...Object.fromEntries(new URLSearchParams(given)), auth_key: key, auth_version: '1.0',
      auth_timestamp: String(Math.floor(Date.now() / 1000)), ...(body === undefined ? {} : { body_md5: md5(body) }), ...change }
    const line = Object.keys(query).sort().map((name) => `${name}=${query[name]}`).join('&')
    query.auth_signature = crypto.createHmac('sha256', secret).update(`${method}\n${path}\n${line}`).digest('hex')
    const response = await fetch(`http://127.0.0.1:${server.port}${path}?${new URLSearchParams(query)}`, {
      method, body, headers: { 'content-type': 'application/json', ...headers },
    })
    const text = await response.text()
    return { status: response.status, body: text && JSON.parse(text), headers: response.headers }
  }

  async function ok(...request) {
    const { status, body } = await ask(...request)
    assert.equal(status, 200, `${request[0]} ${request[1]}: ${JSON.stringify(body)}`)
    return body
  }

  test('publish, batch, channel state, history, messages, annotations', async () => {
    const listener = await Raw.open(server, V2)
    const { socket_id } = JSON.parse((await listener.next('sockudo:connection_established')).data)
    for (const channel of ['orders', 'presence-orders']) {
      const channel_data = '{"user_id":"user-1"}'
      const signed = `${socket_id}:${channel}:${channel_data}`
      const auth = `${APP.key}:${crypto.createHmac('sha256', APP.secret).update(signed).digest('hex')}`
      listener.send('sockudo:subscribe', { channel, ...(channel === 'orders' ? {} : { auth, channel_data }) })
      await listener.next('sockudo_internal:subscription_succeeded')
    }

    await ok('POST', '/events', EVENT)
    const { data, extras } = await listener.next('order.created')
    assert.deepEqual(JSON.parse(data), { id: 'ord_123' })
    const message = extras.headers.sockudo_message_serial
    // Again with the same key: once is enough.
    await ok('POST', '/events', EVENT)
    await ok('POST', '/batch_events', BATCH)
    assert.equal((await listener.next('order.created')).serial, 2)
    assert.equal((await listener.next('order.paid')).serial, 3)

    const { channels } = await ok('GET', '/channels')
    assert.deepEqual(Object.keys(channels).sort(), ['orders', 'presence-orders'])
    assert.equal((await ok('GET', '/channels/orders')).occupied, true)
    assert.deepEqual(await ok('GET', '/channels/presence-orders/users'), { users: [{ id: 'user-1' }] })

    const page = await ok('GET', '/channels/orders/history?limit=50&direction=newest_first')
    assert.deepEqual(page.items.map(({ serial, event_name }) => [serial, event_name]),
      [[3, 'order.paid'], [2, 'order.created'], [1, 'order.created']])
    const first = await ok('GET', '/channels/orders/history?limit=2&direction=newest_first')
    assert.equal(typeof first.next_cursor, 'string')
    const cursor = encodeURIComponent(first.next_cursor)
    const rest = await ok('GET', `/channels/orders/history?limit=2&direction=newest_first&cursor=${cursor}`)
    assert.deepEqual(rest.items.map(({ serial }) => serial), [1])

    const at = `/channels/orders/messages/${message}`
    assert.equal((await ok('GET', at)).item.action, 'create')
    const updated = await ok('POST', `${at}/update`, MUTATION)
    assert.deepEqual([updated.action, updated.status], ['update', 'applied'])
    const again = await ok('POST', `${at}/update`, MUTATION)
    assert.deepEqual([again.status, again.version_serial], ['duplicate', updated.version_serial])
    assert.deepEqual((await ok('GET', at)).item.data, { body: 'edited message' })
    // A key names one change of a message: deletes and appends are of others.
    const [paid, created] = page.items.map((it) => it.message.extras.headers.sockudo_message_serial)
    const deleted = await ok('POST', `/channels/orders/messages/${paid}/delete`, MUTATION)
    assert.equal(deleted.action, 'delete')
    const other = `/channels/orders/messages/${created}`
    // Only text is added to text; the documented body is of the other two.
    assert.equal((await ask('POST', `${other}/append`, MUTATION)).status, 422)
    const appended = await ok('POST', `${other}/append`, '{"data":", and more","idempotency_key":"append-1"}')
    assert.equal(appended.action, 'append')
    for (const event of ['update', 'delete', 'append']) await listener.next(`sockudo:message.${event}`)
    const { items } = await ok('GET', `${at}/versions`)
    assert.deepEqual(items.map(({ action, version }) => [action, version.description]), [['update', 'user edit'], ['create', undefined]])

    const { annotationSerial } = await ok('POST', `${at}/annotations`, ANNOTATION)
    const summary = await listener.next('sockudo_internal:message')
    assert.deepEqual(summary.data.annotations.summary['reactions:distinct.v1'],
      { like: { total: 1, clientIds: ['user-1'], clipped: false } })
    const listed = await ok('GET', `${at}/annotations`)
    assert.deepEqual(listed.items.map(({ serial, name, clientId, count }) => [serial, name, clientId, count]),
      [[annotationSerial, 'like', 'user-1', 1]])
    const taken = await ok('DELETE', `${at}/annotations/${annotationSerial}`)
    assert.equal(taken.deletedAnnotationSerial, annotationSerial)
    const empty = await listener.next('sockudo_internal:message')
    assert.deepEqual(empty.data.annotations.summary['reactions:distinct.v1'], {})
    listener.socket.terminate()
  })

  test('socket_id leaves out the connection that it names', async () => {
    const listener = await Raw.open(server, V2)
    const { socket_id } = JSON.parse((await listener.next('sockudo:connection_established')).data)
    listener.send('sockudo:subscribe', { channel: 'others' })
    await listener.next('sockudo_internal:subscription_succeeded')
    await ok('POST', '/events', JSON.stringify({ name: 'e', channel: 'others', data: 1, socket_id }))
    await ok('POST', '/events', JSON.stringify({ name: 'fence', channel: 'others', data: 1 }))
    assert.equal((await listener.next('fence')).serial, 2)
    assert.deepEqual(listener.messages.filter(({ event }) => event === 'e'), [])
    listener.socket.terminate()
  })

  test('statuses', async () => {
    const large = JSON.stringify({ name: 'e', channel: 'orders', data: 'x'.repeat(3000) })
    for (const [status, ...request] of [
      [400, 'POST', '/events', '{'],
      [400, 'GET', '/channels/orders/history?direction=sideways', undefined],
      [401, 'POST', '/events', EVENT, { secret: 'wrong' }],
      [401, 'POST', '/events', EVENT, { auth_timestamp: '1' }],
      [403, 'POST', '/events', EVENT, { app: '1002', key: 'off' }],
      [404, 'GET', '/channels/orders/messages/none', undefined],
      [413, 'POST', '/events', large],
    ]) {
      const { status: answered, body } = await ask(...request)
      assert.equal(answered, status, `${request.slice(0, 2)}: ${JSON.stringify(body)}`)
      assert.deepEqual([typeof body.error, typeof body.code, body.status], ['string', 'string', status])
    }
  })
})
