// Hypothesis and authrequest, spoken as their documentation's own examples do, by a client we did not write; events
// come in through the stock Pusher server library.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import PusherHttp from 'pusher'
import WebSocket from 'ws'
import { APP, PATIENCE_MS, Server, within } from './harness.js'

let server
let pusher

before(async () => {
  server = await Server.start({
    settings: { 'hypothesis.app': APP.id, 'authrequest.app': APP.id },
    apps: [{ ...APP, bridge: ['news'] }],
    tables: {
      'hypothesis.tokens': [
        { token: 'joe', user: 'acct:joe.bloggs@hypothes.is', groups: ['g1'] },
        { token: 'eve', user: 'acct:eve@hypothes.is' },
      ],
      'authrequest.tokens': [
        { token: 'c04c7ff7-5fa1-48fb-aa2a-bcf97a6b8a79', user: 'u1', account: 'a1', permissions: ['account_events'] },
        { token: 'plain', user: 'u2', account: 'a1' },
      ],
    },
  })
  const { id: appId, key, secret } = APP
  const { port } = server
  pusher = new PusherHttp({ appId, key, secret, host: '127.0.0.1', port, useTLS: false, timeout: PATIENCE_MS })
})
after(() => server.close())

// A peer that keeps what it hears.
class Peer {
  static async open(path, options) {
    const peer = new Peer()
    peer.socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, options)
    peer.heard = []
    peer.socket.on('message', (bytes, binary) => {
      assert.equal(binary, false)
      peer.heard.push(JSON.parse(bytes))
      peer.socket.emit('heard')
    })
    await within(once(peer.socket, 'open'), 'the upgrade')
    return peer
  }

  send(message) {
    this.socket.send(JSON.stringify(message))
  }

  async next(type) {
    const find = async () => {
      for (;;) {
        const at = this.heard.findIndex((message) => message.type === type)
        if (at >= 0) return this.heard.splice(at, 1)[0]
        await once(this.socket, 'heard')
      }
    }
    return within(find(), type)
  }
}

const filter = (field, value) => ({
  filter: {
    match_policy: 'include_any',
    clauses: [{ field, operator: 'one_of', value, case_sensitive: false }],
    actions: { create: true, update: true, delete: true },
  },
})

test('Hypothesis: ping and whoami as documented, by header and by query', async () => {
  const listener = await Peer.open('/ws', { headers: { Authorization: 'Bearer joe' } })
  listener.send({ id: 123, type: 'ping' })
  assert.deepEqual(await listener.next('pong'), { ok: true, reply_to: 123, type: 'pong' })
  listener.send({ id: 123, type: 'whoami' })
  const who = { ok: true, reply_to: 123, type: 'whoyouare', userid: 'acct:joe.bloggs@hypothes.is' }
  assert.deepEqual(await listener.next('whoyouare'), who)
  const browser = await Peer.open('/ws?access_token=eve', { origin: 'https://a.page.example' })
  browser.send({ id: 1, type: 'whoami' })
  assert.equal((await browser.next('whoyouare')).userid, 'acct:eve@hypothes.is')
  // Nothing is negotiated, whatever is offered.
  assert.equal(browser.socket.extensions, '')
  listener.socket.close(1000)
  browser.socket.close(1000)
})

test('Hypothesis: an annotation reaches who may have it, and nobody else', async () => {
  const [joe, eve] = await Promise.all(['joe', 'eve'].map((token) => Peer.open(`/ws?access_token=${token}`)))
  for (const peer of [joe, eve]) {
    peer.send(filter('/uri', ['https://example.com/a']))
    peer.send({ id: 1, type: 'whoami' })
    await peer.next('whoyouare')
  }
  const annotation = (id, group) => ({ id, group, user: 'acct:ann@hypothes.is', uri: 'http://example.com/a/#top' })
  for (const [id, group] of [['A1', 'g1'], ['A2', '__world__']]) {
    const body = { action: 'create', annotation: annotation(id, group), visibility: { shared: true } }
    assert.equal((await pusher.post({ path: '/hypothesis/events', body })).status, 202)
  }
  assert.deepEqual((await joe.next('annotation-notification')).payload, [annotation('A1', 'g1')])
  const world = { type: 'annotation-notification', options: { action: 'create' }, payload: [annotation('A2', '__world__')] }
  assert.deepEqual(await joe.next('annotation-notification'), world)
  assert.deepEqual(await eve.next('annotation-notification'), world)
  assert.deepEqual(eve.heard, [])
  joe.socket.close(1000)
  eve.socket.close(1000)
})

test('authrequest: the documented example, then both streams', async () => {
  const client = new WebSocket(`ws://127.0.0.1:${server.port}/`)
  const events = []
  const done = new Promise((resolve) => {
    client.onmessage = (event) => {
      const message = JSON.parse(event.data)
      if (message.type === 'authresponse' && message.success === true) {
        client.send(JSON.stringify({ type: 'startusereventrequest' }))
        client.send(JSON.stringify({ type: 'startaccounteventrequest' }))
      }
      if (message.type === 'startaccounteventresponse' && message.success === true) resolve()
      if (message.type.endsWith('event')) events.push(message)
    }
  })
  client.onopen = () =>
    client.send(JSON.stringify({ type: 'authrequest', token: 'c04c7ff7-5fa1-48fb-aa2a-bcf97a6b8a79' }))
  await within(done, 'startaccounteventresponse')
  const body = {
    accountId: 'a1',
    userId: 'u1',
    category: 'voice',
    subCategory: 'incoming',
    eventName: 'answer',
    eventTimestamp: '2022-10-22T03:54:05+00:00',
    data: { trackingId: 't1', userData: { id: 'u1' }, type: 'not this' },
  }
  assert.equal((await pusher.post({ path: '/authrequest/events', body })).status, 202)
  await pusher.trigger('news', 'greeting', { text: 'hi' })
  const all = async () => {
    while (events.length < 3) await once(client, 'message')
  }
  await within(all(), 'three events')
  const of = (type) => events.filter((event) => event.type === type)
  const { accountId: _, data: { type: __, ...data }, ...common } = body
  assert.deepEqual(of('userevent'), [{ type: 'userevent', ...common, ...data }])
  const [call, news] = of('accountevent').sort((a, b) => (a.category < b.category ? 1 : -1))
  assert.deepEqual(call, { type: 'accountevent', ...common, ...data })
  assert.equal(`${news.category}.${news.subCategory}.${news.eventName}`, 'channel.news.greeting')
  assert.equal(news.text, 'hi')
  assert.match(news.eventTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$/)
  client.close()
})

test('authrequest: without the privilege, without a token, and revoked', async () => {
  const peer = await Peer.open('/realtime')
  peer.send({ type: 'startusereventrequest' })
  assert.equal((await peer.next('startusereventresponse')).error, 'not_authenticated')
  peer.send({ type: 'authrequest', token: 'nobody' })
  assert.equal((await peer.next('authresponse')).error, 'invalid_token')
  peer.send({ type: 'authrequest', token: 'plain' })
  assert.deepEqual(await peer.next('authresponse'), { type: 'authresponse', success: true })
  peer.send({ type: 'startaccounteventrequest' })
  assert.equal((await peer.next('startaccounteventresponse')).error, 'forbidden')
  const closed = once(peer.socket, 'close')
  const revoke = { path: '/authrequest/revoke', body: { userId: 'u2', accountId: 'a1' } }
  assert.equal((await pusher.post(revoke)).status, 202)
  const [code, reason] = await within(closed, 'the close')
  assert.deepEqual([code, reason.toString()], [1008, 'session revoked'])
})
