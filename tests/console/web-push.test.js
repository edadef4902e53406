// The example for Web Push in a real browser: its page subscribes, its service worker shows what was pushed. The push
// service between them is ours, since the browser's own is not to be reached from a test.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { PushProviders } from '../clients/push-providers.js'
import { PATIENCE_MS, Server, binary, openBrowser } from './harness.js'

const EXAMPLE = fileURLToPath(new URL('../../examples/web-push/server.mjs', import.meta.url))

let browser, providers, server, example, origin
before(async () => {
  const lines = execFileSync(binary(), ['push', 'keys'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const keys = Object.fromEntries(lines.trim().split('\n').map((line) => /^([^=]+)=(.*)$/.exec(line).slice(1)))
  providers = await PushProviders.start()
  providers.keys.vapid = keys.VAPID_PUBLIC_KEY
  server = await Server.start(`
push.encryption_key = "${keys.RINGMAIN_PUSH_ENCRYPTION_KEY}"
push.allow_private = true
`)
  const env = { ...process.env, ...keys, RINGMAIN: server.origin, PORT: '0' }
  example = spawn(process.execPath, [EXAMPLE], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(example.stdout.setEncoding('utf8'), 'data')
  origin = new URL(/http:\S+/.exec(line)[0].replace('localhost', '127.0.0.1')).origin
  browser = await openBrowser()
})
after(async () => {
  await browser?.close()
  example?.kill()
  await server?.close()
  await providers?.close()
})

// What the browser's push service hands to the service worker.
async function deliver(page, data) {
  const devtools = await page.context().newCDPSession(page)
  const registered = new Promise((resolve) => {
    devtools.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      const [found] = registrations.filter((it) => !it.isDeleted && it.scopeURL.startsWith(origin))
      if (found) resolve(found.registrationId)
    })
  })
  await devtools.send('ServiceWorker.enable')
  await devtools.send('ServiceWorker.deliverPushMessage', { origin, registrationId: await registered, data })
}

test('who clicks is subscribed, and a notification is shown', async () => {
  const subscription = providers.subscription()
  const context = await browser.newContext({ locale: 'en-GB' })
  await context.grantPermissions(['notifications'], { origin })
  await context.addInitScript((given) => {
    PushManager.prototype.subscribe = async function subscribe(options) {
      globalThis.subscribedWith = options
      return { toJSON: () => given }
    }
  }, subscription)
  const page = await context.newPage()
  await page.goto(origin)
  await page.getByRole('button', { name: /Take notifications/ }).click()
  await page.getByText('"channel": "orders"').waitFor({ timeout: PATIENCE_MS })
  const options = await page.evaluate(() => globalThis.subscribedWith)
  assert.deepEqual(options, { userVisibleOnly: true, applicationServerKey: providers.keys.vapid })

  await page.getByRole('button', { name: 'Send' }).click()
  await page.getByText('"succeeded"').first().waitFor({ timeout: PATIENCE_MS })
  const [message] = await providers.until((it) => it.address === subscription.endpoint)
  await deliver(page, JSON.stringify(message.body))
  const shown = await page.waitForFunction(async () => {
    const registration = await navigator.serviceWorker.ready
    const [first] = await registration.getNotifications()
    return first && { title: first.title, body: first.body, data: first.data }
  })
  assert.deepEqual(await shown.jsonValue(), {
    title: 'Order updated', body: 'ord_123 moved to packing', data: { url: '/' },
  })
  await context.close()
})
