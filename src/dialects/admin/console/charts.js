// Live charts: one line per shard and one for all of them, from the differences of what is counted.

import { Latency } from './latency.js'
import { announce, byId, bytes, count, make, rate, short, span, write } from './page.js'
import {
  COUNT_STEPS,
  axisLook,
  card,
  colour,
  each,
  fromZero,
  plotInto,
  shardName,
  sum,
  tabulate,
} from './plots.js'
import { watch } from './metrics.js'

const KEPT_S = 300
// A chart that has little to show yet shows it wide.
const SHOWN_S_MIN = 60
const POINTS_MAX = 400
const TIME_STEPS_S = [10, 15, 30, 60, 120, 300]
const BYTE_STEPS = Array.from({ length: 36 }, (_, power) => 2 ** (power + 4))
const ANNOUNCE_S = 30

const perSecond = (name) => (sample, before) => {
  const from = before.perShard(name)
  // The first sample has none before it, and so no rate yet.
  const seconds = Math.max(sample.at - before.at, 0.1)
  return sample.perShard(name).map((value, shard) => Math.max(0, value - (from[shard] ?? 0)) / seconds)
}

// `counter` is said beside the value of now: how many it has been in all.
const LINES = [
  {
    id: 'connections',
    title: 'Connections',
    read: (sample) => sample.perShard('ringmain_connections'),
    form: count,
    axis: short,
    least: 5,
  },
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
  {
    id: 'outbox',
    title: 'Bytes in outboxes',
    read: (sample) => sample.perShard('ringmain_outbox_bytes'),
    form: bytes,
    axis: bytes,
    least: 1024,
    steps: BYTE_STEPS,
  },
]

const clock = (at) => new Date(at * 1000).toLocaleTimeString('en-GB')

let shards = 0
let before = null
let announcedAt = 0
const charts = []

class Lines {
  constructor(about) {
    Object.assign(this, about, card(about.id, about.title))
    this.clear(0)
  }

  clear(shards) {
    this.shards = shards
    this.times = []
    // The first column is all shards together.
    this.columns = Array.from({ length: shards + 1 }, () => [])
    if (!shards) return
    const shardLine = (shard) => ({
      label: `shard ${shard}`,
      stroke: colour(shardName(shard)),
      width: 1.25,
      points: { show: false },
    })
    const options = {
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'console' } },
      scales: { x: { range: () => this.range() }, y: { range: fromZero(this.least ?? 2) } },
      axes: [
        { ...axisLook(), size: 28, space: 64, values: (_, ticks) => ticks.map(clock), incrs: TIME_STEPS_S },
        {
          ...axisLook(),
          size: 58,
          space: 32,
          values: (_, ticks) => ticks.map((n) => this.axis(n)),
          incrs: this.steps ?? COUNT_STEPS,
        },
      ],
      series: [
        {},
        {
          label: 'all',
          stroke: colour('series-all'),
          fill: colour('series-fill'),
          width: 2,
          points: { show: false },
        },
        ...(shards > 1 ? each(shards, shardLine) : []),
      ],
      hooks: { setCursor: [(plot) => this.readOut(plot.cursor.idx)] },
    }
    this.drawn = plotInto(this.plot, options, this.data())
  }

  range() {
    const last = this.times.at(-1) ?? Date.now() / 1000
    const first = this.times[0] ?? last
    return [Math.min(first, last - SHOWN_S_MIN), last]
  }

  data() {
    return [this.times, ...(this.shards > 1 ? this.columns : this.columns.slice(0, 1))]
  }

  readOut(at) {
    const time = this.times[at]
    if (time === undefined) return write(this.readout, '')
    const parts = this.columns.slice(1).map((column, shard) => `shard ${shard}: ${this.form(column[at])}`)
    write(
      this.readout,
      `${clock(time)}: ${this.form(this.columns[0][at])}${this.shards > 1 ? ` (${parts.join(', ')})` : ''}`,
    )
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
    tabulate(this, ['', 'now', 'mean', 'peak'], this.shards > 1 ? rows : rows.slice(0, 1))
  }
}

function drawLegend() {
  const entry = (variable, text) => make('span', {}, make('i', { class: `swatch ${variable}` }), text)
  const entries = each(shards, (shard) => entry(shardName(shard), `shard ${shard}`))
  byId('legend').replaceChildren(...(shards > 1 ? [entry('series-all', 'all shards'), ...entries] : []))
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
  if (list.children.length === 0)
    list.append(...facts.map(([name]) => make('div', {}, make('dt', { text: name }), make('dd'))))
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
    for (const chart of charts) chart.clear(shards)
    drawLegend()
  }
  for (const chart of charts) chart.look(sample, before ?? sample)
  tellProcess(sample)
  tellAll(sample.at)
  before = sample
}

export function openCharts() {
  for (const line of LINES.slice(0, 3)) charts.push(new Lines(line))
  charts.push(new Latency())
  charts.push(new Lines(LINES[3]))
  byId('chart-grid').append(
    make(
      'article',
      { class: 'card chart' },
      make('h3', { text: 'The process' }),
      make('dl', { id: 'process-facts', class: 'facts small' }),
    ),
  )
  watch(look)
}

// In the colours of another theme.
export function redrawCharts() {
  for (const { drawn } of charts) drawn?.redraw(false, true)
}
