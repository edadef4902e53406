// Live charts: one line per shard and one for all of them, from the differences of what is counted.

import uPlot from './vendor/uPlot.esm.js'
import { announce, byId, bytes, count, make, plural, rate, short, span, write } from './page.js'
import { watch } from './metrics.js'

const KEPT_S = 300
// A chart that has little to show yet shows it wide.
const SHOWN_S_MIN = 60
const POINTS_MAX = 400
const LATENCY_S = 60
const HEIGHT_PX = 170
const TIME_STEPS_S = [10, 15, 30, 60, 120, 300]
const COUNT_STEPS = [1, 2, 5].flatMap((n) => Array.from({ length: 10 }, (_, power) => n * 10 ** power)).sort((a, b) => a - b)
const BYTE_STEPS = Array.from({ length: 36 }, (_, power) => 2 ** (power + 4))
const COLOURS = 8
const ANNOUNCE_S = 30
const LATENCY = 'ringmain_publish_seconds'

const perSecond = (name) => (sample, before) => {
  const from = before.perShard(name)
  // The first sample has none before it, and so no rate yet.
  const seconds = Math.max(sample.at - before.at, 0.1)
  return sample.perShard(name).map((value, shard) => Math.max(0, value - (from[shard] ?? 0)) / seconds)
}

// `counter` is said beside the value of now: how many it has been in all.
const LINES = [
  { id: 'connections', title: 'Connections', read: (sample) => sample.perShard('ringmain_connections'), form: count, axis: short, least: 5 },
  {
    id: 'events',
    title: 'Events in, per second',
    read: perSecond('ringmain_events_published_total'),
    form: rate,
    axis: short,
    counter: 'ringmain_events_published_total',
  },
  {
    id: 'deliveries',
    title: 'Deliveries out, per second',
    read: perSecond('ringmain_events_delivered_total'),
    form: rate,
    axis: short,
    counter: 'ringmain_events_delivered_total',
  },
  { id: 'outbox', title: 'Bytes in outboxes', read: (sample) => sample.perShard('ringmain_outbox_bytes'), form: bytes, axis: bytes, least: 1024, steps: BYTE_STEPS },
]

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const shardColour = (shard) => `--series-${shard % COLOURS}`
const clock = (at) => new Date(at * 1000).toLocaleTimeString('en-GB')
const sum = (values) => values.reduce((sum, value) => sum + value, 0)

let shards = 0
let before = null
let announcedAt = 0
// Samples of the last minute and a little, for the histogram.
let recent = []
const charts = []

function card(id, title) {
  const value = make('span', { class: 'value', id: `value-${id}`, text: '–' })
  const total = make('span', { class: 'muted total', id: `total-${id}` })
  const plot = make('div', { class: 'plot', 'aria-hidden': 'true' })
  const readout = make('p', { class: 'readout muted' })
  const body = make('tbody')
  const head = make('tr')
  const table = make(
    'details',
    {},
    make('summary', { text: 'As a table' }),
    make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title },
      make('table', {}, make('thead', {}, head), body)),
  )
  const node = make('article', { class: 'card chart', id: `chart-${id}` },
    make('h3', {}, make('span', { class: 'label', text: title }), ' ', value, ' ', total), plot, readout, table)
  byId('chart-grid').append(node)
  return { value, total, plot, readout, table, head, body }
}

function tabulate(chart, heads, rows) {
  if (!chart.table.open) return
  const cell = (text, n) => make(n ? 'td' : 'th', n ? { class: 'number', text } : { scope: 'row', text })
  chart.head.replaceChildren(...heads.map((text, n) => make('th', { scope: 'col', class: n ? 'number' : '', text })))
  chart.body.replaceChildren(...rows.map((row) => make('tr', {}, ...row.map(cell))))
}

const axisLook = () => ({
  stroke: () => css('--muted'),
  grid: { stroke: () => css('--line'), width: 1 },
  ticks: { show: false },
  font: '11px system-ui, sans-serif',
})

// A scale that starts at zero and leaves air above; `least` is its end while nothing happens.
const fromZero = (least) => (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.15)]

function plotInto(box, options, data) {
  box.replaceChildren()
  const plot = new uPlot({ width: box.clientWidth || 300, height: HEIGHT_PX, legend: { show: false }, ...options }, data, box)
  const observer = new ResizeObserver(() => {
    if (!plot.root.isConnected) observer.disconnect()
    else if (box.clientWidth > 0 && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: HEIGHT_PX })
  })
  observer.observe(box)
  return plot
}

