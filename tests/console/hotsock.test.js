// Hotsock in a real browser: a page of another origin with two tabs that talk to each other, over the WebSocket and
// over `fetch`, as a page would that has no library.
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import { after, before, test } from 'node:test'
import { PATIENCE_MS, Server, openBrowser } from './harness.js'

const PAGE = `<!doctype html><title>chat</title><ul id="log"></ul><script>
  let connected
  window.open_chat = (url) => {
    window.socket = new WebSocket(url)
    const socket = window.socket
    socket.onopen = () => socket.send(JSON.stringify({ event: 'hotsock.subscribe', channel: 'presence.chat' }))
    socket.onclose = ({ code }) => show('closed ' + code)
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data)
      if (frame.event === 'hotsock.connected') connected = frame.data
      show([frame.event, JSON.stringify(frame.data), frame.meta?.uid].join(' '))
    }
  }
  window.say = (data) => socket.send(JSON.stringify({ event: 'chat', channel: 'presence.chat', data }))
  window.call = async (url, operation, body) => {
    const { connectionId, connectionSecret } = connected
    const query = new URLSearchParams({ connectionId, connectionSecret })
    const answer = await fetch(url + '/connection/' + operation + '?' + query, {
      method: 'POST', body: JSON.stringify(body)
    })
    return { status: answer.status, body: await answer.json() }
  }
  function show(text) {
    const line = document.createElement('li')
    line.textContent = text
    document.querySelector('#log').append(line)
  }
</script>`

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

// A token as a back end without a library would make it.
function token(uid) {
  const exp = Math.floor(Date.now() / 1000) + 60
  const messages = { chat: { publish: true, echo: true, store: 60 } }
  const channels = { 'presence.chat': { subscribe: true, historyStart: 0, messages } }
  const text = `${base64({ alg: 'HS256', typ: 'JWT' })}.${base64({ exp, scope: 'connect', uid, channels })}`
  return `${text}.${createHmac('sha256', 'app-secret').update(text).digest('base64url')}`
}

let browser, server, pages
before(async () => {
  browser = await openBrowser()
  server = await Server.start()
  pages = http.createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE))
  pages.listen(0, '127.0.0.1')
  await once(pages, 'listening')
})
after(async () => {
  await browser?.close()
  await server?.close()
  pages?.closeAllConnections()
  pages?.close()
})

test('two tabs of a page elsewhere chat, and list what was said', async () => {
  const context = await browser.newContext()
  const complaints = []
  const tab = async (uid) => {
    const page = await context.newPage()
    page.setDefaultTimeout(PATIENCE_MS)
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
    await page.goto(`http://127.0.0.1:${pages.address().port}/`)
    const url = `ws://127.0.0.1:${server.port}/v1?token=${token(uid)}`
    await page.evaluate((url) => window.open_chat(url), url)
    await heard(page, 'hotsock.subscribed')
    return page
  }
  const heard = (page, text) => page.locator('#log li').filter({ hasText: text }).first().waitFor()
  const ann = await tab('ann')
  const bob = await tab('bob')
  await heard(ann, 'hotsock.memberAdded')
  await ann.evaluate(() => window.say('hello bob'))
  await heard(bob, 'chat "hello bob" ann')
  await bob.evaluate(() => window.say({ text: 'hello ann' }))
  await heard(ann, 'chat {"text":"hello ann"} bob')
  const list = [server.origin, 'listMessages', { channel: 'presence.chat' }]
  const { status, body } = await bob.evaluate((list) => window.call(...list), list)
  assert.equal(status, 200)
  assert.deepEqual(
    body.messages.map(({ data, meta }) => [data, meta.uid]),
    [['hello bob', 'ann'], [{ text: 'hello ann' }, 'bob']],
  )
  // What is refused can be read by the page, too.
  const refused = await bob.evaluate((list) => window.call(...list), [server.origin, 'listMessages', {}])
  assert.deepEqual([refused.status, refused.body.error.code], [400, 'INVALID_MESSAGE'])
  await bob.close()
  await heard(ann, 'hotsock.memberRemoved')
  await context.close()
  // A 400 is told on the browser's console.
  assert.deepEqual(complaints.filter((text) => !text.includes('400')), [])
})
