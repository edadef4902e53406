// The frame inspector: opens the tap on one channel and shows what every event became.

import { socketUrl } from './api.js'
import { describe, fromBase64 } from './frames.js'
import { byId, count, gathered, make, plural, write } from './page.js'

const EVENTS_MAX = 20

const hear = gathered(EVENTS_MAX, (events) => events.forEach(put))

let app = null
let socket = null

function show(text, kind) {
  const state = byId('inspector-state')
  write(state, text)
  state.dataset.state = kind
  write(byId('inspector-toggle'), socket ? 'Stop' : 'Inspect')
}

function drawLane(lane) {
  const frame = fromBase64(lane.bytes)
  const node = make(
    'details',
    { class: 'lane', 'data-lane': lane.lane },
    make(
      'summary',
      {},
      make('strong', { text: lane.dialect }),
      ` lane ${lane.lane}, ${lane.kind}, `,
      make('span', { class: 'bytes', text: plural(frame.length, 'byte') }),
    ),
  )
  // Drawn when it is opened: most never are.
  node.addEventListener(
    'toggle',
    () => node.open && node.children.length === 1 && node.append(...describe(frame, lane.kind)),
  )
  return node
}

function drawEvent({ serial, at, name, bytes, lanes }) {
  const title = make(
    'h3',
    {},
    make('span', { class: 'serial', text: serial ? `#${count(serial)}` : 'own' }),
    ` ${name}`,
  )
  const about = make(
    'p',
    { class: 'muted' },
    make('time', { datetime: at, text: at.replace('T', ' ').replace('Z', ' UTC') }),
  )
  about.append(`, ${plural(bytes, 'byte')} of data, ${plural(lanes.length, 'lane')}`)
  return make('li', { class: 'card event', 'data-serial': serial }, title, about, ...lanes.map(drawLane))
}

function put(event) {
  const list = byId('inspector-events')
  const node = drawEvent(event)
  // The first one opens by itself, to show what there is; later ones leave the reader alone.
  if (list.children.length === 0)
    for (const lane of [...node.querySelectorAll('details')].slice(0, 1)) lane.open = true
  list.prepend(node)
  while (list.children.length > EVENTS_MAX) list.lastChild.remove()
}

export function inspect(channel) {
  stop()
  byId('inspector-channel').value = channel
  const opened = new WebSocket(socketUrl('tap', { app: app.id, channel }))
  let wasOpen = false
  socket = opened
  show('connecting', 'connecting')
  opened.onopen = () => {
    wasOpen = true
    if (socket === opened) show(`inspecting ${channel}`, 'listening')
  }
  opened.onmessage = ({ data }) => {
    if (socket !== opened) return
    hear(JSON.parse(data))
  }
  opened.onclose = ({ code, reason }) => {
    if (socket !== opened) return
    socket = null
    // A refused handshake tells a page nothing; what it most likely is, a person can be told.
    const why = wasOpen
      ? `${code} ${reason}`.trim()
      : 'the tap did not open: log in again, or the channel has no valid name'
    show(`closed: ${why}`, 'closed')
  }
}

function stop() {
  const open = socket
  socket = null
  open?.close(1000)
  show('not inspecting', 'off')
}

export function openInspector(forApp, channel) {
  if (app) stop()
  app = forApp
  byId('inspector-channel').value = channel
}

export function closeInspector() {
  stop()
  app = null
}

byId('inspector-form').addEventListener('submit', (event) => {
  event.preventDefault()
  if (socket) stop()
  else if (app) inspect(byId('inspector-channel').value.trim())
})
byId('inspector-clear').addEventListener('click', () => byId('inspector-events').replaceChildren())
