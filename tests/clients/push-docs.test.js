// The commands of docs/push.md, run as they stand there, and the example it describes.
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Server, binary, within } from './harness.js'
import { PushProviders } from './push-providers.js'

const top = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const page = readFileSync(top('docs/push.md'), 'utf8')

// Blocks in order: their language and text.
const blocks = [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({ language, text }))

// Members of an example that are not in what came; what it only abbreviates is not compared.
function missing(example, answer, path = '') {
  if (typeof example !== 'object' || example === null) return []
  return Object.keys(example).flatMap((name) =>
    answer?.[name] === undefined ? [`${path}${name}`] : missing(example[name], answer[name], `${path}${name}.`))
}

describe('the commands of docs/push.md', () => {
  let server
  before(async () => {
    // As for who configures nothing: the development app.
    server = await Server.start({ apps: [] })
  })
  after(() => server?.close())

  test('run in development mode, and answer as it says', async () => {
    const scripts = []
    for (const [at, { language, text }] of blocks.entries()) {
      if (language !== 'sh' || text.includes('…')) continue
      const next = blocks[at + 1]
      scripts.push({ text, example: next?.language === 'json' ? JSON.parse(next.text.replaceAll('…', '')) : undefined })
    }
    assert.ok(scripts.length >= 5, `${scripts.length} blocks were found`)
    const cut = '\u001e'
    const script = scripts.map(({ text }) => text).join(`\nprintf '${cut}'\n`).replaceAll('127.0.0.1:6001', `127.0.0.1:${server.port}`)
    const { stdout: said } = await promisify(execFile)('bash', ['-euc', script], { timeout: 30_000 })
    for (const [at, answer] of said.split(cut).entries()) {
      const { example, text } = scripts[at]
      if (!example) continue
      assert.deepEqual(missing(example, JSON.parse(answer)), [], `${text}\n${answer}`)
      if (example.status) assert.equal(JSON.parse(answer).status, example.status)
    }
    // What was sent stands in the log, which comes as fast as pipes are read.
    const end = Date.now() + 10_000
    while (!/push_logged .*Order updated/.test(server.text)) {
      assert.ok(Date.now() < end, server.text)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })
})

describe('examples/web-push', () => {
  let providers, server, example, url
  before(async () => {
    const lines = execFileSync(binary(), ['push', 'keys'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    const keys = Object.fromEntries(lines.trim().split('\n').map((line) => /^([^=]+)=(.*)$/.exec(line).slice(1)))
    providers = await PushProviders.start()
    providers.keys.vapid = keys.VAPID_PUBLIC_KEY
    server = await Server.start({
      apps: [],
      settings: { 'push.encryption_key': keys.RINGMAIN_PUSH_ENCRYPTION_KEY, 'push.allow_private': true },
    })
    const env = { ...process.env, ...keys, RINGMAIN: `http://127.0.0.1:${server.port}`, PORT: '0' }
    example = spawn(process.execPath, [top('examples/web-push/server.mjs')], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = await within(once(example.stdout.setEncoding('utf8'), 'data'), 'the address of the example')
    url = /http:\S+/.exec(line)[0].replace('localhost', '127.0.0.1')
  })
  after(async () => {
    example?.kill()
    await server?.close()
    await providers?.close()
  })

  const ask = async (path, body) => {
    const answer = await fetch(new URL(path, url), body && { method: 'POST', body: JSON.stringify(body) })
    assert.ok(answer.ok, `${path}: ${answer.status}`)
    return answer.headers.get('content-type').includes('json') ? answer.json() : answer.text()
  }

  test('brings what is sent to the browser that subscribed', async () => {
    assert.match(await ask('/'), /pushManager\.subscribe/)
    assert.match(await ask('/sw.js'), /showNotification/)
    assert.equal((await ask('/key')).key, providers.keys.vapid)
    const subscription = providers.subscription()
    const subscribed = await ask('/subscribe', { subscription, locale: 'en-GB', channel: 'orders' })
    assert.equal(subscribed.channel, 'orders')
    const sent = await ask('/send', { channel: 'orders', title: 'Order updated', body: 'packed' })
    assert.equal(sent.status, 'succeeded')
    const [message] = await providers.until((it) => it.address === subscription.endpoint)
    assert.deepEqual(message.body, { notification: { title: 'Order updated', body: 'packed' }, data: { url: '/' } })
  })
})
