// Mastodon streaming with the clients that its apps are made with: masto.js and megalodon over WebSockets, and an
// EventSource. Each test runs against a server that stands alone, and against one in the place of Mastodon's own.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { EventSource } from 'eventsource'
import { createStreamingAPIClient } from 'masto'
import { Mastodon } from 'megalodon'
import { Alone, Heard, InPlace, notification, status } from './mastodon-worlds.js'
import { within } from './harness.js'

// Every stream that a client may ask for, the channel it hears, and what a client says.
const STREAMS = [
  ['user', 'timeline:1', (it) => it.user.subscribe()],
  ['user:notification', 'timeline:1:notifications', (it) => it.user.notification.subscribe()],
  ['public', 'timeline:public', (it) => it.public.subscribe()],
  ['public:media', 'timeline:public:media', (it) => it.public.media.subscribe()],
  ['public:local', 'timeline:public:local', (it) => it.public.local.subscribe()],
  ['public:local:media', 'timeline:public:local:media', (it) => it.public.local.media.subscribe()],
  ['public:remote', 'timeline:public:remote', (it) => it.public.remote.subscribe()],
  ['public:remote:media', 'timeline:public:remote:media', (it) => it.public.remote.media.subscribe()],
  ['hashtag', 'timeline:hashtag:foobar', (it) => it.hashtag.subscribe({ tag: 'FóO bar' }), 'FóO bar'],
  ['hashtag:local', 'timeline:hashtag:foo:local', (it) => it.hashtag.local.subscribe({ tag: 'Foo' }), 'Foo'],
  ['list', 'timeline:list:1', (it) => it.list.subscribe({ list: '1' }), '1'],
  ['direct', 'timeline:direct:1', (it) => it.direct.subscribe()],
]

// What one subscription of masto.js hears.
function follow(subscription) {
  const heard = new Heard()
  heard.ended = (async () => {
    for await (const event of subscription) heard.put(event)
  })()
  heard.ended.catch(() => {})
  return heard
}

