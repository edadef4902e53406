// The console of the real binary, as a person with a browser meets it.
import assert from 'node:assert/strict'
import { createECDH, randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { inflateRawSync } from 'node:zlib'
import { PATIENCE_MS, Server, listening, openBrowser, openPage, picture, series, total } from './harness.js'

let browser
before(async () => {
  browser = await openBrowser()
})
after(() => browser?.close())

const namesOf = (page) => page.$$eval('.pane', (panes) => panes.map(({ dataset }) => dataset.dialect))

// Publishes through one pane's own form; resolves to what the pane says about it.
async function publish(page, dialect, name, data) {
  const pane = page.locator(`#pane-${dialect}`)
  await pane.getByLabel('Event').fill(name)
  await pane.getByLabel('Data').fill(data)
  await pane.getByRole('button', { name: 'Publish', exact: true }).click()
  await page.waitForFunction(
    (id) => /^\d{3}/.test(document.querySelector(`#${id} .publish .answer`).textContent),
    `pane-${dialect}`,
  )
  return pane.locator('.publish .answer').textContent()
}

const heardIn = (page, dialect, mark) =>
  page.locator(`#pane-${dialect} .log li.event`).filter({ hasText: mark }).first().waitFor()

// What `look` finds on the page equals what `ask` finds in /metrics, read at the same moment or a poll later.
async function settles(page, look, ask) {
  const until = Date.now() + PATIENCE_MS
  for (;;) {
    const text = await page.evaluate(async () => (await fetch('/metrics')).text())
    const wanted = ask(series(text))
    const shown = await page.evaluate(look)
    try {
      return assert.deepEqual(shown, wanted)
    } catch (error) {
      if (Date.now() > until) throw error
    }
    await page.waitForResponse((response) => response.url().endsWith('/_/metrics'))
  }
}

describe('in development mode', () => {
  let server, page
  before(async () => {
    server = await Server.start()
    page = await openPage(browser, server)
    await listening(page)
  })
  after(async () => {
    await page?.context().close()
    await server?.close()
  })

  test('every dialect that is listed has a pane that listens', async () => {
    const about = await page.evaluate(async () => (await fetch('/_/about')).json())
    assert.equal(about.development, true)
    assert.deepEqual(
      await namesOf(page),
      about.dialects.map(({ name }) => name),
    )
    assert.ok(about.dialects.length >= 2, 'a bridge has two ends')
  })

  test('what is published in one pane is received in every pane', async () => {
    for (const from of await namesOf(page)) {
      const mark = `mark-${from}-${Date.now()}`
      assert.match(await publish(page, from, 'greeting', JSON.stringify({ text: mark })), /^2\d\d/)
      for (const to of await namesOf(page)) await heardIn(page, to, mark)
    }
  })

  test('one press publishes in every protocol, and everybody hears everything', async () => {
    const names = await namesOf(page)
    await page.getByRole('button', { name: 'Publish in every protocol' }).click()
    const all = names.length ** 2
    await page.getByText(`heard ${all} of ${all}`).waitFor()
    assert.equal(await page.locator('.heard td.good').count(), all)
  })

  test('values, messages and members are asked for in the pane of Hotsock', async () => {
    const pane = page.locator('#pane-hotsock')
    const mark = `kept-${Date.now()}`
    await publish(page, 'hotsock', 'greeting', JSON.stringify({ text: mark }))
    await pane.getByText('More to try').click()
    for (const [title, fields, expected] of [
      ['Set a value', { Value: JSON.stringify({ mark }) }, '202'],
      ['Get a value', {}, mark],
      ['List messages', {}, mark],
      ['Who is there', {}, '"subscriptionsCount":1,"members":[{"uid":"console"'],
    ]) {
      const form = pane.getByRole('form', { name: title })
      for (const [label, text] of Object.entries(fields)) await form.getByLabel(label).fill(text)
      await form.getByRole('button', { name: title }).click()
      await form.locator('.answer').filter({ hasText: expected }).waitFor()
    }
    // The value is observed, too, and the secret of the connection is not shown.
    await pane.locator('.log li').filter({ hasText: 'channelStorageUpdated' }).first().waitFor()
    assert.equal(await pane.locator('.log li').filter({ hasText: '"***"' }).count(), 1)
  })

  test('statuses are posted and deleted in the pane of Mastodon, and an account is cut', async () => {
    const pane = page.locator('#pane-mastodon')
    await pane.getByText('More to try').click()
    const mark = `status-${Date.now()}`
    for (const [title, label, text, stream] of [
      ['Post a public status', 'Text', mark, '"public"'],
      ['Post with the tag', 'Text', `${mark} & <tagged>`, '"hashtag"'],
      ['Delete a status', 'Id', '4711', '"public"'],
    ]) {
      const form = pane.getByRole('form', { name: title })
      await form.getByLabel(label).fill(text)
      await form.getByRole('button', { name: title }).click()
      await form.locator('.answer').filter({ hasText: '202' }).waitFor()
      const heard = pane.locator('.log li.event').filter({ hasText: stream })
      await heard.filter({ hasText: text === '4711' ? text : mark }).first().waitFor()
    }
    const form = pane.getByRole('form', { name: 'End the connections of an account' })
    await form.getByRole('button').click()
    await form.locator('.answer').filter({ hasText: '202' }).waitFor()
    await page.waitForFunction(() => document.querySelector('#pane-mastodon').dataset.state !== 'listening')
    await listening(page)
  })

  test('a notification is sent, shown with how far it is, and logged', async () => {
    await page.locator('#push').scrollIntoViewIfNeeded()
    const form = page.getByRole('form', { name: 'Send a notification' })
    const mark = `<b>note</b> ${Date.now()}`
    await form.getByLabel('Title').fill(mark)
    await form.getByRole('button').click()
    await form.locator('.answer').filter({ hasText: 'accepted' }).waitFor()
    await page.locator('#push-logged li').filter({ hasText: mark }).waitFor()
    const row = page.locator('#push-publishes tr[data-state=succeeded]').first()
    await row.filter({ hasText: '1 of 1 device, 1 taken' }).waitFor()
    const bar = row.getByRole('progressbar')
    assert.deepEqual(
      [await bar.getAttribute('aria-valuenow'), await bar.getAttribute('aria-valuemax')],
      ['1', '1'],
    )
    assert.equal(await row.getByRole('button').count(), 0, 'nothing can be called off any more')
    await page.locator('#push-providers [data-provider=fcm]').filter({ hasText: '0 under way' }).waitFor()
  })

  test('text that looks like markup stays text', async () => {
    const mark = `<img src=x onerror="document.title='broken'">${Date.now()}`
    await publish(page, 'pusher', '<b>bold</b>', JSON.stringify({ text: mark }))
    await heardIn(page, 'pusher', 'onerror')
    assert.equal(await page.locator('.log img, .log b').count(), 0)
    assert.equal(await page.title(), 'Ringmain console')
  })

  test('a log keeps its newest hundred frames', async () => {
    await page.evaluate(async () => {
      const { default: pane } = await import('/_/panes/pusher.js')
      const {
        apps: [app],
      } = await (await fetch('/_/about')).json()
      const { post } = await import('/_/api.js')
      for (let n = 0; n < 110; n += 1) {
        await pane.publish(
          { app, channel: app.bridge[0], post: (path, value) => post(app, path, value) },
          'many',
          n,
        )
      }
    })
    await heardIn(page, 'pusher', '"109"')
    assert.equal(await page.locator('#pane-pusher .log li').count(), 100)
  })

  test('numbers are those of /metrics', async () => {
    await settles(
      page,
      () => document.querySelector('#value-connections').textContent,
      (all) => total(all, 'ringmain_connections').toLocaleString('en'),
    )
    for (const [id, name] of [
      ['events', 'ringmain_events_published_total'],
      ['deliveries', 'ringmain_events_delivered_total'],
    ]) {
      const look = `document.querySelector('#total-${id}').textContent`
      await settles(page, look, (all) => `${total(all, name).toLocaleString('en')} in all`)
    }
    await settles(
      page,
      () =>
        [...document.querySelectorAll('#endings-table td')].map(({ dataset, textContent }) => [
          dataset.reason,
          dataset.dialect,
          textContent,
        ]),
      (all) => {
        const name = 'ringmain_connections_closed_total'
        const values = (key) => [
          ...new Set(all.filter((one) => one.name === name).map(({ labels }) => labels[key])),
        ]
        return values('reason').flatMap((reason) =>
          [...values('dialect'), 'all'].map((dialect) => {
            const where = dialect === 'all' ? { reason } : { reason, dialect }
            return [reason, dialect, total(all, name, where).toLocaleString('en')]
          }),
        )
      },
    )
  })

  test('charts say in words what they draw', async () => {
    assert.equal(await page.locator('.chart canvas').count(), 5)
    const chart = page.locator('#chart-connections')
    await chart.getByText('As a table').click()
    await chart.locator('tbody tr').first().waitFor()
    assert.match(await chart.locator('tbody tr').first().textContent(), /\d/)
    await chart.getByText('As a table').click()
  })

  test('a closed pane says so, opens again, and is counted among the endings', async () => {
    const pane = page.locator('#pane-pusher')
    await pane.getByRole('button', { name: 'Disconnect' }).click()
    await page.waitForFunction(
      () => Number(document.querySelector('td[data-reason="peer"][data-dialect="pusher"]').textContent) > 0,
    )
    await pane.getByRole('button', { name: 'Connect Pusher' }).click()
    await listening(page)
  })

  test('the bridged channel is listed, with its subscriptions', async () => {
    await page.locator('#channels').scrollIntoViewIfNeeded()
    const row = page
      .locator('#channels-rows tr')
      .filter({ has: page.getByRole('button', { name: 'hello', exact: true }) })
    await row.waitFor()
    assert.ok(Number(await row.locator('td').first().textContent()) >= 1)
    await page.getByLabel('Filter').fill('no such channel')
    await row.waitFor({ state: 'detached' })
    await page.getByLabel('Filter').fill('')
    await row.getByRole('button', { name: 'hello', exact: true }).click()
    await page.locator('#members h3').waitFor()
  })

  test('the inspector shows every lane, and its bytes are the payload', async () => {
    await page.locator('#channels-rows').getByRole('button', { name: 'Inspect hello' }).click()
    await page.locator('#inspector-state[data-state=listening]').waitFor()
    const mark = `bytes-${Date.now()}`
    await publish(page, 'pusher', 'inspected', JSON.stringify({ text: mark }))
    const event = page.locator('#inspector-events > li').filter({ hasText: 'inspected' })
    await event.waitFor()
    assert.match(await event.locator('.serial').textContent(), /^#\d/)
    const lanes = event.locator('details.lane')
    const dialects = new Set()
    for (let n = 0; n < (await lanes.count()); n += 1) {
      const lane = lanes.nth(n)
      dialects.add(await lane.locator('summary strong').textContent())
      if (!(await lane.evaluate(({ open }) => open))) await lane.locator('summary').click()
      // Sixteen bytes a row: four digits of offset, two blanks, the digits, two blanks, the letters.
      const dump = await lane.locator('.dump').textContent()
      const digits = dump
        .split('\n')
        .map((row) => row.slice(6, 6 + 16 * 3 - 1))
        .join(' ')
      const frame = Buffer.from(digits.replace(/\s/g, ''), 'hex')
      assert.equal(await lane.locator('.bytes').textContent(), `${frame.length.toLocaleString('en')} bytes`)
      await lane.locator('.payload').filter({ hasText: mark }).waitFor()
      const [, piece] = /, (chunk|plain), /.exec(await lane.locator('summary').textContent()) ?? []
      if (piece) {
        // A piece of an event stream, as one chunk or as it stands.
        const text = frame.toString()
        const head = piece === 'chunk' ? text.slice(0, text.indexOf('\r\n') + 2) : ''
        const foot = piece === 'chunk' ? '\r\n' : ''
        const payload = text.slice(head.length, text.length - foot.length)
        if (piece === 'chunk') assert.equal(parseInt(head, 16), Buffer.byteLength(payload))
        assert.ok(text.endsWith(foot) && /^event: inspected\ndata: .+\n\n$/.test(payload), text)
        assert.ok(payload.includes(mark), text)
        continue
      }
      const header = frame[1] < 126 ? 2 : frame[1] === 126 ? 4 : 10
      const isBinary = /binary/.test(await lane.locator('summary').textContent())
      assert.equal(frame[0] & 0x8f, isBinary ? 0x82 : 0x81, 'one whole message')
      const isCompressed = (frame[0] & 0x40) !== 0
      assert.equal(/deflate/.test(await lane.locator('summary').textContent()) || !isCompressed, true)
      const payload = frame.subarray(header)
      const text = isCompressed
        ? inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 0xff, 0xff, 3, 0])])).toString()
        : payload.toString()
      assert.ok(text.includes(mark), text)
      if (!isBinary) assert.doesNotThrow(() => JSON.parse(text))
    }
    assert.deepEqual([...dialects].sort(), (await namesOf(page)).sort())
  })

  test('a snippet names this server, and is copied', async () => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.origin })
    for (const name of await namesOf(page)) {
      const pane = page.locator(`#pane-${name}`)
      await pane.getByText('Connect your own code').click()
      await pane.getByRole('button', { name: 'Copy' }).click()
      await pane.getByRole('button', { name: 'Copied' }).waitFor()
      const copied = await page.evaluate(() => navigator.clipboard.readText())
      assert.ok(copied.includes(String(server.port)) && copied.includes('hello'), copied)
      await pane.getByText('Connect your own code').click()
    }
  })

  test('pictures, light and dark, and text that can be read in both', async () => {
    await page.getByRole('button', { name: 'Clear' }).click()
    await page.getByRole('button', { name: 'Publish in every protocol' }).click()
    await page.getByText(/heard (\d+) of \1/).waitFor()
    await page.locator('#inspector-events .dump').waitFor()
    await page.evaluate(() => scrollTo(0, 0))
    await picture(page, 'light')
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme })
      for (const selector of [
        'body',
        '.section-head p',
        '.card .muted',
        '.log .event pre',
        'button.primary',
        '.state',
        'a',
        '.j-string',
      ]) {
        const ratio = await page.locator(selector).first().evaluate(contrast)
        assert.ok(ratio >= 4.5, `${selector} in the ${scheme} scheme: ${ratio.toFixed(2)}`)
      }
    }
    await picture(page, 'dark')
    const button = page.getByRole('button', { name: 'Theme:' })
    await button.click()
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'light')
    await button.click()
    await button.click()
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), 'dark')
  })

  test('nothing was complained about', () => assert.deepEqual(page.complaints, []))
})

