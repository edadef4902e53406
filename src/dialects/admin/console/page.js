// Pieces of page that several sections use. Text from outside becomes text nodes, never markup.

// What is shown of one long text.
const SHOWN_CHARACTERS_MAX = 4000

export const byId = (id) => document.getElementById(id)

// An element: attributes, `text`, and `on...` for what it listens to.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'text') node.textContent = value
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (value === true) node.setAttribute(name, '')
    else if (value !== false && value !== undefined) node.setAttribute(name, value)
  }
  node.append(...children)
  return node
}

// Writes only what changed: an unchanged text node keeps a selection, and a screen reader quiet.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text
}

// Makes `parent` hold exactly these children, in order, moving none that stands right: the focus stays.
export function arrange(parent, children) {
  const wanted = new Set(children)
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove()
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null)
  })
}

// Gathers what comes until the page is drawn next, at most the newest `most`, and hands it over at once:
// a thousand frames a second are drawn sixty times, and not at all while nobody looks.
export function gathered(most, draw) {
  let items = []
  return (item) => {
    const isFirst = items.length === 0
    items.push(item)
    if (items.length > most) items.shift()
    if (!isFirst) return
    requestAnimationFrame(() => {
      const ready = items
      items = []
      draw(ready)
    })
  }
}

export function announce(text) {
  write(byId('announce'), text)
}

const whole = new Intl.NumberFormat('en')
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const count = (n) => whole.format(n)
export const short = (n) => compact.format(n)
export const rate = (n) => (n >= 100 ? short(n) : String(Math.round(n * 10) / 10))
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`

export function bytes(n) {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ]) {
    if (n >= size) return `${Math.round((n / size) * 10) / 10} ${unit}`
  }
  return `${Math.round(n)} B`
}

export function span(seconds) {
  const ago = [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
    [1e-3, 'ms'],
    [1e-6, 'µs'],
  ]
  const [size, unit] = ago.find(([size]) => seconds >= size) ?? [1e-9, 'ns']
  const n = seconds / size
  return `${n < 10 ? Math.round(n * 10) / 10 : Math.round(n)} ${unit}`
}

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

// A text as a fragment to read: JSON indented and coloured, anything else as it is.
export function pretty(text) {
  const fragment = document.createDocumentFragment()
  let shown = text
  let isJson = true
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    isJson = false
  }
  const cut = shown.length - SHOWN_CHARACTERS_MAX
  if (cut > 0) shown = shown.slice(0, SHOWN_CHARACTERS_MAX)
  let from = 0
  for (const match of isJson ? shown.matchAll(TOKEN) : []) {
    const [whole, string, colon] = match
    const kind = colon ? 'key' : string ? 'string' : 'atom'
    fragment.append(
      shown.slice(from, match.index),
      make('span', { class: `j-${kind}`, text: string ?? whole }),
    )
    if (colon) fragment.append(colon)
    from = match.index + whole.length
  }
  fragment.append(shown.slice(from))
  if (cut > 0) fragment.append(`\n… ${count(cut)} more characters`)
  return fragment
}

// What a person typed as an event's data: JSON if it is, else the text itself.
export function typed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

let tabsMade = 0

// A tab list and its panels: arrows, Home and End move, only the chosen tab is in the tab order.
// `tabs` is a list of { title, panel }.
export function makeTabs(label, tabs) {
  tabsMade += 1
  const list = make('div', { role: 'tablist', 'aria-label': label, class: 'tabs' })
  const pairs = tabs.map(({ title, panel }, n) => {
    const id = `tab-${tabsMade}-${n}`
    const button = make('button', {
      type: 'button',
      role: 'tab',
      id,
      'aria-controls': `${id}-panel`,
      text: title,
    })
    Object.assign(panel, { id: `${id}-panel`, tabIndex: -1 })
    panel.setAttribute('role', 'tabpanel')
    panel.setAttribute('aria-labelledby', id)
    list.append(button)
    return { button, panel }
  })
  const choose = (chosen) => {
    for (const pair of pairs) {
      pair.button.setAttribute('aria-selected', String(pair === chosen))
      pair.button.tabIndex = pair === chosen ? 0 : -1
      pair.panel.hidden = pair !== chosen
    }
  }
  for (const pair of pairs) pair.button.addEventListener('click', () => choose(pair))
  list.addEventListener('keydown', (event) => {
    const at = pairs.findIndex(({ button }) => button === document.activeElement)
    const last = pairs.length - 1
    const to = {
      ArrowRight: at === last ? 0 : at + 1,
      ArrowLeft: at === 0 ? last : at - 1,
      Home: 0,
      End: last,
    }[event.key]
    if (at < 0 || to === undefined) return
    event.preventDefault()
    choose(pairs[to])
    pairs[to].button.focus()
  })
  if (pairs.length) choose(pairs[0])
  return make('div', { class: 'tabbed' }, list, ...pairs.map(({ panel }) => panel))
}

// Copies a text. The clipboard interface exists only on secure pages, so there is an older way, too.
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text)
    } catch {
      // Forbidden here; the older way may still be allowed.
    }
  }
  const area = make('textarea', { class: 'unseen', readonly: true })
  area.value = text
  document.body.append(area)
  area.select()
  const copied = document.execCommand('copy')
  area.remove()
  if (!copied) throw new Error('this browser does not let the page copy')
}
