// Hotsock with the token library and the WebSocket client that Node's people use: every algorithm a token may be
// signed with, and a conversation over WebSocket, the client HTTP API and the server API.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import * as jose from 'jose'
import WebSocket from 'ws'
import { APP, PATIENCE_MS, Server, within } from './harness.js'

const KEY = 'a-bearer-key-for-the-tests-0123456789abc'
const SECRET = new Uint8Array(64).fill(7)
const HMAC = ['HS256', 'HS384', 'HS512']
const PAIRS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
const ALL = [...HMAC, ...PAIRS]

let server
const signers = {}

before(async () => {
  const base64 = (bytes) => Buffer.from(bytes).toString('base64')
  const keys = HMAC.map((method) => ({ method, id: method, key_base64: base64(SECRET) }))
  for (const method of HMAC) signers[method] = SECRET
  for (const method of PAIRS) {
    const { publicKey, privateKey } = await jose.generateKeyPair(method, { extractable: true })
    signers[method] = privateKey
    keys.push({ method, id: method, key_base64: base64(await jose.exportSPKI(publicKey)) })
  }
  server = await Server.start({
    settings: { 'hotsock.app': APP.id },
    apps: [{ ...APP, bridge: ['news'] }],
    tables: { 'hotsock.keys': keys, 'hotsock.api_keys': [{ key: KEY }] },
  })
})
after(() => server.close())

const token = (claims, { alg = 'HS256', kid = alg, key = signers[alg] } = {}) =>
  new jose.SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'JWT' }).setExpirationTime('1m').sign(key)

// A peer that keeps what it hears.
class Peer {
  static async open(claims, how) {
    const peer = new Peer()
    const url = `ws://127.0.0.1:${server.port}/v1?token=${await token({ scope: 'connect', ...claims }, how)}`
    peer.socket = new WebSocket(url)
    peer.heard = []
    peer.socket.on('message', (bytes, binary) => {
      assert.equal(binary, false)
      peer.heard.push(JSON.parse(bytes))
      peer.socket.emit('heard')
    })
    const refused = new Promise((resolve) => {
      peer.socket.on('unexpected-response', (_, response) => {
        peer.socket.on('error', () => {})
        peer.socket.terminate()
        resolve(response.statusCode)
      })
    })
    peer.status = await within(Promise.race([once(peer.socket, 'open').then(() => 101), refused]), 'the upgrade')
    return peer
  }

  send(message) {
    this.socket.send(JSON.stringify(message))
  }

  async next(event) {
    const until = Date.now() + PATIENCE_MS
    for (;;) {
      const at = this.heard.findIndex((it) => it.event === event)
      if (at >= 0) return this.heard.splice(at, 1)[0]
      await within(once(this.socket, 'heard'), event, until - Date.now())
    }
  }

  async greeted() {
    this.connected = (await this.next('hotsock.connected')).data
    return this
  }

  async call(operation, body) {
    const { connectionId, connectionSecret } = this.connected
    const query = new URLSearchParams({ connectionId, connectionSecret })
    const url = `http://127.0.0.1:${server.port}/connection/${operation}?${query}`
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) })
    return { status: answer.status, body: await answer.json() }
  }
}

const publish = async (body) => {
  const headers = { authorization: `Bearer ${KEY}` }
  const url = `http://127.0.0.1:${server.port}/publish`
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
  return { status: answer.status, body: await answer.json() }
}

describe('tokens', () => {
  for (const alg of ALL) {
    test(`signed with ${alg} open a connection, as their claims say`, async () => {
      const peer = await Peer.open({ uid: alg }, { alg })
      assert.equal(peer.status, 101)
      assert.deepEqual((await peer.next('hotsock.connected')).meta, { uid: alg, umd: null })
      peer.socket.close()
    })
  }

  test('of one algorithm are not tried against the key of another', async () => {
    // A public key is no secret: whoever signs with it as if it were one is refused.
    const spki = await jose.exportSPKI((await jose.generateKeyPair('RS256', { extractable: true })).publicKey)
    const confused = await Peer.open({}, { alg: 'HS256', kid: 'RS256', key: new TextEncoder().encode(spki) })
    assert.equal(confused.status, 401)
    assert.equal((await Peer.open({}, { alg: 'PS256', kid: 'RS256' })).status, 401)
    const other = (await jose.generateKeyPair('ES256')).privateKey
    assert.equal((await Peer.open({}, { alg: 'ES256', key: other })).status, 401)
  })
})

test('a conversation over WebSocket, HTTP and the back end', async () => {
  const channels = {
    'room.*': {
      subscribe: true,
      historyStart: 0,
      messages: { chat: { publish: true, echo: true, store: 60 } },
      storage: { topic: { get: true, set: true, observe: true } },
    },
  }
  const ann = await (await Peer.open({ uid: 'ann', channels })).greeted()
  const bob = await (await Peer.open({ uid: 'bob', channels }, { alg: 'EdDSA' })).greeted()
  for (const peer of [ann, bob]) {
    peer.send({ event: 'hotsock.subscribe', channel: 'room.1' })
    await peer.next('hotsock.subscribed')
  }
  ann.send({ event: 'chat', channel: 'room.1', data: 'hi' })
  const own = await ann.next('chat')
  assert.deepEqual(await bob.next('chat'), own)
  assert.deepEqual(own.meta, { uid: 'ann', umd: null })
  const told = await bob.call('publishMessage', { channel: 'room.1', event: 'chat', data: 1, eagerIdGeneration: true })
  assert.equal(told.status, 202)
  assert.equal((await ann.next('chat')).id, told.body.id)
  assert.ok(told.body.id > own.id)
  ann.send({ event: 'hotsock.channelStorageSet', channel: 'room.1', key: 'topic', data: { a: 1 } })
  for (const peer of [ann, bob]) {
    assert.deepEqual((await peer.next('hotsock.channelStorageUpdated')).data, { a: 1 })
  }
  assert.deepEqual(await publish({ channel: 'room.1', event: 'tick' }), {
    status: 202,
    body: { channel: 'room.1', event: 'tick' },
  })
  assert.deepEqual(Object.keys(await ann.next('tick')), ['id', 'event', 'channel', 'data'])
  const { messages } = (await bob.call('listMessages', { channel: 'room.1' })).body
  assert.deepEqual(
    messages.map(({ id }) => id),
    [own.id, told.body.id],
  )
  const closed = once(ann.socket, 'close')
  ann.socket.close()
  await within(closed, 'the close')
  assert.equal((await ann.call('listMessages', { channel: 'room.1' })).status, 401)
  bob.socket.terminate()
})