class Lines {
  constructor(about) {
    Object.assign(this, about, card(about.id, about.title))
    this.clear()
  }

  clear() {
    this.times = []
    // The first column is all shards together.
    this.columns = Array.from({ length: shards + 1 }, () => [])
    if (!shards) return
    const shardLine = (shard) => ({ label: `shard ${shard}`, stroke: () => css(shardColour(shard)), width: 1.25, points: { show: false } })
    const options = {
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'console' } },
      scales: { x: { range: () => this.span() }, y: { range: fromZero(this.least ?? 2) } },
      axes: [
        { ...axisLook(), size: 28, space: 64, values: (_, ticks) => ticks.map(clock), incrs: TIME_STEPS_S },
        { ...axisLook(), size: 58, space: 32, values: (_, ticks) => ticks.map((n) => this.axis(n)), incrs: this.steps ?? COUNT_STEPS },
      ],
      series: [
        {},
        { label: 'all', stroke: () => css('--series-all'), fill: () => css('--series-fill'), width: 2, points: { show: false } },
        ...(shards > 1 ? Array.from({ length: shards }, (_, shard) => shardLine(shard)) : []),
      ],
      hooks: { setCursor: [(plot) => this.readOut(plot.cursor.idx)] },
    }
    this.drawn = plotInto(this.plot, options, this.data())
  }

  span() {
    const last = this.times.at(-1) ?? Date.now() / 1000
    const first = this.times[0] ?? last
    return [Math.min(first, last - SHOWN_S_MIN), last]
  }

  data() {
    return [this.times, ...(shards > 1 ? this.columns : this.columns.slice(0, 1))]
  }

  readOut(at) {
    const time = this.times[at]
    if (time === undefined) return write(this.readout, '')
    const parts = this.columns.slice(1).map((column, shard) => `shard ${shard}: ${this.form(column[at])}`)
    write(this.readout, `${clock(time)}: ${this.form(this.columns[0][at])}${shards > 1 ? ` (${parts.join(', ')})` : ''}`)
  }

  look(sample, before) {
    const values = this.read(sample, before)
    this.times.push(sample.at)
    ;[sum(values), ...values].forEach((value, n) => this.columns[n]?.push(value))
    while (this.times[0] < sample.at - KEPT_S || this.times.length > POINTS_MAX) {
      this.times.shift()
      for (const column of this.columns) column.shift()
    }
    this.now = this.form(this.columns[0].at(-1))
    write(this.value, this.now)
    if (this.counter) write(this.total, `${count(sample.sum(this.counter))} in all`)
    this.drawn?.setData(this.data())
    const row = (name, column) => {
      const mean = sum(column) / column.length
      return [name, this.form(column.at(-1)), this.form(mean), this.form(Math.max(...column))]
    }
    const rows = this.columns.map((column, n) => row(n ? `shard ${n - 1}` : 'all shards', column))
    tabulate(this, ['', 'now', 'mean of 5 min', 'peak'], shards > 1 ? rows : rows.slice(0, 1))
  }
}

// What took how long, in the last minute; a bar is a bucket, its parts are the shards.
class Latency {
  constructor() {
    Object.assign(this, { id: 'latency', title: 'Publish latency' }, card('latency', 'Publish latency'))
    this.uppers = []
  }

  clear() {
    this.drawn = null
  }