// The ratio of WCAG 2.2, section 1.4.3, of an element's text to what is behind it. Runs in the page.
function contrast(node) {
  const parse = (text) => text.match(/[\d.]+/g).map(Number)
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((value) =>
      value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    )
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
  }
  let behind = node
  while (behind.parentElement && parse(getComputedStyle(behind).backgroundColor)[3] === 0)
    behind = behind.parentElement
  const pair = [
    light(parse(getComputedStyle(node).color)),
    light(parse(getComputedStyle(behind).backgroundColor)),
  ]
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)
}

describe('without a mouse', () => {
  let server, page
  before(async () => {
    server = await Server.start()
    page = await openPage(browser, server)
    await listening(page)
  })
  after(async () => {
    await page?.context().close()
    await server?.close()
  })

  // Presses Tab until `where` holds for the focused element, which has to show that it is.
  async function tabTo(where, presses = 80) {
    for (let n = 0; n < presses; n += 1) {
      await page.keyboard.press('Tab')
      const [isThere, isVisible] = await page.evaluate((where) => {
        const node = document.activeElement
        const { outlineStyle, outlineWidth } = getComputedStyle(node)
        return [node.matches(where), outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1]
      }, where)
      assert.ok(isVisible, 'the focus is visible everywhere')
      if (isThere) return
    }
    assert.fail(`Tab does not reach ${where}`)
  }

  test('the first stop skips to the content', async () => {
    await page.keyboard.press('Tab')
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip')
    await page.keyboard.press('Enter')
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main')
  })

  test('Tab and Enter publish an event', async () => {
    await tabTo('#pane-pusher-name')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('typed')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('{"text":"by keys alone"}')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    for (const to of await namesOf(page)) await heardIn(page, to, 'by keys alone')
  })

  test('arrows move between the tabs of the snippets', async () => {
    await tabTo('#pane-pusher .snippets summary')
    await page.keyboard.press('Enter')
    await tabTo('#pane-pusher [role=tab]', 1)
    const first = await page.evaluate(() => document.activeElement.textContent)
    await page.keyboard.press('ArrowRight')
    const second = await page.evaluate(() => [
      document.activeElement.textContent,
      document.activeElement.ariaSelected,
    ])
    assert.notEqual(second[0], first)
    assert.equal(second[1], 'true')
    assert.equal(await page.locator('#pane-pusher [role=tabpanel]:not([hidden])').count(), 1)
    await page.keyboard.press('End')
    await page.keyboard.press('ArrowRight')
    assert.equal(await page.evaluate(() => document.activeElement.textContent), first)
  })

  test('everything that takes the focus has a name', async () => {
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, a[href], input, select, textarea, [tabindex="0"]')]
        .filter((node) => node.checkVisibility())
        .filter((node) => {
          const names = [node.ariaLabel, node.labels?.[0]?.textContent, node.textContent, node.alt]
          return !names.some((name) => name?.trim())
        })
        .map((node) => node.outerHTML.slice(0, 120)),
    )
    assert.deepEqual(nameless, [])
  })
})

