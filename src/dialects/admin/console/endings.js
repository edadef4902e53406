// Why connections ended: a table from the one metric with two labels, and two numbers beside it.

import { arrange, byId, bytes, count, make, plural, write } from './page.js'
import { watch } from './metrics.js'

// In the order and the words of the server's own list of reasons.
const MEANINGS = {
  peer: 'The peer closed, or went away.',
  session:
    'The session ended it as its protocol says: not authorised, or its rules were broken.',
  asked: 'The application asked for it: the connections of a user were ended, or told to come back.',
  slow_consumer: 'Its outbox passed the high-water mark: events came faster than the peer read them.',
  drain: 'The server was asked to stop, and told its peers to connect elsewhere.',
  protocol: 'The peer broke HTTP or the WebSocket protocol.',
  too_large: 'A message or frame was above its limit.',
  utf8: 'A text message was not UTF-8.',
  timeout: 'A request head, a body, a sign of life or the answer to a close did not come in time.',
  overload: 'A limit of the process was reached: connections, descriptors or memory.',
  done: 'The HTTP answer was given, and the peer asked for no more.',
  failed: 'Code of the server failed. This connection was given up, no other was touched; please report it.',
}

const cellsOf = new Map()
let columns = []

function draw(dialects, reasons) {
  columns = dialects
  cellsOf.clear()
  const heads = [...dialects, 'all'].map((name) => make('th', { scope: 'col', class: 'number', text: name }))
  const table = byId('endings-table')
  table.tHead.replaceChildren(make('tr', {}, make('th', { scope: 'col', text: 'reason' }), ...heads))
  const rows = reasons.map((reason) => {
    const name = MEANINGS[reason] ? make('a', { href: `#reason-${reason}`, text: reason }) : reason
    const cells = [...dialects, 'all'].map((dialect) => {
      const cell = make('td', { class: 'number', 'data-reason': reason, 'data-dialect': dialect })
      cellsOf.set(`${reason}/${dialect}`, cell)
      return cell
    })
    return make('tr', {}, make('th', { scope: 'row' }, name), ...cells)
  })
  table.tBodies[0].replaceChildren(...rows)
}

function fact(id, title, text) {
  const node = byId(id) ?? make('div', { id }, make('dt', { text: title }), make('dd'))
  write(node.lastChild, text)
  return node
}

function look(sample) {
  const sums = new Map()
  const dialects = new Set()
  const reasons = new Set()
  for (const { labels, value } of sample.all('ringmain_connections_closed_total')) {
    dialects.add(labels.dialect)
    reasons.add(labels.reason)
    for (const dialect of [labels.dialect, 'all']) {
      const key = `${labels.reason}/${dialect}`
      sums.set(key, (sums.get(key) ?? 0) + value)
    }
  }
  if ([...dialects].join() !== columns.join()) draw([...dialects], [...reasons])
  for (const [key, cell] of cellsOf) {
    const value = sums.get(key) ?? 0
    write(cell, count(value))
    cell.classList.toggle('zero', value === 0)
  }
  arrange(byId('endings-facts'), [
    fact(
      'slow-consumers',
      'Slow consumers',
      plural(sample.sum('ringmain_slow_consumers_total'), 'connection'),
    ),
    fact('outbox-peak', 'The most one outbox has held', bytes(sample.most('ringmain_outbox_peak_bytes'))),
    fact('frames-dropped', 'Frames taken back unsent', count(sample.sum('ringmain_frames_dropped_total'))),
  ])
}

export function openEndings() {
  const meanings = Object.entries(MEANINGS).map(([reason, text]) =>
    make('div', { id: `reason-${reason}` }, make('dt', { text: reason }), make('dd', { text })),
  )
  byId('reasons').replaceChildren(...meanings)
  watch(look)
}