  draw(uppers) {
    this.uppers = uppers
    const bars = uPlot.paths.bars({ size: [0.85, 40] })
    const name = (n) => (uppers[n] === undefined ? '' : uppers[n] === Infinity ? 'more' : span(uppers[n]))
    const bar = (shard) => {
      const colour = () => css(shards > 1 ? shardColour(shard) : '--series-all')
      return { label: `shard ${shard}`, paths: bars, stroke: colour, fill: colour, width: 0, points: { show: false } }
    }
    const options = {
      cursor: { y: false, x: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: () => [-0.7, uppers.length - 0.3] }, y: { range: fromZero(5) } },
      axes: [
        {
          ...axisLook(),
          size: 28,
          grid: { show: false },
          splits: () => uppers.map((_, n) => n).filter((n) => n % 5 === 0),
          values: (_, ticks) => ticks.map(name),
        },
        { ...axisLook(), size: 58, space: 32, values: (_, ticks) => ticks.map(short), incrs: COUNT_STEPS },
      ],
      series: [{}, ...Array.from({ length: shards }, (_, shard) => bar(shard))],
      hooks: {
        setCursor: [
          (plot) => {
            const at = plot.cursor.idx
            const rows = this.rows?.[at]
            write(this.readout, rows ? `up to ${name(at)}: ${plural(sum(rows), 'event')}` : '')
          },
        ],
      },
    }
    this.drawn = plotInto(this.plot, options, [uppers.map((_, n) => n), ...Array.from({ length: shards }, () => uppers.map(() => 0))])
  }

  look(sample) {
    const now = sample.buckets(LATENCY)
    const from = recent[0].buckets(LATENCY)
    const uppers = now.map(({ upper }) => upper)
    if (!this.drawn || uppers.join() !== this.uppers.join()) this.draw(uppers)
    this.rows = now.map(({ shards }, n) => shards.map((value, shard) => Math.max(0, value - (from[n]?.shards[shard] ?? 0))))
    // Stacked by drawing the whole bar first and what is left after each shard over it.
    const stack = Array.from({ length: shards }, (_, shard) => this.rows.map((row) => sum(row.slice(shard))))
    this.drawn.setData([uppers.map((_, n) => n), ...stack])
    const events = sum(this.rows.map(sum))
    const half = this.below(0.5, events)
    const most = this.below(0.99, events)
    this.now = events ? `half within ${half}` : 'no events'
    write(this.value, events ? `≤ ${half}` : '–')
    write(this.total, events ? `median of ${plural(events, 'event')} in ${LATENCY_S} s; 99 % ≤ ${most}` : `no events in ${LATENCY_S} s`)
    const filled = this.rows.map((row, n) => ({ row, upper: uppers[n] })).filter(({ row }) => sum(row) > 0)
    const heads = ['up to', 'all shards', ...(shards > 1 ? Array.from({ length: shards }, (_, shard) => `shard ${shard}`) : [])]
    tabulate(this, heads, filled.map(({ row, upper }) => [
      upper === Infinity ? 'more' : span(upper), count(sum(row)), ...(shards > 1 ? row.map(count) : []),
    ]))
  }

  // The upper bound of the bucket that this part of all events has reached.
  below(part, events) {
    let seen = 0
    for (const [n, row] of this.rows.entries()) {
      seen += sum(row)
      if (seen >= part * events) return this.uppers[n] === Infinity ? 'more' : span(this.uppers[n])
    }
    return '–'
  }
}

function drawLegend() {
  const entry = (variable, text) => make('span', {}, make('i', { class: `swatch ${variable}` }), text)
  const each = Array.from({ length: shards }, (_, shard) => entry(`series-${shard % COLOURS}`, `shard ${shard}`))
  byId('legend').replaceChildren(...(shards > 1 ? [entry('series-all', 'all shards'), ...each] : []))
}

function tellProcess(sample) {
  const facts = [
    ['Up for', span(Math.max(1, Date.now() / 1000 - sample.started))],
    ['Memory', bytes(sample.sum('process_resident_memory_bytes'))],
    ['Shards', count(shards)],
    ['Channels', count(sample.sum('ringmain_channels'))],
    ['Subscriptions', count(sample.sum('ringmain_subscriptions'))],
    ['Members', count(sample.sum('ringmain_members'))],
  ]
  const list = byId('process-facts')
  if (list.children.length === 0) list.append(...facts.map(([name]) => make('div', {}, make('dt', { text: name }), make('dd'))))
  facts.forEach(([, text], n) => write(list.children[n].lastChild, text))
}

// Not each second: a screen reader would never be silent.
function tellAll(at) {
  if (at - announcedAt < ANNOUNCE_S || !byId('charts').contains(document.activeElement)) return
  announcedAt = at
  announce(charts.map(({ title, now }) => `${title}: ${now}`).join('. '))
}

function look(sample) {
  const found = sample.perShard('ringmain_connections').length
  if (found !== shards || before?.started !== sample.started) {
    shards = found
    before = null
    recent = []
    for (const chart of charts) chart.clear()
    drawLegend()
  }
  recent.push(sample)
  while (recent.length > 1 && recent[0].at < sample.at - LATENCY_S) recent.shift()
  for (const chart of charts) chart.look(sample, before ?? sample)
  tellProcess(sample)
  tellAll(sample.at)
  before = sample
}

export function openCharts() {
  for (const line of LINES.slice(0, 3)) charts.push(new Lines(line))
  charts.push(new Latency())
  charts.push(new Lines(LINES[3]))
  byId('chart-grid').append(make('article', { class: 'card chart' }, make('h3', { text: 'The process' }), make('dl', { id: 'process-facts', class: 'facts small' })))
  watch(look)
}

// Colours are read when something is drawn; another theme has others.
export function redrawCharts() {
  for (const { drawn } of charts) drawn?.redraw(false, true)
}
