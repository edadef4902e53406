// One publish through every protocol, and a table of who heard it after how long.

import { byId, make, span, write } from './page.js'

const PATIENCE_MS = 5000

const withTrace = (data, trace) =>
  typeof data === 'object' && data !== null && !Array.isArray(data)
    ? { ...data, trace }
    : { value: data, trace }

export class Round {
  constructor(panes) {
    this.panes = panes
    // By the trace that a publish carried: when it left, and the cells that wait for it.
    this.waiting = new Map()
    this.isRunning = false
  }

  async start(name, data) {
    if (this.isRunning || this.panes.length === 0) return
    this.isRunning = true
    this.stop()
    this.total = 0
    this.reached = 0
    const number = Math.random().toString(36).slice(2, 8).padEnd(6, '0')
    const rows = this.panes.map((from) => this.row(from, `${from.name}-${number}`))
    byId('round-heard').replaceChildren(this.table(rows.map(({ node }) => node)))
    const answer = byId('round-answer')
    answer.classList.remove('bad')
    write(answer, 'publishing…')
    const refused = []
    for (const { from, trace, cells } of rows) {
      this.waiting.set(trace, { began: performance.now(), cells })
      const { ok, text } = await from.publish(name, withTrace(data, trace))
      if (ok) continue
      refused.push(`${from.title}: ${text}`)
      this.waiting.delete(trace)
      for (const cell of cells.values()) this.settle(cell, 'not published', 'bad')
    }
    this.timer = setTimeout(() => this.stop(), PATIENCE_MS)
    this.isRunning = false
    this.refused = refused
    this.tell()
  }

  row(from, trace) {
    // Only who listens is waited for.
    const cells = new Map()
    const shown = this.panes.map(({ name, isListening }) => {
      if (!isListening) return make('td', { class: 'number muted', text: 'not listening' })
      const cell = make('td', { class: 'number', text: '…' })
      cells.set(name, cell)
      return cell
    })
    this.total += cells.size
    return {
      from,
      trace,
      cells,
      node: make('tr', {}, make('th', { scope: 'row', text: from.title }), ...shown),
    }
  }

  table(rows) {
    const heads = this.panes.map(({ title }) => make('th', { scope: 'col', class: 'number', text: title }))
    return make(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Who heard what' },
      make(
        'table',
        { class: 'heard' },
        make('caption', { text: 'Published through (rows), heard by (columns) after, signing included' }),
        make('thead', {}, make('tr', {}, make('td'), ...heads)),
        make('tbody', {}, ...rows),
      ),
    )
  }

  heard(name, text) {
    for (const [trace, { began, cells }] of this.waiting) {
      const cell = cells.get(name)
      if (!cell || !text.includes(trace)) continue
      cells.delete(name)
      if (cells.size === 0) this.waiting.delete(trace)
      this.reached += 1
      this.settle(cell, span((performance.now() - began) / 1000), 'good')
      this.tell()
    }
  }

  settle(cell, text, kind) {
    write(cell, text)
    cell.classList.add(kind)
  }

  tell() {
    if (this.isRunning) return
    const answer = byId('round-answer')
    answer.classList.toggle('bad', this.refused.length > 0)
    write(answer, [`heard ${this.reached} of ${this.total}`, ...this.refused].join('; '))
  }

  // Gives up on what nobody heard until now.
  stop() {
    clearTimeout(this.timer)
    for (const { cells } of this.waiting.values()) {
      for (const cell of cells.values()) this.settle(cell, 'not heard', 'bad')
    }
    this.waiting.clear()
  }
}