describe('when the server goes away', () => {
  test('the page says so, and comes back with it', async () => {
    const server = await Server.start()
    const page = await openPage(browser, server)
    try {
      await listening(page)
      await server.kill()
      await page.locator('.notice').filter({ hasText: 'the server does not answer' }).first().waitFor()
      for (const state of await page.locator('.pane .state').allTextContents())
        assert.match(state, /^(closed|connecting)/)
      await server.run(server.port)
      await listening(page)
      await page.waitForFunction(() => document.querySelectorAll('.notice').length === 0)
    } finally {
      await page.context().close()
      await server.close()
    }
  })
})

describe('on a phone', () => {
  test('nothing is wider than the screen', async () => {
    const server = await Server.start()
    const page = await openPage(browser, server, {
      viewport: { width: 360, height: 740 },
      isMobile: true,
      hasTouch: true,
      deviceScaleFactor: 2,
    })
    try {
      await listening(page)
      await page.getByRole('button', { name: 'Publish in every protocol' }).click()
      await page.getByText(/heard (\d+) of \1/).waitFor()
      for (const summary of await page.locator('#pane-pusher .snippets summary').all()) await summary.click()
      const [wanted, given] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
      assert.ok(given <= 360 && wanted <= given, `${wanted} of ${given}`)
      await page.evaluate(() => scrollTo(0, 0))
      await picture(page, 'phone')
      assert.deepEqual(page.complaints, [])
    } finally {
      await page.context().close()
      await server.close()
    }
  })
})

