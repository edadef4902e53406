// What all charts are made of: a card with a heading, a drawing, a line that reads it out, and a table.

import uPlot from './vendor/uPlot.esm.js'
import { byId, make } from './page.js'

const HEIGHT_PX = 170
const COLOURS = 8
export const COUNT_STEPS = [1, 2, 5]
  .flatMap((n) => Array.from({ length: 10 }, (_, power) => n * 10 ** power))
  .sort((a, b) => a - b)

// Colours are read when something is drawn: another theme has others.
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

export const colour = (name) => () => css(`--${name}`)
export const shardName = (shard) => `series-${shard % COLOURS}`
export const sum = (values) => values.reduce((sum, value) => sum + value, 0)
export const each = (shards, make) => Array.from({ length: shards }, (_, shard) => make(shard))

export function card(id, title) {
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
    make(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title },
      make('table', {}, make('thead', {}, head), body),
    ),
  )
  const node = make(
    'article',
    { class: 'card chart', id: `chart-${id}` },
    make('h3', {}, make('span', { class: 'label', text: title }), ' ', value, ' ', total),
    plot,
    readout,
    table,
  )
  byId('chart-grid').append(node)
  return { value, total, plot, readout, table, head, body }
}

export function tabulate(chart, heads, rows) {
  if (!chart.table.open) return
  const cell = (text, n) => make(n ? 'td' : 'th', n ? { class: 'number', text } : { scope: 'row', text })
  chart.head.replaceChildren(
    ...heads.map((text, n) => make('th', { scope: 'col', class: n ? 'number' : '', text })),
  )
  chart.body.replaceChildren(...rows.map((row) => make('tr', {}, ...row.map(cell))))
}

export const axisLook = () => ({
  stroke: colour('muted'),
  grid: { stroke: colour('line'), width: 1 },
  ticks: { show: false },
  font: '11px system-ui, sans-serif',
})

// A scale that starts at zero and leaves air above; `least` is its end while nothing happens.
export const fromZero = (least) => (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.15)]

export function plotInto(box, options, data) {
  box.replaceChildren()
  const plot = new uPlot(
    { width: box.clientWidth || 300, height: HEIGHT_PX, legend: { show: false }, ...options },
    data,
    box,
  )
  const observer = new ResizeObserver(() => {
    if (!plot.root.isConnected) observer.disconnect()
    else if (box.clientWidth > 0 && box.clientWidth !== plot.width)
      plot.setSize({ width: box.clientWidth, height: HEIGHT_PX })
  })
  observer.observe(box)
  return plot
}
