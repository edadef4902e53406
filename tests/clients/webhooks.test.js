// Webhooks as the stock server SDK checks and reads them.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, before, describe, test } from 'node:test'
import { APP, Backend, FEATURES, Server, next, subscribed } from './harness.js'

describe('webhooks', () => {
  let server, backend, receiver
  const told = []
  before(async () => {
    receiver = http.createServer((request, response) => {
      let rawBody = ''
      request.on('data', (part) => (rawBody += part))
      request.on('end', () => {
        told.push({ headers: request.headers, rawBody })
        response.end()
      })
    })
    await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve))
    server = await Server.start({
      apps: [{ ...APP, ...FEATURES }],
      tables: {
        'webhooks.receivers': [{
          name: 'sdk',
          url: `http://127.0.0.1:${receiver.address().port}/hook`,
          allow_private: true,
          format: 'sockudo',
        }],
      },
    })
    backend = await Backend.start(server)
  })
  after(async () => {
    await backend?.close()
    await server?.close()
    receiver?.close()
  })

  async function until(find) {
    const end = Date.now() + 10_000
    for (;;) {
      const found = told.map((request) => find(request)).find((it) => it)
      if (found) return found
      assert.ok(Date.now() < end, 'it was not told')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  test('the SDK finds them valid, with their events, and nobody else does', async () => {
    const [a, b] = await Promise.all(['1', '2'].map((id) => backend.connected({ id })))
    const { channel } = await subscribed(a, 'presence-hooks')
    const { channel: other } = await subscribed(b, 'presence-hooks')
    const got = next(other, 'client-e')
    channel.trigger('client-e', { n: 1 })
    await got
    const of = (name) => (request) => {
      const webhook = backend.pusher.webhook(request)
      assert.ok(webhook.isValid())
      assert.ok(Math.abs(Date.now() - webhook.getTime().getTime()) < 60_000)
      return webhook.getEvents().find((event) => event.name === name)
    }
    const event = await until(of('client_event'))
    assert.deepEqual(event, {
      name: 'client_event', channel: 'presence-hooks', event: 'client-e', data: { n: 1 },
      socket_id: a.connection.socket_id, user_id: '1',
    })
    assert.equal((await until(of('member_added'))).channel, 'presence-hooks')
    assert.equal((await until(of('channel_occupied'))).channel, 'presence-hooks')
    const changed = { ...told[0], rawBody: told[0].rawBody.replace('"time_ms":', '"time_ms":1') }
    assert.ok(!backend.pusher.webhook(changed).isValid())
  })
})
