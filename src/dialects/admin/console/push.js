// Push notifications: publishes under way and how far they are, how providers are, and what was logged instead of being sent.

import { askJson, notice, post } from './api.js'
import { announce, arrange, byId, count, make, plural, span, write } from './page.js'

const PERIOD_MS = 1000

// How devices of a publish end, in the order of the bar.
const PARTS = ['succeeded', 'skipped', 'expired', 'failed', 'dead_lettered']
const NAMES = { succeeded: 'taken', skipped: 'left out', expired: 'too late', failed: 'refused', dead_lettered: 'given up' }
// A device that is none: what goes there is logged, because there are no credentials.
const DEVICE = 'console-phone'

const rows = new Map()
let isAsking = false
let isOpen = false
let isOnScreen = false
let timer = null
let app = null

function rowOf(key) {
  if (rows.has(key)) return rows.get(key)
  const row = {
    id: make('span', { class: 'publish-id' }),
    state: make('td', {}),
    bar: make('div', { class: 'progress', role: 'progressbar', 'aria-valuemin': 0 }),
    detail: make('small', {}),
    act: make('td', { class: 'act' }),
  }
  for (const part of PARTS) row.bar.append(make('span', { class: `part ${part}` }))
  row.node = make(
    'tr',
    {},
    make('th', { scope: 'row' }, row.id),
    row.state,
    make('td', {}, row.bar, row.detail),
    row.act,
  )
  rows.set(key, row)
  return row
}

function drawPublish(publish) {
  const row = rowOf(`${publish.app}/${publish.id}`)
  const all = Math.max(publish.expected, publish.planned, 1)
  const done = PARTS.reduce((sum, part) => sum + publish[part], 0)
  write(row.id, publish.id)
  row.id.title = `app ${publish.app}, accepted ${new Date(publish.accepted_at).toLocaleString()}`
  const isLater = publish.not_before > Date.now() && !publish.is_final
  const until = isLater ? `in ${span((publish.not_before - Date.now()) / 1000)}` : ''
  write(row.state, `${publish.state.replaceAll('_', ' ')} ${until}`.trim())
  row.node.dataset.state = publish.state
  row.bar.setAttribute('aria-valuemax', all)
  row.bar.setAttribute('aria-valuenow', done)
  row.bar.setAttribute('aria-label', `Devices of ${publish.id}`)
  PARTS.forEach((part, at) => {
    row.bar.children[at].style.width = `${(100 * publish[part]) / all}%`
  })
  const ends = PARTS.filter((part) => publish[part] > 0).map((part) => `${count(publish[part])} ${NAMES[part]}`)
  const waiting = publish.retry_scheduled > 0 ? [`${count(publish.retry_scheduled)} tried again later`] : []
  const why = publish.reason ? [publish.reason] : []
  write(row.detail, [`${count(done)} of ${plural(all, 'device')}`, ...ends, ...waiting, ...why].join(', '))
  if (publish.is_final) row.act.replaceChildren()
  else if (!row.act.firstChild) {
    const cancel = make('button', { type: 'button', text: 'Cancel', 'aria-label': `Cancel ${publish.id}` })
    cancel.addEventListener('click', () => callOff(publish, cancel))
    row.act.replaceChildren(cancel)
  }
  return row.node
}

async function callOff({ app, id }, button) {
  button.disabled = true
  try {
    await askJson(`push/publishes/${encodeURIComponent(id)}`, { query: { app }, method: 'DELETE' })
    announce(`${id} is called off`)
  } catch (error) {
    notice('Push', error.message)
  }
  button.disabled = false
  refresh()
}

function drawProvider({ provider, in_flight, retrying, paused_ms, reason }) {
  const parts = [
    `${count(in_flight)} under way`,
    ...(retrying ? [`${count(retrying)} tried again later`] : []),
    ...(paused_ms === undefined ? [] : [`left alone for ${span(paused_ms / 1000)}`]),
    ...(reason ? [reason] : []),
  ]
  return make(
    'div',
    { class: paused_ms === undefined ? '' : 'bad', 'data-provider': provider },
    make('dt', { text: provider }),
    make('dd', { text: parts.join('; ') }),
  )
}

function draw({ publishes, providers, logged }) {
  const keys = new Set(publishes.map(({ app, id }) => `${app}/${id}`))
  for (const key of rows.keys()) if (!keys.has(key)) rows.delete(key)
  arrange(byId('push-publishes'), publishes.map(drawPublish))
  byId('push-none').hidden = publishes.length > 0
  byId('push-providers').replaceChildren(...providers.map(drawProvider))
  const log = byId('push-logged')
  const text = logged.join('\n')
  // Redrawn only when something changed: what a person reads or selects stays.
  if (log.dataset.shown !== text) {
    log.dataset.shown = text
    log.replaceChildren(...logged.map((line) => make('li', {}, make('pre', { text: line }))))
  }
  byId('push-logged-none').hidden = logged.length > 0
}

async function refresh() {
  clearTimeout(timer)
  if (!isOpen || isAsking) return
  if (isOnScreen && !document.hidden) {
    isAsking = true
    try {
      const overview = await askJson('push')
      if (isOpen) {
        byId('push-off').hidden = true
        byId('push-on').hidden = false
        draw(overview)
      }
      notice('Push', '')
    } catch (error) {
      const isOff = error.status === 404
      byId('push-off').hidden = !isOff
      byId('push-on').hidden = isOff
      notice('Push', isOff || error.status === 401 ? '' : error.message)
    }
    isAsking = false
  }
  clearTimeout(timer)
  if (isOpen) timer = setTimeout(refresh, PERIOD_MS)
}

// Registers the device that is none, lets it hear of a channel, and publishes there.
async function send(channel, title, body) {
  const under = `/apps/${app.id}/push`
  const device = {
    appId: app.id,
    id: DEVICE,
    formFactor: 'phone',
    platform: 'android',
    deviceSecret: DEVICE,
    timezone: 'UTC',
    locale: 'en',
    push: { recipient: { transportType: 'gcm', registrationToken: `${DEVICE}-${app.id}` } },
  }
  for (const [path, value] of [
    ['deviceRegistrations', device],
    ['channelSubscriptions', { appId: app.id, channel, deviceId: DEVICE, provider: 'fcm' }],
    ['publish', { recipients: [{ type: 'channel', channel }], payload: { title, body } }],
  ]) {
    const answer = await post(app, `${under}/${path}`, value)
    if (answer.status >= 300) throw new Error(`${path}: ${answer.status}: ${answer.body}`)
  }
}

byId('push-try').addEventListener('submit', async (event) => {
  event.preventDefault()
  const answer = byId('push-answer')
  const button = byId('push-send')
  button.disabled = true
  try {
    await send(byId('push-channel').value, byId('push-title').value, byId('push-body').value)
    answer.classList.remove('bad')
    write(answer, 'accepted; it is logged below')
  } catch (error) {
    answer.classList.add('bad')
    write(answer, error.message)
  }
  button.disabled = false
  refresh()
})

export function openPush(about, forApp) {
  app = forApp
  isOpen = true
  // Elsewhere providers would be asked about a device that is none.
  byId('push-try').hidden = !about.development
  refresh()
}

export function closePush() {
  isOpen = false
  clearTimeout(timer)
}

new IntersectionObserver(([entry]) => {
  isOnScreen = entry.isIntersecting
  if (isOnScreen) refresh()
}).observe(byId('push'))