describe('in production', () => {
  const TOKEN = 'a-token-that-nobody-guesses-4711'
  const CONFIGURATION = `admin.token = "${TOKEN}"

[[apps]]
id = "shop"
key = "shop-key"
secret = "shop-secret"
`

  test('a login is demanded, a wrong token is refused, the right one opens', async () => {
    const server = await Server.start(CONFIGURATION)
    const page = await openPage(browser, server)
    try {
      await page.locator('#login').waitFor()
      assert.equal(await page.locator('#sections').isVisible(), false)
      assert.equal(await page.evaluate(async () => (await fetch('/_/channels?app=shop')).status), 401)

      await page.getByLabel('Token', { exact: true }).fill('wrong')
      await page.getByRole('button', { name: 'Log in' }).click()
      await page.getByText('401: that is not the token').waitFor()
      assert.equal(await page.locator('#sections').isVisible(), false)
      await picture(page, 'login')

      await page.getByLabel('Token', { exact: true }).fill(TOKEN)
      await page.getByRole('button', { name: 'Log in' }).click()
      await page.locator('#sections').waitFor()
      assert.equal(await page.evaluate(() => document.cookie), '', 'a script cannot read the cookie')
      const about = await page.evaluate(async () => (await fetch('/_/about')).json())
      assert.equal(about.development, false)
      await page.waitForFunction(() => /\d/.test(document.querySelector('#value-connections').textContent))

      await page.getByRole('button', { name: 'Log out' }).click()
      await page.locator('#login').waitFor()
      assert.equal(await page.evaluate(async () => (await fetch('/_/about')).status), 401)
      // The browser itself tells each 401 on its console; nothing else may stand there.
      assert.deepEqual(
        page.complaints.filter((text) => !text.includes('401')),
        [],
      )
    } finally {
      await page.context().close()
      await server.close()
    }
  })

  test('a publish that its provider does not take is shown so, and called off', async () => {
    // Nobody listens on port 1: the notification is tried again and again.
    const server = await Server.start(`${CONFIGURATION}
[push]
allow_private = true
encryption_key = "${'k'.repeat(32)}"
retry_first_s = 600
retry_longest_s = 600
`)
    const page = await openPage(browser, server)
    try {
      await page.getByLabel('Token', { exact: true }).fill(TOKEN)
      await page.getByRole('button', { name: 'Log in' }).click()
      await page.locator('#push').scrollIntoViewIfNeeded()
      assert.equal(await page.locator('#push-try').isVisible(), false, 'nobody is asked about a phone that is none')
      const [ours, theirs] = [createECDH('prime256v1'), createECDH('prime256v1')]
      ours.generateKeys()
      theirs.generateKeys()
      const asked = [
        [
          'credentials/webpush',
          {
            publicKey: ours.getPublicKey('base64url'),
            privateKey: ours.getPrivateKey('base64url'),
            subject: 'mailto:a@example.com',
          },
        ],
        [
          'deviceRegistrations',
          {
            appId: 'shop',
            id: 'browser',
            formFactor: 'desktop',
            platform: 'browser',
            deviceSecret: 's',
            timezone: 'UTC',
            locale: 'en',
            push: {
              recipient: {
                transportType: 'web',
                endpoint: 'https://127.0.0.1:1/x',
                p256dh: theirs.getPublicKey('base64url'),
                auth: randomBytes(16).toString('base64url'),
              },
            },
          },
        ],
        [
          'publish',
          {
            publishId: 'stuck',
            recipients: [{ type: 'device', device_id: 'browser' }],
            payload: { title: 'a', body: 'b' },
          },
        ],
      ]
      for (const [path, value] of asked) {
        const answer = await page.evaluate(
          async ([path, value]) => {
            const { post } = await import('/_/api.js')
            return post({ id: 'shop' }, `/apps/shop/push/${path}`, value)
          },
          [path, value],
        )
        assert.ok(answer.status < 300, `${path}: ${answer.status} ${answer.body}`)
      }
      const row = page.locator('#push-publishes tr').filter({ hasText: 'stuck' })
      await row.filter({ hasText: '0 of 1 device, 1 tried again later' }).waitFor()
      await page.locator('#push-providers [data-provider=webPush]').filter({ hasText: '1 tried again' }).waitFor()
      await picture(page, 'push')
      await row.getByRole('button', { name: 'Cancel stuck' }).click()
      await page.locator('#push-publishes tr[data-state=cancelled]').filter({ hasText: 'stuck' }).waitFor()
      assert.equal(await row.getByRole('button').count(), 0)
      assert.deepEqual(
        page.complaints.filter((text) => !text.includes('401')),
        [],
      )
    } finally {
      await page.context().close()
      await server.close()
    }
  })

  test('an app shows the protocols that serve it', async () => {
    const server = await Server.start(`${CONFIGURATION}bridge = ["hello"]
[[apps]]
id = "notes"
key = "notes-key"
secret = "notes-secret"
bridge = ["hello"]
[hypothesis]
app = "notes"
`)
    const page = await openPage(browser, server)
    const panes = (count) =>
      page.waitForFunction((it) => document.querySelectorAll('.pane').length === it, count)
    try {
      await page.getByLabel('Token', { exact: true }).fill(TOKEN)
      await page.getByRole('button', { name: 'Log in' }).click()
      await panes(1)
      await page.locator('#app').selectOption('notes')
      await panes(2)
      await page.locator('.pane[data-dialect=hypothesis]').waitFor()
      await page.locator('#app').selectOption('shop')
      await panes(1)
      await page.locator('.pane[data-dialect=pusher]').waitFor()
    } finally {
      await page.context().close()
      await server.close()
    }
  })
})
