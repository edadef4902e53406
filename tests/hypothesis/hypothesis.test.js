// The released Hypothesis client, in a browser, hears annotations through the real binary.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Reader, Server, Site, USER, WORLD, annotation, event, openBrowser } from './harness.js'

let server, site, browser
before(async () => {
  server = await Server.start()
  site = await Site.start(server)
  browser = await openBrowser()
})
after(async () => {
  await browser?.close()
  await site?.close()
  await server?.close()
})

// Runs `body` with a reader of a page of its own. Nothing the server said may have puzzled the client.
async function reading(path, body) {
  const reader = await Reader.open(browser, site, path)
  try {
    await body(reader)
    const puzzled = /unsupported notification|does not match logged-in|Gave up|^\w*Error: (?!WebSocket closed)/
    assert.deepEqual(reader.said.entries.filter((text) => puzzled.test(text)), [])
  } finally {
    await reader.close()
  }
}

describe('a reader without an account', () => {
  test('introduces itself, and is told that it is nobody', () =>
    reading('/pages/hello', async (reader) => {
      const [filter, client, whoami] = reader.sent.entries
      const clause = filter.filter.clauses[0]
      assert.deepEqual([clause.field, clause.operator, clause.value], ['/uri', 'one_of', [reader.url]])
      assert.equal(client.messageType, 'client_id')
      assert.deepEqual(whoami, { type: 'whoami', id: 1 })
      assert.deepEqual(reader.heard.entries, [{ type: 'whoyouare', userid: null, ok: true, reply_to: 1 }])
      assert.deepEqual(reader.sockets, [`ws://127.0.0.1:${server.port}/ws`])
    }))

  test('sees an annotation come, change and go', () =>
    reading('/pages/life', async (reader) => {
      const note = annotation(reader.url, { text: 'first words' })
      await server.publish(event('create', note))
      await reader.event('create', note.id)
      assert.match(await reader.notice.innerText(), /\b1\b/)
      assert.equal(await reader.card('first words').count(), 0)
      await reader.applyUpdates()
      await reader.card('first words').waitFor()
      await reader.page.locator('hypothesis-highlight', { hasText: 'the quick brown fox' }).waitFor()

      await server.publish(event('update', { ...note, text: 'second thoughts' }))
      await reader.event('update', note.id)
      await reader.applyUpdates()
      await reader.card('second thoughts').waitFor()
      assert.equal(await reader.card('first words').count(), 0)

      await server.publish(event('delete', note))
      const { payload } = await reader.event('delete', note.id)
      assert.deepEqual(payload, [{ id: note.id }])
      await reader.applyUpdates()
      await reader.card('second thoughts').waitFor({ state: 'detached' })
      await reader.page.locator('hypothesis-highlight').waitFor({ state: 'detached' })
    }))

  test('gets the annotation as it was published, key for key', () =>
    reading('/pages/whole', async (reader) => {
      const note = annotation(reader.url, { text: 'héllo \u{1f98a} <b>&amp;</b>', tags: ['a', 'ü'], references: ['top'] })
      await server.publish(event('create', note))
      const { payload } = await reader.event('create', note.id)
      assert.deepEqual(payload, [note])
    }))

  test('hears of its page under any spelling, and of no other', () =>
    reading('/pages/here?b=2&a=1', async (reader) => {
      const away = ['/pages/elsewhere', '/pages/here', '/pages/HERE?a=1&b=2', '/pages/here?a=1&b=3']
      const home = ['/pages/here?a=1&b=2', '/pages/here//?utm_source=mail&b=2&a=1#part', '/pages/%68ere?a=1&%62=2']
      const notes = home.map((path) => annotation(site.url + path))
      for (const path of away) await server.publish(event('create', annotation(site.url + path)))
      for (const note of notes) await server.publish(event('create', note))
      for (const path of away) await server.publish(event('create', annotation(site.url + path)))
      const last = annotation(reader.url.replace('http:', 'https:'))
      await server.publish(event('create', last))
      await reader.event('create', last.id)
      assert.deepEqual(reader.events(), [...notes, last].map(({ id }) => ['create', id]))
    }))

  test('is told neither of private annotations, nor of those in closed groups, nor of its own', () =>
    reading('/pages/discreet', async (reader) => {
      const mine = annotation(reader.url, { permissions: { read: ['acct:writer@localhost'] } })
      const alone = { shared: false, group: '__world__', group_world_readable: true, author: mine.user }
      await server.publish(event('create', mine, { visibility: alone }))
      const theirs = annotation(reader.url, { group: 'closed' })
      const closed = { shared: true, group: 'closed', group_world_readable: false }
      await server.publish(event('create', theirs, { visibility: closed }))
      await server.publish(event('create', annotation(reader.url), { src_client_id: reader.clientId }))
      const open = annotation(reader.url)
      await server.publish(event('create', open, { src_client_id: 'another' }))
      await reader.event('create', open.id)
      assert.deepEqual(reader.events(), [['create', open.id]])
    }))

  // The client comes back after every close code but 1000 and 1001.
  for (const [signal, code] of [['SIGKILL', 1006], ['SIGTERM', 1012]]) {
    test(`after ${signal} and a new start on the same port, connects again by itself and keeps hearing`, () =>
      reading(`/pages/restart-${signal}`, async (reader) => {
        const before = annotation(reader.url, { text: 'before the restart' })
        await server.publish(event('create', before))
        await reader.event('create', before.id)

        const heard = reader.heard.entries.length
        await server.stop(signal)
        await server.run()
        await reader.said.when((text) => text.includes(`closed abnormally, code: ${code}`), `close code ${code}`)
        await reader.listening(heard)
        assert.equal(reader.sockets.at(-1), `ws://127.0.0.1:${server.port}/ws`)

        const since = annotation(reader.url, { text: 'since the restart' })
        await server.publish(event('create', since))
        await reader.event('create', since.id)
        await reader.applyUpdates()
        await reader.card('before the restart').waitFor()
        await reader.card('since the restart').waitFor()
      }))
  }
})

