// The histogram of how long a publish takes, from the arrival of its bytes to its last send.

import uPlot from './vendor/uPlot.esm.js'
import { count, short, span, write } from './page.js'
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

const LATENCY = 'ringmain_publish_seconds'
const LATENCY_S = 60

// What took how long, in the last minute; a bar is a bucket, its parts are the shards.
export class Latency {
  constructor() {
    Object.assign(this, { id: 'latency', title: 'Publish latency' }, card('latency', 'Publish latency'))
    this.clear(0)
  }

  // `recent` holds the buckets of the last minute's samples, the oldest first.
  clear(shards) {
    Object.assign(this, { shards, recent: [], uppers: [], drawn: null })
  }

  draw(uppers) {
    const { shards } = this
    this.uppers = uppers
    const bars = uPlot.paths.bars({ size: [0.85, 40] })
    const name = (n) => (uppers[n] === undefined ? '' : uppers[n] === Infinity ? 'more' : span(uppers[n]))
    const bar = (shard) => {
      const look = colour(shards > 1 ? shardName(shard) : 'series-all')
      return { paths: bars, stroke: look, fill: look, width: 0, points: { show: false } }
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
      series: [{}, ...each(shards, bar)],
      hooks: {
        setCursor: [
          (plot) => {
            const at = plot.cursor.idx
            const rows = this.rows?.[at]
            write(this.readout, rows ? `up to ${name(at)}: ${count(sum(rows))}` : '')
          },
        ],
      },
    }
    const nothing = uppers.map(() => 0)
    this.drawn = plotInto(this.plot, options, [uppers.map((_, n) => n), ...each(shards, () => nothing)])
  }

  look(sample) {
    const now = sample.buckets(LATENCY)
    this.recent.push({ at: sample.at, buckets: now })
    while (this.recent.length > 1 && this.recent[0].at < sample.at - LATENCY_S) this.recent.shift()
    const from = this.recent[0].buckets
    const { shards } = this
    const uppers = now.map(({ upper }) => upper)
    if (!this.drawn || uppers.join() !== this.uppers.join()) this.draw(uppers)
    this.rows = now.map(({ shards }, n) =>
      shards.map((value, shard) => Math.max(0, value - (from[n]?.shards[shard] ?? 0))),
    )
    // Stacked by drawing the whole bar first and what is left after each shard over it.
    const stack = each(shards, (shard) => this.rows.map((row) => sum(row.slice(shard))))
    this.drawn.setData([uppers.map((_, n) => n), ...stack])
    const events = sum(this.rows.map(sum))
    const half = this.below(0.5, events)
    const most = this.below(0.99, events)
    this.now = events ? `half within ${half}` : 'none'
    write(this.value, events ? `≤ ${half}` : '–')
    write(
      this.total,
      events ? `median of ${count(events)} in ${LATENCY_S} s; 99 % ≤ ${most}` : `none in ${LATENCY_S} s`,
    )
    const filled = this.rows.map((row, n) => ({ row, upper: uppers[n] })).filter(({ row }) => sum(row) > 0)
    const heads = ['up to', 'all shards', ...(shards > 1 ? each(shards, (shard) => `shard ${shard}`) : [])]
    tabulate(
      this,
      heads,
      filled.map(({ row, upper }) => [
        upper === Infinity ? 'more' : span(upper),
        count(sum(row)),
        ...(shards > 1 ? row.map(count) : []),
      ]),
    )
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
