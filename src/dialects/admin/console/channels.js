// The channels of the selected app, and the members of one of them.

import { askJson, notice } from './api.js'
import { arrange, byId, count, make, plural, pretty, write } from './page.js'

const PERIOD_MS = 2000
const SHOWN_MAX = 1000

const rows = new Map()
let app = null
let chosen = null
let known = { channels: [], more: false }
let inspect = () => {}
let isOnScreen = false
let timer = null

function rowOf(name) {
  if (rows.has(name)) return rows.get(name)
  const pick = make('button', { type: 'button', class: 'link', text: name, onclick: () => choose(name) })
  const look = make('button', {
    type: 'button',
    text: 'Inspect',
    'aria-label': `Inspect ${name}`,
    onclick: () => inspect(name),
  })
  const subscriptions = make('td', { class: 'number' })
  const members = make('td', { class: 'number' })
  const node = make(
    'tr',
    {},
    make('th', { scope: 'row' }, pick),
    subscriptions,
    members,
    make('td', { class: 'act' }, look),
  )
  const row = { node, pick, subscriptions, members }
  rows.set(name, row)
  return row
}

function draw() {
  const wanted = byId('channels-filter').value.trim().toLowerCase()
  const shown = known.channels.filter(({ name }) => name.toLowerCase().includes(wanted)).slice(0, SHOWN_MAX)
  const names = new Set(known.channels.map(({ name }) => name))
  for (const name of rows.keys()) if (!names.has(name)) rows.delete(name)
  const nodes = shown.map((channel) => {
    const row = rowOf(channel.name)
    write(row.subscriptions, count(channel.subscriptions))
    write(row.members, count(channel.members))
    row.pick.setAttribute('aria-pressed', String(channel.name === chosen))
    return row.node
  })
  arrange(byId('channels-rows'), nodes)
  const total = `${known.more ? 'more than ' : ''}${plural(known.channels.length, 'channel')}`
  write(byId('channels-count'), wanted ? `${count(shown.length)} of ${total}` : total)
}

function choose(name) {
  chosen = chosen === name ? null : name
  draw()
  refreshMembers()
}

async function refreshMembers() {
  const box = byId('members')
  const channel = chosen
  if (!channel) {
    box.replaceChildren(make('p', { class: 'muted', text: 'Choose a channel to see its members.' }))
    return
  }
  const { members } = await askJson('members', { query: { app: app.id, channel } })
  if (channel !== chosen) return
  const text = JSON.stringify([channel, members])
  // Redrawn only when something changed: what a person reads or selects stays.
  if (box.dataset.shown === text && box.querySelector('h3')) return
  box.dataset.shown = text
  const items = members.map(({ id, info }) => {
    const detail = info === null || info === undefined ? [] : [make('pre', {}, pretty(JSON.stringify(info)))]
    return make('li', {}, make('strong', { text: id }), ...detail)
  })
  const none = make('p', { class: 'muted', text: 'None. Only presence channels have members.' })
  box.replaceChildren(
    make('h3', { text: channel }),
    make('p', { class: 'muted', text: plural(members.length, 'member') }),
    items.length
      ? make('ul', { class: 'member-list', tabindex: 0, 'aria-label': `Members of ${channel}` }, ...items)
      : none,
  )
}

async function refresh() {
  clearTimeout(timer)
  if (!app) return
  if (isOnScreen && !document.hidden) {
    try {
      const asked = app
      const answer = await askJson('channels', { query: { app: asked.id } })
      if (asked !== app) return
      known = answer
      draw()
      if (chosen) await refreshMembers()
      notice('Channels', '')
    } catch (error) {
      notice('Channels', error.message)
    }
  }
  clearTimeout(timer)
  timer = setTimeout(refresh, PERIOD_MS)
}

export function openChannels(forApp, whenInspected) {
  app = forApp
  inspect = whenInspected
  chosen = null
  known = { channels: [], more: false }
  rows.clear()
  draw()
  refreshMembers()
  refresh()
}

export function closeChannels() {
  app = null
  clearTimeout(timer)
}

byId('channels-filter').addEventListener('input', draw)
new IntersectionObserver(([entry]) => {
  isOnScreen = entry.isIntersecting
  if (isOnScreen) refresh()
}).observe(byId('channels'))
