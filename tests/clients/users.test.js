// Signing in, events for a user, the watchlist, and ending a user's connections.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Backend, Raw, Server, next, nextError } from './harness.js'

async function signedIn(backend, user) {
  const client = await backend.connected(user)
  client.signin()
  // pusher-js then subscribes to the user's own channel by itself; user events work from here on.
  await next(client.connection, 'message', ({ event }) => event === 'pusher:signin_success')
  return client
}

describe('users', () => {
  let server, backend
  before(async () => {
    server = await Server.start()
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  test('a client signs in and hears what is sent to its user, once, on every tab', async () => {
    const user = { id: 'ann', user_info: { name: 'Ann' } }
    const tabs = [await signedIn(backend, user), await signedIn(backend, user)]
    const other = await signedIn(backend, { id: 'bob' })
    assert.deepEqual(tabs[0].user.user_data, user)
    const counts = [...tabs, other].map((client) => {
      const count = { mail: 0 }
      client.user.bind('mail', () => (count.mail += 1))
      return count
    })
    const heard = tabs.map((client) => next(client.user, 'mail'))
    await backend.pusher.sendToUser('ann', 'mail', { subject: 'hello' })
    for (const { data } of await Promise.all(heard)) assert.deepEqual(data, { subject: 'hello' })
    const fences = [
      ...tabs.map((client) => next(client.user, 'fence')),
      next(other.user, 'fence'),
    ]
    await backend.pusher.sendToUser('ann', 'fence', {})
    await backend.pusher.sendToUser('bob', 'fence', {})
    await Promise.all(fences)
    assert.deepEqual(counts.map(({ mail }) => mail), [1, 1, 0])
  })

  test('a forged sign-in is refused', async () => {
    const client = await backend.connected({ id: 'mallory', forged: true })
    const refused = nextError(client, 4009)
    client.signin()
    await refused
    assert.equal(client.user.user_data, null)
  })

  test('nobody listens to another user', async () => {
    const raw = await Raw.open(server)
    const { socket_id } = await raw.greet()
    const signed = backend.pusher.authenticateUser(socket_id, { id: 'eve' })
    raw.send('pusher:signin', signed)
    const success = await raw.next('pusher:signin_success')
    assert.equal(success.data.user_data, signed.user_data)
    raw.send('pusher:subscribe', { channel: '#server-to-user-ann', auth: '' })
    const { data } = await raw.next('pusher:error')
    assert.ok([4009, 4300].includes(data.code), JSON.stringify(data))
    raw.socket.close()
  })

  test('terminating a user ends every tab for good, and nobody else', async () => {
    const tabs = [await signedIn(backend, { id: 'gone' }), await signedIn(backend, { id: 'gone' })]
    const other = await signedIn(backend, { id: 'stays' })
    const ended = tabs.map((client) =>
      Promise.all([nextError(client, 4009), next(client.connection, 'disconnected')]),
    )
    const response = await backend.pusher.terminateUserConnections('gone')
    assert.equal(response.status, 200)
    await Promise.all(ended)
    const mail = next(other.user, 'mail')
    await backend.pusher.sendToUser('stays', 'mail', {})
    await mail
    assert.equal(other.connection.state, 'connected')
  })

  test('terminating somebody unknown is fine', async () => {
    assert.equal((await backend.pusher.terminateUserConnections('nobody-here')).status, 200)
  })

  test('the watchlist tells who is online, who comes, and who goes', async () => {
    const early = await signedIn(backend, { id: 'early' })
    const watcher = await backend.connected({ id: 'watcher', watchlist: ['early', 'late'] })
    const online = next(watcher.user.watchlist, 'online', ({ user_ids }) => user_ids.includes('early'))
    watcher.signin()
    await online
    const comes = next(watcher.user.watchlist, 'online', ({ user_ids }) => user_ids.includes('late'))
    const late = [await signedIn(backend, { id: 'late' }), await signedIn(backend, { id: 'late' })]
    await comes
    const events = []
    watcher.user.watchlist.bind_global((event, { user_ids }) => events.push([event, user_ids.join()]))
    const goes = next(watcher.user.watchlist, 'offline', ({ user_ids }) => user_ids.includes('late'))
    late[0].disconnect()
    late[1].disconnect()
    await goes
    const leaves = next(watcher.user.watchlist, 'offline', ({ user_ids }) => user_ids.includes('early'))
    early.disconnect()
    await leaves
    assert.deepEqual(events, [['offline', 'late'], ['offline', 'early']])
  })
})
