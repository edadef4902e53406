// Reads Prometheus' text format, once a second, and hands each sample to whoever watches.

import { askText, notice } from './api.js'

const PERIOD_MS = 1000
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

// One look at all metrics: when, and every series by its name.
export class Sample {
  constructor(at, text) {
    this.at = at
    this.series = new Map()
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue
      const end = line.lastIndexOf(' ')
      const open = line.indexOf('{')
      const name = line.slice(0, open < 0 ? end : open)
      const labels = {}
      if (open >= 0) for (const [, key, value] of line.slice(open, end).matchAll(LABEL)) labels[key] = value
      if (!this.series.has(name)) this.series.set(name, [])
      this.series.get(name).push({ labels, value: Number(line.slice(end + 1)) })
    }
  }

  all(name) {
    return this.series.get(name) ?? []
  }

  sum(name) {
    return this.all(name).reduce((sum, { value }) => sum + value, 0)
  }

  most(name) {
    return this.all(name).reduce((most, { value }) => Math.max(most, value), 0)
  }

  // The values of a metric by shard; metrics with further labels are summed over them.
  perShard(name) {
    const values = []
    for (const { labels, value } of this.all(name)) {
      const shard = Number(labels.shard ?? 0)
      values[shard] = (values[shard] ?? 0) + value
    }
    return Array.from(values, (value) => value ?? 0)
  }

  // A histogram's buckets in rising order: { upper, shards: [events in this bucket alone] }.
  buckets(name) {
    const byUpper = new Map()
    for (const { labels, value } of this.all(`${name}_bucket`)) {
      const upper = labels.le === '+Inf' ? Infinity : Number(labels.le)
      if (!byUpper.has(upper)) byUpper.set(upper, [])
      byUpper.get(upper)[Number(labels.shard ?? 0)] = value
    }
    const rows = [...byUpper].sort(([a], [b]) => a - b)
    return rows.map(([upper, shards], at) => {
      const below = at === 0 ? [] : rows[at - 1][1]
      return { upper, shards: Array.from(shards, (value, shard) => (value ?? 0) - (below[shard] ?? 0)) }
    })
  }

  // When the process started: another value means another process, whose counters begin at zero.
  get started() {
    return this.sum('process_start_time_seconds')
  }
}

const watchers = new Set()
// The loop that polls; another one after each login, so that a late answer of the old one is dropped.
let loop = null

export function watch(look) {
  watchers.add(look)
}

async function poll(mine) {
  const began = performance.now()
  if (!document.hidden) {
    try {
      const sample = new Sample(Date.now() / 1000, await askText('metrics'))
      if (loop !== mine) return
      notice('Metrics', '')
      for (const look of watchers) look(sample)
    } catch (error) {
      if (loop !== mine) return
      notice('Metrics', error.message)
    }
  }
  if (loop === mine) setTimeout(() => poll(mine), Math.max(100, PERIOD_MS - (performance.now() - began)))
}

export function startPolling() {
  loop = {}
  poll(loop)
}

export function stopPolling() {
  loop = null
}
