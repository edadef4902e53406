// Push notifications end to end: requests as applications send them, the real binary, servers that hold it to the rules of
// each provider, and the browsers' own cryptography in an independent implementation.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import ece from 'http_ece'
import webPush from 'web-push'
import { APP, Backend, FEATURES, Server, next, subscribed } from './harness.js'
import { PushApi, apns, fcm, hms, to, web, wns } from './push-client.js'
import { PushProviders } from './push-providers.js'

const KEY = Buffer.alloc(32, 9).toString('base64url')
const TEXT = { title: 'Order updated', body: 'Order ord_123 moved to packing', data: { order_id: 'ord_123' } }
const MESSAGE = 'message'

const sum = ({ succeeded, failed, expired, skipped, deadLettered }) => succeeded + failed + expired + (skipped ?? 0) + deadLettered

describe('push', () => {
  let providers, server, api, backend, receiver
  const told = []
  let number = 0
  // Names and channels that no other test has.
  const fresh = (word) => `${word}-${(number += 1)}`
  const settings = {
    'push.enabled': 'on',
    'push.log': 'off',
    'push.encryption_key': KEY,
    'push.timeout_s': '1500ms',
    'push.retry_first_s': '50ms',
    'push.retry_longest_s': '2s',
    'push.attempts_max': 3,
    'push.publishes_per_second_max': 10_000,
  }

  before(async () => {
    receiver = http.createServer((request, response) => {
      let body = ''
      request.on('data', (part) => (body += part))
      request.on('end', () => {
        told.push({ headers: request.headers, body: JSON.parse(body) })
        response.end()
      })
    })
    receiver.listen(0, '127.0.0.1')
    await once(receiver, 'listening')
    providers = await PushProviders.start({ tls: true })
    process.env.SSL_CERT_FILE = providers.caFile
    server = await Server.start({
      settings: { ...settings, ...providers.settings },
      apps: [{ ...APP, ...FEATURES }],
      tables: {
        'webhooks.receivers': [{
          name: 'push',
          url: `http://127.0.0.1:${receiver.address().port}/push`,
          allow_private: true,
          types: ['push.*'],
        }],
      },
    })
    delete process.env.SSL_CERT_FILE
    api = new PushApi(server)
    backend = await Backend.start(server)
    for (const [provider, body] of Object.entries(providers.credentials)) {
      await api.push('POST', `credentials/${provider}`, body)
    }
  })
  after(async () => {
    await backend?.close()
    await server?.close()
    await providers?.close()
    receiver?.closeAllConnections()
    receiver?.close()
  })
  beforeEach(() => (providers.faults = []))

  // What a provider was sent at an address.
  const sent = (address) => providers.received.filter((it) => it.at === MESSAGE && it.address === address)

  const make = {
    webPush: () => {
      const subscription = providers.subscription()
      return [web(subscription), subscription.endpoint]
    },
    fcm: (name) => [fcm, providers.fcmToken(name)],
    apns: (name) => [apns, providers.apnsToken(name)],
    hms: (name) => [hms, providers.hmsToken(name)],
    wns: (name) => [wns, providers.wnsUri(name)],
  }
  // A registered device of a provider: its id and its address.
  async function device(provider, { name, ...more } = {}) {
    const [how, address] = make[provider](name)
    const id = fresh(provider)
    await api.register(id, typeof how === 'function' ? how(address) : how, more)
    return { id, address }
  }

  test('credentials are told without their secrets', async () => {
    const { items } = await api.push('GET', 'credentials')
    assert.deepEqual(items.map((it) => it.provider).sort(), ['apns', 'fcm', 'hms', 'webPush', 'wns'])
    const text = JSON.stringify(items)
    for (const secret of [providers.credentials.webpush.privateKey, providers.hms.secret, providers.wns.secret, 'PRIVATE KEY']) {
      assert.ok(!text.includes(secret))
    }
  })

  // What each provider is to be sent, as it came.
  const expected = {
    webPush: ({ body, headers }) => {
      assert.deepEqual(body.notification, { title: TEXT.title, body: TEXT.body })
      assert.deepEqual(body.data, TEXT.data)
      assert.equal(headers['content-encoding'], 'aes128gcm')
    },
    fcm: ({ body, isHttp2 }) => {
      assert.equal(body.message.notification.title, TEXT.title)
      assert.equal(body.message.notification.body, TEXT.body)
      assert.deepEqual(body.message.data, TEXT.data)
      assert.ok(isHttp2 !== undefined)
    },
    apns: ({ body, headers, isHttp2 }) => {
      assert.deepEqual(body.aps.alert, { title: TEXT.title, body: TEXT.body })
      assert.equal(body.order_id ?? body.data?.order_id, 'ord_123')
      assert.equal(headers['apns-push-type'], 'alert')
      assert.ok(isHttp2)
    },
    hms: ({ body }) => {
      const text = JSON.stringify(body)
      assert.ok(text.includes(TEXT.title) && text.includes(TEXT.body) && text.includes('ord_123'), text)
    },
    wns: ({ body }) => assert.ok(body.includes(TEXT.title) && body.includes(TEXT.body), body),
  }
  for (const [provider, check] of Object.entries(expected)) {
    test(`${provider}: a publish to a channel arrives once, and is accounted for`, async () => {
      const { id, address } = await device(provider)
      const channel = fresh('orders')
      await api.subscribe(id, channel)
      const answer = await api.publish({ recipients: [to.channel(channel)], payload: TEXT, sync: true })
      assert.equal(answer.status, 'succeeded')
      assert.equal(answer.publish_id, answer.publishId)
      const arrived = sent(address)
      assert.equal(arrived.length, 1)
      check(arrived[0])
      const { counters, state } = await api.status(answer.publishId)
      assert.equal(state, 'succeeded')
      assert.deepEqual([counters.planned, counters.succeeded, sum(counters)], [1, 1, 1])
      const [outcome] = await api.outcomes(answer.publishId)
      assert.equal(outcome.outcome, 'accepted')
      assert.equal(outcome.attempts, 1)
      assert.equal(outcome.deviceId, id)
    })

    // HMS says of no token that it is no more, only that it is none for the app.
    const forgets = provider !== 'hms'
    test(`${provider}: who is gone is ${forgets ? 'forgotten' : 'counted'}`, async () => {
      const { id, address } = await device(provider)
      const channel = fresh('gone')
      await api.subscribe(id, channel)
      const name = provider === 'webPush' ? new URL(address).pathname.split('/').at(-1) : address
      providers.gone(provider, name)
      const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT, sync: true })
      const [outcome] = await api.outcomes(publishId)
      assert.equal(outcome.outcome, forgets ? 'gone' : 'failed')
      if (!forgets) return await api.untilState(id, 'FAILING')
      await api.untilGone(id)
      const { items } = await api.push('GET', 'channelSubscriptions', undefined, { query: { channel } })
      assert.deepEqual(items, [])
    })

    test(`${provider}: what it is too busy for comes after its Retry-After, once`, async () => {
      const { id, address } = await device(provider)
      providers.fault({ provider, kind: 'throttle', retry_after: 1 })
      const start = Date.now()
      const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT })
      const { counters } = await api.until(publishId)
      assert.equal(counters.succeeded, 1)
      assert.ok(Date.now() - start >= 900, 'it was left alone')
      const statuses = sent(address).map((it) => it.status)
      assert.deepEqual(statuses.slice(-1).map((it) => Math.floor(it / 100)), [2])
      assert.ok(statuses.length <= 2)
    })

    test(`${provider}: what fails is tried again, and nothing is lost`, async () => {
      const { id, address } = await device(provider)
      providers.fault({ provider, kind: 'status', status: 500 })
      const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT })
      assert.equal((await api.until(publishId)).state, 'succeeded')
      const [outcome] = await api.outcomes(publishId)
      assert.equal(outcome.attempts, 2)
      assert.equal(sent(address).filter((it) => it.status < 300).length, 1)
    })

    for (const kind of ['goaway', 'refuse', 'hang']) {
      test(`${provider}: ${kind}, and then it arrives`, async () => {
        const { id, address } = await device(provider)
        providers.fault({ provider, kind })
        const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT })
        assert.equal((await api.until(publishId)).state, 'succeeded')
        assert.equal(sent(address).length, 1)
      })
    }

    test(`${provider}: a slow answer is waited for`, async () => {
      const { id, address } = await device(provider)
      providers.fault({ provider, kind: 'slow', ms: 700 })
      const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT, sync: true })
      assert.equal((await api.until(publishId)).state, 'succeeded')
      assert.equal(sent(address).length, 1)
    })
  }

  for (const provider of ['fcm', 'hms', 'wns']) {
    test(`${provider}: one access token serves many, and another is fetched when it is over`, async () => {
      const tokens = () => providers.received.filter((it) => it.provider === provider && it.at === 'token').length
      const channel = fresh('tokens')
      const all = await Promise.all(Array.from({ length: 20 }, () => device(provider)))
      await Promise.all(all.map(({ id }) => api.subscribe(id, channel)))
      const publish = () => api.publish({ recipients: [to.channel(channel)], payload: TEXT, sync: true })
      await publish()
      const before = tokens()
      assert.ok(before >= 1)
      providers.fault({ provider, kind: 'expired' })
      const { publishId } = await publish()
      assert.equal((await api.until(publishId)).counters.succeeded, 20)
      assert.equal(tokens(), before + 1)
    })
  }

  test('a browser reads it with an implementation of its own', async () => {
    const browser = crypto.createECDH('prime256v1')
    browser.generateKeys()
    const auth = crypto.randomBytes(16)
    const endpoint = `${providers.url}/push/any-${crypto.randomUUID()}`
    const subscription = { endpoint, keys: { p256dh: browser.getPublicKey('base64url'), auth: auth.toString('base64url') } }
    const id = fresh('browser')
    // As browsers give it, in the documentation's spelling.
    await api.push('POST', 'deviceRegistrations', { device_id: id, platform: 'browser', provider_token: subscription })
    await api.publish({ recipients: [to.device(id)], payload: { ...TEXT, body: 'ÄÖ — 🦀', collapseKey: 'order' }, sync: true })
    const [message] = sent(endpoint)
    const sealed = Buffer.from(message.body, 'base64')
    const open = ece.decrypt(sealed, { version: 'aes128gcm', privateKey: browser, authSecret: auth.toString('base64url') })
    const read = JSON.parse(open)
    assert.equal(read.notification.body, 'ÄÖ — 🦀')
    assert.deepEqual(read.data, TEXT.data)
    assert.match(message.headers.topic, /^[\w-]{1,32}$/)
    // What web-push itself would send to the same browser has the same head.
    const theirs = webPush.generateRequestDetails(subscription, open, {
      vapidDetails: { ...providers.credentials.webpush },
      TTL: 60,
    })
    for (const name of ['Content-Encoding', 'Content-Type', 'TTL']) assert.ok(message.headers[name.toLowerCase()], name)
    const claims = (field) => JSON.parse(Buffer.from(/t=[^.]+\.([^.]+)\./.exec(field)[1], 'base64url'))
    const [own, other] = [message.headers.authorization, theirs.headers.Authorization].map(claims)
    assert.equal(own.aud, other.aud)
    assert.equal(own.sub, other.sub)
  })

  test('who waits is told that there was nobody to send to', async () => {
    const answer = await api.publish({ recipients: [to.channel(fresh('nobody'))], payload: TEXT, sync: true })
    assert.equal(answer.status, 'succeeded')
    assert.deepEqual(answer.outcomes, [])
  })

  test('an APNs token is signed once for many', async () => {
    const all = await Promise.all(Array.from({ length: 10 }, () => device('apns')))
    const { publishId } = await api.publish({ recipients: all.map(({ id }) => to.device(id)), payload: TEXT, sync: true })
    assert.equal((await api.until(publishId)).counters.succeeded, 10)
    const signed = all.map(({ address }) => sent(address)[0].headers.authorization)
    assert.equal(new Set(signed).size, 1)
  })

  test('the documentation\'s bodies work, field for field', async () => {
    const [device_id, channel] = [fresh('ios-device'), fresh('orders')]
    const registered = await api.push('POST', 'deviceRegistrations', {
      device_id, client_id: 'user-42', platform: 'apns', provider_token: providers.apnsToken(), metadata: { app_version: '4.5.0' },
    })
    assert.equal(registered.change, 'inserted')
    await api.push('POST', 'channelSubscriptions', { device_id, channel, client_id: 'user-42' })
    const body = {
      recipients: [{ type: 'channel', channel }],
      payload: { title: 'Order updated', body: 'Order ord_123 moved to packing', data: { order_id: 'ord_123' } },
      sync: false,
      idempotency_key: fresh('push-order'),
    }
    const { publish_id } = await api.publish(body)
    assert.ok(publish_id)
    assert.equal((await api.publish(body)).publish_id, publish_id)
    assert.equal((await api.until(publish_id)).state, 'succeeded')
    await api.publish({ ...body, payload: { title: 'other' } }, { status: 409 })
  })

  test('templates speak the device\'s language, and miss no value', async () => {
    const templateId = fresh('packed')
    const locales = {
      en: { title: 'Packed', body: 'Order {{order}} is packed' },
      de: { title: 'Verpackt', body: 'Bestellung {{order}} ist verpackt' },
    }
    await api.push('POST', 'templates', { appId: APP.id, templateId, defaultLocale: 'en', locales })
    const client = fresh('reader')
    const all = {}
    for (const locale of ['de-AT', 'de', 'fr', 'en-GB']) all[locale] = await device('fcm', { locale, clientId: client })
    const { publishId } = await api.publish({
      recipients: [to.client(client)], payload: { templateId, templateData: { order: 'o<1>' } }, sync: true,
    })
    assert.equal((await api.until(publishId)).counters.succeeded, 4)
    const titles = Object.fromEntries(Object.entries(all).map(([locale, { address }]) => [locale, sent(address)[0].body.message.notification]))
    assert.deepEqual(titles, {
      'de-AT': { title: 'Verpackt', body: 'Bestellung o<1> ist verpackt' },
      de: { title: 'Verpackt', body: 'Bestellung o<1> ist verpackt' },
      fr: { title: 'Packed', body: 'Order o<1> is packed' },
      'en-GB': { title: 'Packed', body: 'Order o<1> is packed' },
    })
    const refused = await api.publish({ recipients: [to.client(client)], payload: { templateId, templateData: {} } }, { status: 400 })
    assert.match(JSON.stringify(refused), /order/)
  })

  test('a topic of the provider\'s is one message, and an override is sent as it is', async () => {
    const topic = fresh('news')
    const { id, address } = await device('apns')
    const raw = { aps: { alert: 'as it is', badge: 3 }, own: { n: 1 } }
    const { publishId } = await api.publish({
      recipients: [{ type: 'providerTopic', provider: 'fcm', topic }, to.device(id)],
      payload: TEXT,
      providerOverrides: [{ provider: 'apns', payload: raw }],
      sync: true,
    })
    assert.equal((await api.until(publishId)).counters.succeeded, 2)
    const [message] = await providers.until((it) => it.body?.message?.topic === topic)
    assert.equal(message.body.message.notification.title, TEXT.title)
    assert.deepEqual(sent(address)[0].body, raw)
    const outcomes = await api.outcomes(publishId)
    assert.deepEqual(outcomes.map((it) => it.target ?? it.deviceId).sort(), [0, id].sort())
  })

  test('a broadcast channel of Live Activities is made, told to and removed', async () => {
    const { channelId } = await api.push('POST', 'liveActivities/channels', { storagePolicy: 1 }, { status: 201 })
    const path = `liveActivities/channels/${encodeURIComponent(channelId)}`
    assert.equal((await api.push('GET', path)).storagePolicy, 1)
    const { items } = await api.push('GET', 'liveActivities/channels')
    assert.ok(items.some((it) => it.channelId === channelId))
    const recipient = { transportType: 'apnsLiveActivityBroadcast', channelId, storagePolicy: 1 }
    const { publishId } = await api.publish({
      recipients: [{ type: 'recipient', recipient }],
      payload: {},
      liveActivity: { event: 'update', 'content-state': { minutes: 7 } },
      sync: true,
    })
    assert.equal((await api.until(publishId)).state, 'succeeded')
    const [message] = await providers.until((it) => it.at === 'broadcast' && it.address === channelId)
    assert.deepEqual(message.body.aps['content-state'], { minutes: 7 })
    await api.push('DELETE', path)
    await api.push('GET', path, undefined, { status: 404 })
  })

  test('what is too large to be waited for is not', async () => {
    const channel = fresh('large')
    for (let at = 0; at < 300; at += 50) {
      await Promise.all(Array.from({ length: 50 }, async () => api.subscribe((await device('hms')).id, channel)))
    }
    const answer = await api.ask('POST', 'push/publish', { recipients: [to.channel(channel)], payload: TEXT, sync: true })
    assert.equal(answer.status, 202)
    assert.ok(answer.headers.get('x-sockudo-forced-async'))
    assert.equal((await api.until(answer.json.publishId)).counters.succeeded, 300)
  })

  test('a batch is taken in order, each for itself', async () => {
    const [a, b] = [await device('fcm'), await device('hms')]
    const { items } = await api.push('POST', 'batch/publish', [
      { recipients: [to.device(a.id)], payload: { title: 'a' } },
      { recipients: [to.device(b.id)], payload: { title: 'b' } },
    ])
    assert.equal(items.length, 2)
    for (const item of items) assert.equal((await api.until(item.publishId)).state, 'succeeded')
    assert.equal(sent(a.address)[0].body.message.notification.title, 'a')
    assert.equal(sent(b.address).length, 1)
  })

  test('later means later, and called off means never', async () => {
    const [a, b] = [await device('fcm'), await device('fcm')]
    const notBeforeMs = Date.now() + 1500
    const later = await api.publish({ recipients: [to.device(a.id)], payload: TEXT, notBeforeMs })
    const never = await api.publish({ recipients: [to.device(b.id)], payload: TEXT, notBeforeMs })
    assert.equal((await api.status(later.publishId)).state, 'accepted')
    await api.push('DELETE', `scheduled/${never.publishId}`)
    await api.push('DELETE', 'scheduled/nobody-knows-it')
    assert.equal((await api.until(later.publishId)).state, 'succeeded')
    assert.ok(sent(a.address)[0].time >= notBeforeMs - 5)
    assert.equal((await api.status(never.publishId)).state, 'cancelled')
    assert.equal(sent(b.address).length, 0)
  })

  test('what is too late is not sent', async () => {
    const { id, address } = await device('fcm')
    providers.fault({ provider: 'fcm', kind: 'status', status: 503, count: 2 })
    const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT, expiresAtMs: Date.now() + 60 })
    const { state, counters } = await api.until(publishId)
    assert.equal(state, 'expired', JSON.stringify(counters))
    assert.equal(sent(address).filter((it) => it.status < 300).length, 0)
  })

  test('a crowd is reached once each, and half a crowd where it is called off', async () => {
    const channel = fresh('crowd')
    const crowd = []
    for (let at = 0; at < 600; at += 50) {
      crowd.push(...await Promise.all(Array.from({ length: 50 }, async () => {
        const made = await device('hms')
        await api.subscribe(made.id, channel)
        return made
      })))
    }
    const all = await api.publish({ recipients: [to.channel(channel)], payload: TEXT })
    assert.equal(all.expectedRecipients, 600)
    const { counters } = await api.until(all.publishId)
    assert.deepEqual([counters.planned, counters.succeeded], [600, 600])
    const times = new Map()
    for (const { address } of providers.received.filter((it) => it.provider === 'hms' && it.at === MESSAGE)) {
      times.set(address, (times.get(address) ?? 0) + 1)
    }
    assert.ok(crowd.every(({ address }) => times.get(address) === 1))
    assert.equal((await api.outcomes(all.publishId)).length, 600)

    providers.fault({ provider: 'hms', kind: 'slow', ms: 300, count: 0 })
    const before = providers.received.length
    const half = await api.publish({ recipients: [to.channel(channel)], payload: TEXT })
    await providers.until((it) => it.n >= before && it.provider === 'hms' && it.at === MESSAGE)
    await api.push('DELETE', `publish/${half.publishId}`)
    const { state } = await api.status(half.publishId)
    assert.equal(state, 'cancelled')
    const settled = await api.until(half.publishId, ({ counters: it }) => it.planned === sum(it) || it.planned < 600)
    assert.ok(settled.counters.succeeded < 600, JSON.stringify(settled.counters))
  })

  test('what is given up is a dead letter, and can be tried again', async () => {
    const { id, address } = await device('fcm')
    providers.fault({ provider: 'fcm', kind: 'status', status: 500, count: 3 })
    const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT })
    const { state, counters } = await api.until(publishId)
    assert.equal(state, 'dead_lettered')
    assert.equal(counters.deadLettered, 1)
    const { items } = await api.push('GET', 'deadLetters', undefined, { query: { provider: 'fcm' } })
    const letter = items.find((it) => it.publishId === publishId)
    assert.equal(letter.replayable, true)
    assert.equal(letter.key, id)
    const { replayed } = await api.push('POST', `deadLetters/${letter.deadLetterId}/replay`, {}, { status: 202 })
    assert.equal(replayed, true)
    const again = await api.until(publishId, (it) => it.counters.succeeded === 1)
    assert.equal(again.counters.deadLettered, 0)
    assert.equal(sent(address).filter((it) => it.status < 300).length, 1)
    const left = await api.push('GET', 'deadLetters', undefined, { query: { provider: 'fcm' } })
    assert.ok(!left.items.some((it) => it.publishId === publishId))
  })

  test('callbacks say what came of it, if they are signed', async () => {
    const { id } = await device('fcm')
    const { publishId } = await api.publish({ recipients: [to.device(id)], payload: TEXT, sync: true })
    const body = {
      appId: APP.id, publishId, eventId: fresh('event'), occurredAtMs: Date.now(),
      result: { appId: APP.id, publishId, provider: 'fcm', batchId: 'b', deviceId: id, outcome: 'delivered', attempt: 1 },
    }
    assert.equal((await api.ask('POST', 'push/deliveryStatus', body, { secret: 'wrong' })).status, 401)
    await api.push('POST', 'deliveryStatus', body, { status: 202 })
    const [outcome] = await api.outcomes(publishId)
    assert.equal(outcome.outcome, 'delivered')
    const unknown = { ...body, publishId: 'nobody-knows-it', result: { ...body.result, publishId: 'nobody-knows-it' } }
    await api.push('POST', 'deliveryStatus', unknown, { status: 404 })
  })

  test('webhooks tell of what was taken, what failed, who is gone and what is finished', async () => {
    const { id: good } = await device('fcm')
    const { id: bad, address } = await device('fcm')
    providers.gone('fcm', address)
    const { publishId } = await api.publish({ recipients: [to.device(good), to.device(bad)], payload: TEXT })
    await api.until(publishId)
    const end = Date.now() + 10_000
    const of = () => Object.fromEntries(told.filter((it) => it.body.publish_id === publishId).map(({ body }) => [body.type, body]))
    while (Object.keys(of()).length < 3) {
      assert.ok(Date.now() < end, `told so far: ${JSON.stringify(of())}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const { 'push.accepted': taken, 'push.device_removed': gone, 'push.finished': finished } = of()
    assert.deepEqual([taken.app_id, taken.device_id, taken.provider, taken.outcome], [APP.id, good, 'fcm', 'accepted'])
    assert.deepEqual([gone.device_id, gone.outcome], [bad, 'gone'])
    assert.match(gone.reason, /UNREGISTERED/)
    assert.deepEqual([finished.state, finished.planned, finished.succeeded, finished.failed], ['partially_succeeded', 2, 1, 1])
  })

  test('who is connected can be left out', async () => {
    const user = fresh('ann')
    const client = await backend.connected({ id: user })
    client.signin()
    await client.user.signinDonePromise
    const here = await device('fcm', { clientId: user })
    const away = await device('fcm', { clientId: fresh('bob') })
    const channel = fresh('skip')
    for (const { id } of [here, away]) await api.subscribe(id, channel)
    const { publishId } = await api.publish({ recipients: [to.channel(channel)], payload: TEXT, skipConnected: true, sync: true })
    const outcomes = Object.fromEntries((await api.outcomes(publishId)).map((it) => [it.deviceId, it.outcome]))
    assert.deepEqual(outcomes, { [here.id]: 'connected', [away.id]: 'accepted' })
    assert.equal(sent(here.address).length, 0)
    client.disconnect()
  })

  for (const prefix of ['', 'durable-']) {
    test(`one publish reaches a socket and a phone${prefix && ', on a durable channel'}`, async () => {
      const client = await backend.connected({ id: fresh('carl') })
      const channel = fresh(`${prefix}both`)
      const { channel: socket } = await subscribed(client, channel)
      const { id, address } = await device('apns')
      await api.subscribe(id, channel)
      const heard = next(socket, 'order.packed')
      const event = { name: 'order.packed', channel, data: '{"n":1}', extras: { push: { title: 'Packed', body: 'ord_123' } } }
      const answer = await api.ask('POST', 'events', event)
      assert.equal(answer.status, 200, JSON.stringify(answer.json))
      assert.deepEqual((await heard).data, { n: 1 })
      const [message] = await providers.until((it) => it.address === address)
      assert.equal(message.body.aps.alert.title, 'Packed')
    })
  }

  test('the device itself may change its registration with its token, and no other', async () => {
    const token = providers.fcmToken()
    const id = fresh('own')
    const { deviceIdentityToken } = await api.register(id, fcm(token))
    assert.match(deviceIdentityToken, /^[\w-]{43}$/)
    const own = { id, platform: 'android', formFactor: 'phone', locale: 'de', timezone: 'Europe/Vienna', push: { recipient: fcm(providers.fcmToken()) } }
    const as = (identity) => ({ headers: { 'x-sockudo-push-capability': 'push-subscribe', ...(identity && { 'x-sockudo-device-identity-token': identity }) } })
    const changed = await api.push('POST', 'deviceRegistrations', own, as(deviceIdentityToken))
    assert.equal(changed.change, 'updated')
    await api.push('POST', 'deviceRegistrations', own, { ...as('x'.repeat(43)), status: 401 })
    await api.push('POST', 'deviceRegistrations', { ...own, id: fresh('unknown') }, { ...as(deviceIdentityToken), status: 403 })
    await api.push('POST', 'deviceRegistrations', own, { headers: { 'x-sockudo-push-capability': 'root' }, status: 403 })
  })

  test('one address is one device', async () => {
    const token = providers.fcmToken()
    const [older, newer, channel] = [fresh('older'), fresh('newer'), fresh('moves')]
    await api.register(older, fcm(token))
    await api.subscribe(older, channel)
    assert.equal((await api.register(newer, fcm(token))).replaced, older)
    await api.push('GET', `deviceRegistrations/${older}`, undefined, { status: 404 })
    const { items } = await api.push('GET', 'channelSubscriptions', undefined, { query: { channel } })
    assert.deepEqual(items, [])
  })

  test('bad input is refused by name, and nothing of it is kept', async () => {
    const id = fresh('bad')
    const registration = (more) => ['deviceRegistrations', { id, platform: 'android', formFactor: 'phone', push: { recipient: fcm('t') }, ...more }]
    const cases = [
      [/platform/, 400, ...registration({ platform: 'toaster' })],
      [/formFactor/i, 400, ...registration({ formFactor: 'toaster' })],
      [/transportType/, 400, ...registration({ push: { recipient: { transportType: 'pigeon' } } })],
      [/registrationToken|token/i, 400, ...registration({ push: { recipient: { transportType: 'gcm' } } })],
      [/p256dh/, 400, ...registration({ push: { recipient: { transportType: 'web', endpoint: 'https://push.example/1', p256dh: 'AAAA', auth: 'AAAA' } } })],
      [/metadata/, 413, ...registration({ metadata: { x: 'y'.repeat(5000) } })],
      [/recipients/, 400, 'publish', { payload: TEXT }],
      [/recipients/, 400, 'publish', { recipients: [], payload: TEXT }],
      [/type/, 400, 'publish', { recipients: [{ type: 'pigeon' }], payload: TEXT }],
      [/title/, 413, 'publish', { recipients: [to.device('x')], payload: { title: 'x'.repeat(257) } }],
      [/body/, 413, 'publish', { recipients: [to.device('x')], payload: { body: 'x'.repeat(4097) } }],
      [/template/i, 400, 'publish', { recipients: [to.device('x')], payload: { templateId: 'nobody-knows-it' } }],
      [/device/i, 404, 'channelSubscriptions', { deviceId: 'nobody-knows-it', channel: 'x' }],
      [/private|key/i, 400, 'credentials/webpush', { publicKey: 'x', privateKey: 'y' }],
      [/service/i, 400, 'credentials/fcm', { serviceAccountJson: '{}' }],
    ]
    for (const [says, status, path, body] of cases) {
      const answer = await api.ask('POST', `push/${path}`, body)
      assert.equal(answer.status, status, `${path} ${JSON.stringify(body).slice(0, 120)}: ${JSON.stringify(answer.json)}`)
      assert.match(JSON.stringify(answer.json), says)
      assert.equal(answer.json.status, status)
    }
    await api.push('GET', `deviceRegistrations/${id}`, undefined, { status: 404 })
  })
})

describe('push with bad or no credentials', () => {
  let providers, server, api
  before(async () => {
    providers = await PushProviders.start()
    server = await Server.start({
      settings: {
        'push.enabled': 'on', 'push.log': 'off', 'push.encryption_key': KEY, 'push.retry_first_s': '50ms',
        'push.retry_longest_s': '500ms', 'push.attempts_max': 3, ...providers.settings,
      },
    })
    api = new PushApi(server)
  })
  after(async () => {
    await server?.close()
    await providers?.close()
  })

  test('without any, a publish is refused at once', async () => {
    await api.register('d', fcm('token-1'))
    const answer = await api.ask('POST', 'push/publish', { recipients: [to.device('d')], payload: TEXT })
    assert.equal(answer.status, 503, JSON.stringify(answer.json))
    assert.match(JSON.stringify(answer.json), /push admission unavailable/)
  })

  test('with another\'s it fails or waits, and goes on when they are right', async () => {
    const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const wrong = { ...providers.credentials.apns, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) }
    await api.push('POST', 'credentials/apns', wrong)
    const address = providers.apnsToken()
    await api.register('phone', apns(address))
    const first = await api.publish({ recipients: [to.device('phone')], payload: TEXT })
    const { state } = await api.until(first.publishId)
    assert.ok(['failed', 'dead_lettered'].includes(state), state)
    await api.push('GET', 'deviceRegistrations/phone')
    const { version } = await api.push('POST', 'credentials/apns', providers.credentials.apns)
    assert.equal(version, 2)
    const second = await api.publish({ recipients: [to.device('phone')], payload: TEXT })
    assert.equal((await api.until(second.publishId)).state, 'succeeded')
  })

  test('private endpoints are refused unless they are allowed', async () => {
    const strict = await Server.start({ settings: { 'push.enabled': 'on', 'push.log': 'on' } })
    try {
      const other = new PushApi(strict)
      const keys = { p256dh: crypto.createECDH('prime256v1').generateKeys('base64url'), auth: crypto.randomBytes(16).toString('base64url') }
      for (const endpoint of ['http://push.example/x', 'https://127.0.0.1/x', 'https://10.0.0.1/x', 'https://[::1]/x', 'https://localhost/x', 'https://0x7f000001/x', 'ftp://push.example/x']) {
        const answer = await other.ask('POST', 'push/deviceRegistrations', { id: 'w', platform: 'browser', push: { recipient: web({ endpoint, keys }) } })
        assert.equal(answer.status, 400, endpoint)
        assert.match(JSON.stringify(answer.json), /endpoint/)
      }
      await other.register('w', web({ endpoint: 'https://push.example/x', keys }))
      const answer = await other.ask('POST', 'push/credentials/hms', { hmsAppId: '1', clientSecret: 's' })
      assert.equal(answer.status, 400)
      assert.match(JSON.stringify(answer.json), /encryption/)
    } finally {
      await strict.close()
    }
  })
})

describe('push at its bounds', () => {
  let providers, server, api
  const start = async (settings) => {
    providers = await PushProviders.start()
    server = await Server.start({
      settings: { 'push.enabled': 'on', 'push.log': 'off', 'push.encryption_key': KEY, ...settings, ...providers.settings },
    })
    api = new PushApi(server)
    await api.push('POST', 'credentials/fcm', providers.credentials.fcm)
  }
  afterEach(async () => {
    await server?.close()
    await providers?.close()
  })
  const one = (body) => api.ask('POST', 'push/publish', { recipients: [to.device('d0')], payload: TEXT, ...body })

  test('publishes that come too often are sent away for a while', async () => {
    await start({ 'push.publishes_per_second_max': 3 })
    await api.register('d0', fcm(providers.fcmToken()))
    const answers = await Promise.all(Array.from({ length: 12 }, () => one()))
    const refused = answers.filter((it) => it.status === 429)
    assert.ok(refused.length >= 6, `${refused.length} were refused`)
    assert.ok(answers.some((it) => it.status === 202))
    for (const { headers, json } of refused) {
      assert.ok(Number(headers.get('retry-after')) >= 1)
      assert.equal(json.status, 429)
    }
    const taken = answers.filter((it) => it.status === 202)
    for (const { json } of taken) assert.equal((await api.until(json.publishId)).state, 'succeeded')
    assert.equal(providers.counts['fcm 200'], taken.length)
  })

  test('more devices than an app may have are refused', async () => {
    await start({ 'push.devices_max': 3 })
    for (let at = 0; at < 3; at += 1) await api.register(`d${at}`, fcm(providers.fcmToken()))
    const recipient = fcm(providers.fcmToken())
    const body = { id: 'd3', platform: 'android', push: { recipient } }
    const refused = await api.ask('POST', 'push/deviceRegistrations', body)
    assert.equal(refused.status, 400, JSON.stringify(refused.json))
    assert.equal(refused.json.code, 'limit_exceeded')
    // Those that are there may change, and where one goes another may come.
    await api.register('d0', fcm(providers.fcmToken()))
    await api.push('DELETE', 'deviceRegistrations/d1')
    await api.register('d3', recipient)
  })

  test('the day\'s deliveries are counted', async () => {
    await start({ 'push.deliveries_per_day_max': 2 })
    await api.register('d0', fcm(providers.fcmToken()))
    for (const state of ['succeeded', 'succeeded', 'quota_exceeded']) {
      const { json } = await one()
      assert.equal((await api.until(json.publishId)).state, state)
    }
    assert.equal(providers.counts['fcm 200'], 2)
  })

  test('a device that always fails is left out until it registers again', async () => {
    await start({ 'push.failures_max': 2 })
    // It is the device that is refused, not the message, and not the provider that fails: nobody is left out for those.
    await api.register('d0', fcm(providers.fcmToken('mismatch-')))
    for (let at = 0; at < 2; at += 1) assert.equal((await api.until((await one()).json.publishId)).state, 'failed')
    const end = Date.now() + 5_000
    while ((await api.push('GET', 'deviceRegistrations/d0')).pushState !== 'FAILED') {
      assert.ok(Date.now() < end, JSON.stringify(await api.push('GET', 'deviceRegistrations/d0')))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const { json } = await one()
    await api.until(json.publishId)
    assert.equal((await api.outcomes(json.publishId))[0].outcome, 'skipped')
    await api.register('d0', fcm(providers.fcmToken()))
    assert.equal((await api.push('GET', 'deviceRegistrations/d0')).pushState, 'ACTIVE')
    assert.equal((await api.until((await one()).json.publishId)).state, 'succeeded')
  })

  test('a device is sent no more than it asks for', async () => {
    await start({})
    await api.register('d0', fcm(providers.fcmToken()), { pushRatePolicy: { capacity: 2, refillPerSecond: 1 } })
    const outcomes = []
    for (let at = 0; at < 4; at += 1) {
      const { json } = await one({ sync: true })
      outcomes.push((await api.outcomes(json.publishId))[0].outcome)
    }
    assert.deepEqual(outcomes.slice(0, 2), ['accepted', 'accepted'])
    assert.ok(outcomes.includes('skipped'), outcomes.join())
  })

  test('dead letters are kept up to their bound, the newest', async () => {
    await start({ 'push.dead_letters_max': 2, 'push.attempts_max': 1, 'push.failures_max': 100 })
    await api.register('d0', fcm(providers.fcmToken('broken-')))
    const ids = []
    for (let at = 0; at < 4; at += 1) {
      const { json } = await one()
      ids.push(json.publishId)
      await api.until(json.publishId)
    }
    const { items } = await api.push('GET', 'deadLetters')
    assert.deepEqual(items.map((it) => it.publishId).sort(), ids.slice(-2).sort())
  })

  test('lists say where they go on, and refuse what makes no sense', async () => {
    await start({})
    for (let at = 0; at < 5; at += 1) await api.register(`d${at}`, fcm(providers.fcmToken()), { clientId: at % 2 ? 'odd' : 'even' })
    const list = async (query) => {
      const ids = []
      for (let cursor; ; ) {
        const page = await api.push('GET', 'deviceRegistrations', undefined, { query: { ...query, ...(cursor && { cursor }) } })
        assert.ok(page.items.length <= Number(query.limit))
        ids.push(...page.items.map((it) => it.id))
        cursor = page.next_cursor
        assert.equal(page.has_more, Boolean(cursor))
        if (!page.has_more) return ids
      }
    }
    assert.deepEqual(await list({ limit: 2 }), ['d0', 'd1', 'd2', 'd3', 'd4'])
    assert.deepEqual(await list({ limit: 1, clientId: 'odd' }), ['d1', 'd3'])
    assert.deepEqual(await list({ limit: 1, client_id: 'even' }), ['d0', 'd2', 'd4'])
    for (const query of [{ limit: 0 }, { limit: 1001 }, { limit: 'x' }, { cursor: 'nonsense' }, { state: 'TIRED' }, { provider: 'pigeon' }]) {
      const { status, json } = await api.ask('GET', 'push/deviceRegistrations', undefined, { query })
      assert.equal(status, 400, `${JSON.stringify(query)}: ${JSON.stringify(json)}`)
    }
    const { deleted } = await api.push('DELETE', 'deviceRegistrations', undefined, { query: { clientId: 'even' }, status: 200 })
    assert.equal(deleted, 3)
    assert.deepEqual(await list({ limit: 10 }), ['d1', 'd3'])
  })
})
