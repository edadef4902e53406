// Who is in a presence channel, through pusher-js.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Raw, Server, next, nextError, record, subscribed } from './harness.js'

const person = (id) => ({ id, user_info: { name: `Person ${id}`, tags: ['a', 1, null] } })
const memberEvents = (heard) => heard.filter(([event]) => event.startsWith('pusher:member_'))

describe('presence', () => {
  let server, backend
  before(async () => {
    server = await Server.start({
      apps: [{ ...APP, ...FEATURES, presence_members_max: 3, presence_member_bytes_max: 400 }],
    })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  test('several users see each other come and go', async () => {
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((id) => backend.connected(person(id))))
    const first = await subscribed(a, 'presence-room')
    assert.equal(first.data.count, 1)
    assert.equal(first.data.me.id, 'a')
    assert.deepEqual(first.data.me.info, person('a').user_info)

    const hello = next(first.channel, 'pusher:member_added')
    const second = await subscribed(b, 'presence-room')
    assert.deepEqual((await hello).data, { id: 'b', info: person('b').user_info })
    assert.equal(second.data.count, 2)
    assert.deepEqual(Object.keys(second.data.members).sort(), ['a', 'b'])

    const hellos = [first, second].map(({ channel }) => next(channel, 'pusher:member_added'))
    const third = await subscribed(c, 'presence-room')
    assert.deepEqual((await Promise.all(hellos)).map(({ data }) => data.id), ['c', 'c'])
    assert.deepEqual(Object.keys(third.channel.members.members).sort(), ['a', 'b', 'c'])
    assert.deepEqual(third.channel.members.get('a').info, person('a').user_info)

    const goodbyes = [first, third].map(({ channel }) => next(channel, 'pusher:member_removed'))
    b.unsubscribe('presence-room')
    assert.deepEqual((await Promise.all(goodbyes)).map(({ data }) => data.id), ['b', 'b'])
    const last = next(first.channel, 'pusher:member_removed')
    c.disconnect()
    assert.equal((await last).data.id, 'c')
    assert.equal(first.channel.members.count, 1)
  })

  test('a user with two tabs comes once and leaves once', async () => {
    const watcher = await backend.connected(person('w'))
    const { channel } = await subscribed(watcher, 'presence-tabs')
    const heard = record(channel)
    const [tab1, tab2] = await Promise.all([0, 1].map(() => backend.connected(person('t'))))
    await subscribed(tab1, 'presence-tabs')
    const { data } = await subscribed(tab2, 'presence-tabs')
    assert.equal(data.count, 2)
    tab1.disconnect()
    const gone = next(channel, 'pusher:member_removed')
    // What the first tab's end would have caused comes before what the second one's causes.
    tab2.disconnect()
    await gone
    const fence = next(channel, 'fence')
    await backend.pusher.trigger('presence-tabs', 'fence', {})
    await fence
    assert.deepEqual(
      memberEvents(heard).map(([event, { id }]) => [event, id]),
      [['pusher:member_added', 't'], ['pusher:member_removed', 't']],
    )
  })

  test('one tab of two leaving removes nobody', async () => {
    const watcher = await backend.connected(person('w'))
    const { channel } = await subscribed(watcher, 'presence-stay')
    const [tab1, tab2] = await Promise.all([0, 1].map(() => backend.connected(person('t'))))
    await subscribed(tab1, 'presence-stay')
    await subscribed(tab2, 'presence-stay')
    const heard = record(channel)
    tab1.unsubscribe('presence-stay')
    const after = await subscribed(tab1, 'presence-fence')
    assert.equal(after.data.count, 1)
    // A third person's coming is behind that unsubscribe.
    const other = await backend.connected(person('o'))
    const added = next(channel, 'pusher:member_added')
    await subscribed(other, 'presence-stay')
    await added
    assert.deepEqual(memberEvents(heard).map(([event]) => event), ['pusher:member_added'])
    const { users } = await (await backend.pusher.get({ path: '/channels/presence-stay/users' })).json()
    assert.deepEqual(users.map(({ id }) => id).sort(), ['o', 't', 'w'])
  })

  test('a user without info is a member without info', async () => {
    const client = await backend.connected({ id: 'bare' })
    const { channel } = await subscribed(client, 'presence-bare')
    assert.equal(channel.members.count, 1)
    assert.ok('bare' in channel.members.members)
  })

  test('a full channel refuses a fourth user with 4100, but not a tab of one inside', async () => {
    const clients = await Promise.all(['1', '2', '3'].map((id) => backend.connected(person(id))))
    await Promise.all(clients.map((client) => subscribed(client, 'presence-full')))
    const tab = await backend.connected(person('1'))
    await subscribed(tab, 'presence-full')
    const fourth = await backend.connected(person('4'))
    const refused = nextError(fourth, 4100)
    fourth.subscribe('presence-full')
    await refused
  })

  test('bad channel_data is refused by name and the connection stays', async () => {
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const crypto = await import('node:crypto')
    for (const [channel_data, codes] of [
      ['{"user_id":5}', [4300]],
      ['{}', [4300]],
      ['not json', [4000, 4300]],
      [undefined, [4009, 4300]],
      [JSON.stringify({ user_id: 'x', user_info: 'y'.repeat(1000) }), [4300]],
    ]) {
      const signed = `${socket_id}:presence-bad${channel_data === undefined ? '' : `:${channel_data}`}`
      const auth = `${APP.key}:${crypto.createHmac('sha256', APP.secret).update(signed).digest('hex')}`
      raw.send('pusher:subscribe', { channel: 'presence-bad', auth, channel_data })
      const answer = await Promise.race([raw.next('pusher:error'), raw.next('pusher_internal:subscription_succeeded')])
      const { data } = answer
      assert.ok(codes.includes(data.code), `${channel_data}: ${JSON.stringify(data)}`)
    }
    raw.send('pusher:ping', {})
    await raw.next('pusher:pong')
    raw.socket.close()
  })

  test('a dropped connection leaves its channels', async () => {
    const watcher = await backend.connected(person('w'))
    const { channel } = await subscribed(watcher, 'presence-drop')
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const signed = backend.pusher.authorizeChannel(socket_id, 'presence-drop', { user_id: 'd' })
    const added = next(channel, 'pusher:member_added')
    raw.send('pusher:subscribe', { channel: 'presence-drop', ...signed })
    await added
    const removed = next(channel, 'pusher:member_removed')
    raw.socket.terminate()
    assert.equal((await removed).data.id, 'd')
  })
})