describe('a reader who is logged in', () => {
  test('is told who she is', () =>
    reading('/pages/members/hello', async (reader) => {
      assert.deepEqual(reader.heard.entries[0], { type: 'whoyouare', userid: USER.userid, ok: true, reply_to: 1 })
      assert.equal(new URL(reader.sockets[0]).searchParams.get('access_token'), USER.token)
    }))

  test('hears of her own private annotations, and of nobody else’s', () =>
    reading('/pages/members/private', async (reader) => {
      const alone = (author) => ({ shared: false, group: '__world__', group_world_readable: true, author })
      const theirs = annotation(reader.url)
      await server.publish(event('create', theirs, { visibility: alone(theirs.user) }))
      const hers = annotation(reader.url, {
        user: USER.userid,
        text: 'written elsewhere',
        moderation_status: null,
        permissions: { read: [USER.userid], admin: [USER.userid], update: [USER.userid], delete: [USER.userid] },
      })
      await server.publish(event('create', hers, { visibility: alone(USER.userid) }))
      await reader.event('create', hers.id)
      assert.deepEqual(reader.events(), [['create', hers.id]])
      await reader.applyUpdates()
      await reader.card('written elsewhere').waitFor()
    }))

  test('sees a group she has joined', () =>
    reading('/pages/members/groups', async (reader) => {
      const asked = site.asked.entries.length
      site.groups = [WORLD, { ...WORLD, id: 'readers', groupid: 'group:readers@localhost', name: 'Slow Readers' }]
      try {
        await server.publish({ kind: 'user', userid: USER.userid, action: 'group-join', model: site.model(USER.userid) })
        const change = await reader.heard.when(({ type }) => type === 'session-change', 'session-change')
        assert.equal(change.action, 'group-join')
        assert.deepEqual(change.model, site.model(USER.userid))
        await site.asked.when(([, path, user]) => path === '/api/profile/groups' && user === USER.userid, 'groups', asked)
        await reader.sidebar.getByTestId('top-bar').getByRole('button', { name: 'Public' }).click()
        await reader.sidebar.getByText('Slow Readers').first().waitFor()
      } finally {
        site.groups = [WORLD]
      }
    }))
})