for (const world_ of [Alone, InPlace]) {
  describe(`a server ${world_.title}`, () => {
    let world
    const closing = []

    before(async () => {
      world = await world_.start()
    })
    after(async () => {
      for (const close of closing.splice(0)) close()
      await world?.close()
    })

    const masto = (token, options = {}) => {
      const client = createStreamingAPIClient({ streamingApiUrl: world.socketUrl, accessToken: token, ...options })
      closing.push(() => client.close())
      return client
    }

    // What an EventSource hears of some kinds of events.
    const source = (path, token, headers) => {
      const heard = new Heard()
      const query = token ? `${path.includes('?') ? '&' : '?'}access_token=${token}` : ''
      const options = headers && { fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }) }
      const source = new EventSource(`${world.url}/api/v1/streaming/${path}${query}`, options)
      for (const name of ['update', 'status.update', 'delete', 'notification', 'conversation', 'announcement']) {
        source.addEventListener(name, ({ data }) => heard.put({ event: name, payload: JSON.parse(data) }))
      }
      heard.opened = new Promise((resolve) => (source.onopen = resolve))
      heard.refused = new Promise((resolve) => source.addEventListener('error', (event) => event.code && resolve(event)))
      heard.lost = new Promise((resolve) => source.addEventListener('error', resolve))
      heard.source = source
      closing.push(() => source.close())
      return heard
    }

    for (const how of ['as a sub-protocol', 'in the query']) {
      test(`masto.js hears every stream on one socket, its token ${how}`, async () => {
        const client = masto('token-ann', { useInsecureAccessToken: how === 'in the query' })
        for (const [name, channel, subscribe, parameter] of STREAMS) {
          const subscription = subscribe(client)
          const heard = follow(subscription)
          await world.tuned(heard, channel)
          await world.publish('update', status('110'), channel)
          await world.publish('status.update', status('111', { text: 'a "b" ü \u2028 </p>' }), channel)
          await world.publish('delete', '112', channel)
          await world.publish('announcement.delete', '113', channel)
          const stream = parameter === undefined ? [name] : [name, parameter]
          // A user's channels are those of `user`, and notifications come to `user:notification` too, as is told.
          const update = await heard.next()
          assert.deepEqual(update.stream, stream)
          assert.deepEqual([update.event, update.payload.id, update.payload.content], ['update', '110', '<p>hello</p>'])
          const edit = await heard.next()
          assert.deepEqual([edit.event, edit.payload.content], ['status.update', '<p>a "b" ü \u2028 </p></p>'])
          assert.deepEqual(await heard.next(), { stream, event: 'delete', payload: '112' })
          assert.deepEqual(await heard.next(), { stream, event: 'announcement.delete', payload: 113 })
          subscription.unsubscribe()
        }
      })
    }

    test('masto.js hears notifications and the home timeline as one stream', async () => {
      const heard = follow(masto('token-bob').user.subscribe())
      await world.tuned(heard, 'timeline:2', 'timeline:2:notifications')
      await world.publish('notification', notification('5'), 'timeline:2:notifications')
      await world.publish('update', status('120'), 'timeline:2')
      await world.publish('notifications_merged', 1, 'timeline:2:notifications')
      await world.publish('conversation', { id: '7' }, 'timeline:direct:2')
      // Each channel keeps its order; between the two there is none.
      const told = [await heard.next(), await heard.next(), await heard.next()]
      const words = told.map((it) => [it.stream, it.event, it.payload?.id ?? it.payload, it.payload?.type])
      const timeline = words.filter(([, event]) => event === 'update')
      const notifications = words.filter(([, event]) => event !== 'update')
      assert.deepEqual(timeline, [[['user'], 'update', '120', undefined]])
      assert.deepEqual(notifications, [
        [['user'], 'notification', '5', 'favourite'],
        [['user'], 'notifications_merged', 1, undefined],
      ])
    })

    test('masto.js is told why a stream is not for it', async () => {
      for (const [token, subscribe, words] of [
        ['token-ann', (it) => it.list.subscribe({ list: '2' }), 'Not authorized to stream this list'],
        ['token-ann', (it) => it.hashtag.subscribe({}), 'Missing tag name parameter'],
        ['token-bob-notifications', (it) => it.public.subscribe(), 'Access token does not have the required scopes'],
        ['token-bob-statuses', (it) => it.user.notification.subscribe(), 'Access token does not have the required scopes'],
      ]) {
        const { ended } = follow(subscribe(masto(token)))
        await assert.rejects(within(ended, words), { message: words })
      }
    })

    test('masto.js with a token of nobody does not get in', async () => {
      const client = masto('token-of-nobody', { retry: 1 })
      await assert.rejects(within(client.prepare(), 'the refusal'))
    })

    test('megalodon hears what apps with several kinds of servers ask for', async () => {
      for (const [open, channel] of [
        [(it) => it.userSocket(), 'timeline:1'],
        [(it) => it.publicSocket(), 'timeline:public'],
        [(it) => it.localSocket(), 'timeline:public:local'],
        [(it) => it.tagSocket('foo'), 'timeline:hashtag:foo'],
        [(it) => it.listSocket('1'), 'timeline:list:1'],
        [(it) => it.directSocket(), 'timeline:direct:1'],
      ]) {
        const heard = new Heard()
        const socket = open(new Mastodon(world.socketUrl, 'token-ann'))
        closing.push(() => socket.stop())
        for (const [theirs, event] of [['update', 'update'], ['status_update', 'status.update'], ['delete', 'delete'], ['conversation', 'conversation']]) {
          socket.on(theirs, (payload) => heard.put({ event, payload }))
        }
        await world.tuned(heard, channel)
        await world.publish('update', status('130'), channel)
        await world.publish('status.update', status('130'), channel)
        await world.publish('delete', '130', channel)
        assert.deepEqual(await heard.ids(3), ['update 130', 'status.update 130', 'delete 130'])
        socket.stop()
      }
    })

    test('an EventSource hears every path', async () => {
      for (const [path, channel] of [
        ['user', 'timeline:1'],
        ['user/notification', 'timeline:1:notifications'],
        ['public', 'timeline:public'],
        ['public?only_media=true', 'timeline:public:media'],
        ['public/local', 'timeline:public:local'],
        ['public/local?only_media=1', 'timeline:public:local:media'],
        ['public/remote', 'timeline:public:remote'],
        ['hashtag?tag=F%C3%B3O', 'timeline:hashtag:foo'],
        ['hashtag/local?tag=foo', 'timeline:hashtag:foo:local'],
        ['list?list=1', 'timeline:list:1'],
        ['direct', 'timeline:direct:1'],
      ]) {
        const heard = source(path, 'token-ann')
        await world.tuned(heard, channel)
        await world.publish('update', status('140', { text: 'two\nlines' }), channel)
        await world.publish('delete', '140', channel)
        const update = await heard.next()
        assert.deepEqual([update.event, update.payload.content], ['update', '<p>two\nlines</p>'])
        assert.deepEqual(await heard.next(), { event: 'delete', payload: 140 })
        heard.source.close()
      }
      const heard = source('user', undefined, { Authorization: 'Bearer token-bob' })
      await world.tuned(heard, 'timeline:2', 'timeline:2:notifications')
      await world.publish('notification', notification('5'), 'timeline:2:notifications')
      assert.equal((await heard.next()).payload.id, '5')
    })

    test('an EventSource is told why it is refused', async () => {
      for (const [path, token, code] of [
        ['user', 'token-of-nobody', 401],
        ['user', undefined, 401],
        ['public', 'token-bob-notifications', 401],
        ['list?list=2', 'token-ann', 401],
        ['hashtag', 'token-ann', 400],
        ['nothing', 'token-ann', 400],
      ]) {
        assert.equal((await within(source(path, token).refused, `the refusal of ${path}`)).code, code, `${path} ${token}`)
      }
    })

    test('what an account does not want is not heard, on either transport', async () => {
      const everyone = follow(masto('token-ann').public.subscribe())
      const socket = follow(masto('token-bob').public.subscribe())
      const stream = source('public', 'token-bob')
      const german = source('public', 'token-dee')
      const blocked = follow(masto('token-eve').public.subscribe())
      for (const heard of [everyone, socket, stream, german, blocked]) await world.tuned(heard, 'timeline:public')
      const channel = 'timeline:public'
      await world.publish('update', status('150', { author: 3 }), channel)
      await world.publish('update', status('151', { author: 7 }), channel)
      await world.publish('update', status('152', { author: 8 }), channel)
      await world.publish('update', status('153', { mentions: [{ id: '3', username: 'cyd', acct: 'cyd', url: '' }] }), channel)
      await world.publish('update', status('154', { author: 2 }), channel)
      await world.publish('update', status('155', { language: 'de' }), channel)
      await world.publish('delete', '150', channel)
      assert.deepEqual(await everyone.ids(7), ['150', '151', '152', '153', '154', '155'].map((id) => `update ${id}`).concat('delete 150'))
      for (const heard of [socket, stream]) assert.deepEqual(await heard.ids(3), ['update 154', 'update 155', 'delete 150'])
      assert.deepEqual(await german.ids(2), ['update 155', 'delete 150'])
      assert.deepEqual(await blocked.ids(6), ['150', '151', '152', '153', '155'].map((id) => `update ${id}`).concat('delete 150'))
    })

    test('keyword filters are told with the status', async () => {
      const ann = follow(masto('token-ann').public.subscribe())
      const bob = follow(masto('token-bob').public.subscribe())
      const fay = source('public', 'token-fay')
      for (const heard of [ann, bob, fay]) await world.tuned(heard, 'timeline:public')
      await world.publish('update', status('160', { text: 'A <b>Spoiler</b> of catfish' }), 'timeline:public')
      await world.publish('update', status('161', { text: 'spoilers and news' }), 'timeline:public')
      const filtered = async (heard) => (await heard.next()).payload.filtered.map((it) => [it.filter.title, it.filter.filterAction ?? it.filter.filter_action, it.keywordMatches ?? it.keyword_matches])
      assert.deepEqual(await filtered(ann), [])
      assert.deepEqual(await filtered(bob), [['Spoilers', 'warn', ['Spoiler']]])
      assert.deepEqual(await filtered(fay), [['Cats', 'hide', ['cat']]])
      for (const heard of [ann, bob, fay]) assert.deepEqual(await filtered(heard), [])
    })

    test('who is killed loses every connection, and nobody else does', async () => {
      const cyd = follow(masto('token-cyd', { retry: false }).user.subscribe())
      const stream = source('user', 'token-cyd')
      const ann = follow(masto('token-ann').user.subscribe())
      await world.tuned(cyd, 'timeline:3')
      await world.tuned(stream, 'timeline:3')
      await world.tuned(ann, 'timeline:1')
      // An app may hold a socket without a stream.
      const idle = masto('token-cyd')
      const socket = await within(idle.prepare(), 'a socket')
      const closed = new Promise((resolve) => socket.addEventListener('close', resolve))
      world.postgres?.run("UPDATE oauth_access_tokens SET revoked_at = now() WHERE token = 'token-cyd'")
      await world.publish('kill', null, 'timeline:system:3')
      assert.equal((await within(closed, 'the close')).code, 1005)
      await within(stream.lost, 'the end of a stream')
      if (world.postgres) {
        // It comes again as it always does, and is told that its token is nobody's.
        assert.equal((await within(stream.refused, 'a refusal')).code, 401)
      }
      await world.publish('delete', '170', 'timeline:1')
      assert.deepEqual(await ann.ids(1), ['delete 170'])
    })

    test('clients come back when the server does', async () => {
      const heard = follow(masto('token-ann').public.subscribe())
      const stream = source('public', 'token-ann')
      for (const it of [heard, stream]) await world.tuned(it, 'timeline:public')
      const { port } = world.server
      assert.equal(await world.server.stop(), 0)
      await world.server.run(port)
      for (const it of [heard, stream]) await world.tuned(it, 'timeline:public')
      await world.publish('update', status('180'), 'timeline:public')
      for (const it of [heard, stream]) assert.deepEqual(await it.ids(1), ['update 180'])
    })

    if (world_ === InPlace) {
      test('Rails is told who listens, and a filter that is new counts at once', async () => {
        const { redis, postgres } = world
        const heard = follow(masto('token-eve').user.subscribe())
        await world.tuned(heard, 'timeline:5', 'timeline:5:notifications')
        for (const key of ['subscribed:timeline:5', 'subscribed:timeline:5:notifications']) {
          const [, seconds] = /^:(\d+)$/.exec(await redis.ask('TTL', key))
          assert.ok(seconds > 1000 && seconds <= 1080, `${key} ${seconds}`)
        }
        const timeline = follow(masto('token-eve').public.subscribe())
        await world.tuned(timeline, 'timeline:public')
        await world.publish('update', status('190', { text: 'about dogs' }), 'timeline:public')
        assert.deepEqual((await timeline.next()).payload.filtered, [])
        postgres.run("INSERT INTO custom_filters (id, account_id, phrase, context, action) VALUES (50, 5, 'Dogs', '{public}', 0); INSERT INTO custom_filter_keywords (custom_filter_id, keyword, whole_word) VALUES (50, 'dogs', true)")
        await redis.ask('PUBLISH', 'timeline:system:5', '{"event":"filters_changed"}')
        await world.publish('update', status('191', { text: 'about dogs' }), 'timeline:public')
        const { filtered } = (await timeline.next()).payload
        assert.deepEqual(filtered.map((it) => [it.filter.id, it.filter.title]), [['50', 'Dogs']])
      })

      test('Redis may go and come back under who is connected', async () => {
        const { redis } = world
        const heard = follow(masto('token-ann').user.subscribe())
        const stream = source('public', 'token-ann')
        await world.tuned(heard, 'timeline:1')
        await world.tuned(stream, 'timeline:public')
        let lost = false
        stream.lost.then(() => (lost = true))
        await redis.stop('SIGKILL')
        await world.answers('/ready', 503)
        await redis.run()
        await world.answers('/ready', 200)
        await world.tuned(heard, 'timeline:1')
        await world.tuned(stream, 'timeline:public')
        await world.publish('update', status('195'), 'timeline:1', 'timeline:public')
        for (const it of [heard, stream]) assert.deepEqual(await it.ids(1), ['update 195'])
        assert.equal(lost, false)
        assert.match(await redis.ask('TTL', 'subscribed:timeline:1'), /^:10\d\d$/)
      })
    }

    test('health, readiness and metrics are where they were', async () => {
      const health = await fetch(`${world.url}/api/v1/streaming/health`)
      assert.deepEqual([health.status, health.headers.get('content-type'), await health.text()], [200, 'text/plain', 'OK'])
      assert.equal((await fetch(`${world.url}/ready`)).status, 200)
      assert.match(await (await fetch(`${world.url}/metrics`)).text(), /^connected_clients\{type="websocket"\} \d/m)
    })
  })
}
