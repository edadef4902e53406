// Keep-alive, restarts and the drain, as pusher-js lives through them.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Raw, Server, codeOf, next, subscribed, within } from './harness.js'

describe('keep-alive', () => {
  let server, backend
  before(async () => {
    server = await Server.start({ settings: { 'pusher.activity_timeout_s': 1, 'pusher.pong_timeout_s': 1 } })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
  })

  test('a silent peer is pinged, and closed with 4201 when it does not answer', async () => {
    const raw = await Raw.open(server)
    assert.equal((await raw.greet()).activity_timeout, 1)
    await raw.next('pusher:ping')
    const { data } = await raw.next('pusher:error')
    assert.equal(data.code, 4201)
    assert.equal((await raw.ended()).code, 4201)
  })

  test('a peer that answers stays', async () => {
    const raw = await Raw.open(server)
    await raw.greet()
    for (let n = 0; n < 3; n += 1) {
      await raw.next('pusher:ping')
      raw.send('pusher:pong', {})
    }
    assert.equal(raw.socket.readyState, raw.socket.OPEN)
    raw.socket.close()
  })

  test('pusher-js keeps its connection through silence', async () => {
    const client = await backend.connected()
    const id = client.connection.socket_id
    const pongs = []
    client.connection.bind('message', ({ event }) => event === 'pusher:pong' && pongs.push(event))
    await next(client.connection, 'message', () => pongs.length === 3)
    assert.equal(client.connection.state, 'connected')
    assert.equal(client.connection.socket_id, id)
  })
})

describe('restart', () => {
  for (const signal of ['SIGKILL', 'SIGTERM']) {
    test(`after ${signal} and a new start on the same port, clients come back and subscribe again`, async () => {
      const server = await Server.start()
      const backend = await Backend.start(server)
      try {
        const clients = await Promise.all(['a', 'b'].map((id) => backend.connected({ id })))
        const names = ['public', 'private-room', 'presence-room', 'private-encrypted-room']
        const channels = []
        for (const client of clients) {
          for (const name of names) channels.push((await subscribed(client, name)).channel)
          client.signin()
          await next(client.connection, 'message', ({ event }) => event === 'pusher:signin_success')
        }
        const ids = clients.map((client) => client.connection.socket_id)
        const lost = clients.map((client) => next(client.connection, 'connecting'))
        const back = channels.map((channel) => next(channel, 'pusher:subscription_succeeded', () => true, 60_000))
        const again = clients.map((client) =>
          next(client.connection, 'message', ({ event }) => event === 'pusher:signin_success', 60_000),
        )
        const code = await server.stop(signal)
        assert.equal(code, signal === 'SIGTERM' ? 0 : signal)
        // What pusher-js finds closed when it first looks (after 4200, at once), it only tries again
        // after 15 seconds on Node; after a loss it first waits for a second.
        await server.run(server.port)
        await Promise.all([...lost, ...back, ...again])
        clients.forEach((client, i) => assert.notEqual(client.connection.socket_id, ids[i]))
        for (const name of names) {
          const heard = channels.filter((channel) => channel.name === name).map((channel) => next(channel, 'hello'))
          await backend.pusher.trigger(name, 'hello', { again: true })
          for (const { data } of await Promise.all(heard)) assert.deepEqual(data, { again: true })
        }
        const mail = next(clients[0].user, 'mail')
        await backend.pusher.sendToUser('a', 'mail', {})
        await mail
      } finally {
        await backend.close()
        await server.close()
      }
    })
  }
})

describe('drain', () => {
  test('every peer is told 4200 at a measured pace, and the process ends with 0 before its deadline', async () => {
    const server = await Server.start({ settings: { 'drain.deadline_s': 8, 'drain.per_second': 100 } })
    try {
      const raws = await Promise.all(Array.from({ length: 100 }, () => Raw.open(server)))
      await Promise.all(raws.map((raw) => raw.greet()))
      const began = Date.now()
      const exit = server.stop('SIGTERM', 9_000)
      const ends = await Promise.all(raws.map((raw) => raw.ended()))
      assert.deepEqual([...new Set(ends.map(({ code }) => code))], [4200])
      assert.equal(await exit, 0)
      assert.ok(Date.now() - began < 8_500, `${Date.now() - began} ms`)
    } finally {
      await server.close()
    }
  })

  test('pusher-js hears 4200 and looks for another server at once', async () => {
    const server = await Server.start()
    const backend = await Backend.start(server)
    try {
      const client = await backend.connected()
      const told = next(client.connection, 'error', (error) => codeOf(error) === 4200)
      const leaves = next(client.connection, 'connecting')
      const exit = server.stop()
      await told
      await leaves
      assert.equal(await exit, 0)
    } finally {
      await backend.close()
      await server.close()
    }
  })

  test('a peer that never answers the close does not hold the process beyond its deadline', async () => {
    const server = await Server.start({ settings: { 'drain.deadline_s': 2, 'websocket.close_timeout_s': 60 } })
    try {
      const raw = await Raw.open(server)
      await raw.greet()
      raw.socket._socket.pause()
      assert.equal(await server.stop('SIGTERM', 5_000), 0)
      raw.socket.terminate()
    } finally {
      await server.close()
    }
  })

  test('SIGINT stops it as well', async () => {
    const server = await Server.start()
    try {
      assert.equal(await server.stop('SIGINT'), 0)
    } finally {
      await server.close()
    }
  })
})

describe('a slow reader', () => {
  test('is closed, and slows nobody else', async () => {
    const server = await Server.start({
      settings: { 'limits.outbox_bytes_high_water': 1 << 20 },
      apps: [{ ...APP, ...FEATURES }],
    })
    const backend = await Backend.start(server)
    try {
      const slow = await Raw.open(server)
      const quick = await Raw.open(server)
      for (const raw of [slow, quick]) {
        await raw.greet()
        raw.send('pusher:subscribe', { channel: 'flood' })
        await raw.next('pusher_internal:subscription_succeeded')
      }
      slow.socket._socket.pause()
      // More than the two kernels' socket buffers and the outbox hold.
      const text = 'x'.repeat(90_000)
      for (let n = 0; n < 300; n += 1) {
        await backend.pusher.trigger('flood', 'n', { n, text })
        assert.equal(JSON.parse((await quick.next('n')).data).n, n)
      }
      slow.socket._socket.resume()
      const { code } = await slow.ended()
      assert.ok([4100, 1006].includes(code), `${code}`)
      assert.ok(slow.messages.filter(({ event }) => event === 'n').length < 300)
    } finally {
      await backend.close()
      await server.close()
    }
  })
})

describe('start', () => {
  test('the banner is short and true', async () => {
    const server = await Server.start()
    try {
      await within((async () => (await fetch(`http://127.0.0.1:${server.port}/up`)).text())(), '/up')
      const lines = server.text.trim().split('\n')
      assert.ok(lines.length <= 12, server.text)
      assert.ok(!server.text.includes(APP.secret), 'a configured secret is never printed')
    } finally {
      await server.close()
    }
  })
})
