// "Try it": one pane per dialect, and one publish through each of them.
//
// A pane's protocol lives in its dialect's folder. Its module exports
//   title, about          what it is, in a word and in a sentence
//   token?                { label, development }: it wants a token to connect
//   connect(context, hear, state, said)
//                         hear(text, isEvent) for each frame, said(text) for what it sends,
//                         state('connecting' | 'open' | 'listening' | 'closed: why'); returns { close() }
//   publish(context, name, data)
//                         returns { status, body }; context.post(path, value) signs and sends
//   deeds?                what else can be tried: a list of { title, fields, run(context, ...texts) }, where a field is
//                         { label, value }; run returns as publish does
//   snippets(context)     a list of { title, language, text }

import {
  announce,
  byId,
  copy,
  count,
  gathered,
  make,
  makeTabs,
  plural,
  pretty,
  typed,
  write,
} from './page.js'
import { post } from './api.js'
import { Round } from './round.js'

const LOG_FRAMES_MAX = 100
const ANSWER_CHARACTERS_MAX = 2000
const RETRY_MS_FIRST = 2000
const RETRY_MS_MAX = 30_000

const DIGITS = { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 }
const clock = () => new Date().toLocaleTimeString('en-GB', DIGITS)

export class Pane {
  constructor(dialect, module, context, whenHeard) {
    Object.assign(this, {
      name: dialect.name,
      title: dialect.title ?? module.title,
      module,
      context,
      whenHeard,
    })
    this.state = 'not connected'
    this.frames = 0
    this.events = 0
    this.session = null
    this.retryMs = RETRY_MS_FIRST
    this.note = gathered(LOG_FRAMES_MAX, (frames) => this.put(frames))
    this.node = this.draw()
    this.show('not connected')
  }

  draw() {
    const id = `pane-${this.name}`
    this.stateLine = make('span', { class: 'state', role: 'status' })
    this.toggle = make('button', { type: 'button', text: 'Connect', onclick: () => this.flip() })
    this.counts = make('p', { class: 'counts' })
    this.log = make('ol', {
      class: 'log',
      tabindex: 0,
      'aria-label': `Frames of ${this.title}, newest first`,
    })
    this.tell()
    return make(
      'article',
      { class: 'card pane', id, 'aria-labelledby': `${id}-title`, 'data-dialect': this.name },
      make('header', {}, make('h3', { id: `${id}-title`, text: this.title }), this.stateLine, this.toggle),
      make('p', { class: 'muted', text: this.module.about }),
      ...this.drawToken(id),
      this.drawForm(id),
      ...this.drawDeeds(),
      this.counts,
      this.log,
      this.drawSnippets(),
    )
  }

  // In development mode the token is known; otherwise only a person has one.
  drawToken(id) {
    const { token } = this.module
    if (!token || this.context.development) return []
    this.token = make('input', { id: `${id}-token`, type: 'password', autocomplete: 'off' })
    return [make('label', { for: `${id}-token`, text: token.label }, this.token)]
  }

  drawForm(id) {
    const name = make('input', {
      id: `${id}-name`,
      value: 'greeting',
      autocomplete: 'off',
      spellcheck: 'false',
      required: true,
    })
    const data = make('textarea', { id: `${id}-data`, rows: 2, spellcheck: 'false' })
    data.value = JSON.stringify({ text: `hi from ${this.title}` })
    const button = make('button', { type: 'submit', text: 'Publish' })
    const answer = make('p', { class: 'answer', role: 'status' })
    const publish = async (event) => {
      event.preventDefault()
      button.disabled = true
      const { ok, text } = await this.publish(name.value, typed(data.value))
      button.disabled = false
      answer.classList.toggle('bad', !ok)
      write(answer, text)
    }
    return make(
      'form',
      { class: 'publish', onsubmit: publish, 'aria-label': `Publish through ${this.title}` },
      make('label', { text: 'Event' }, name),
      make('label', { class: 'wide', text: 'Data' }, data),
      button,
      answer,
    )
  }

  drawDeeds() {
    const { deeds } = this.module
    if (!deeds) return []
    const forms = deeds.map(({ title, fields, run }) => {
      const inputs = fields.map(({ value }) => make('input', { value, autocomplete: 'off', spellcheck: 'false' }))
      const button = make('button', { type: 'submit', text: title })
      const answer = make('pre', { class: 'answer', role: 'status' })
      const submit = async (event) => {
        event.preventDefault()
        button.disabled = true
        const texts = inputs.map((input) => input.value)
        const { ok, text } = await this.attempt(() => run(this.context, ...texts))
        button.disabled = false
        answer.classList.toggle('bad', !ok)
        write(answer, text)
      }
      const labels = fields.map(({ label }, n) => make('label', { text: label }, inputs[n]))
      return make('form', { class: 'deed', onsubmit: submit, 'aria-label': title }, ...labels, button, answer)
    })
    return [make('details', {}, make('summary', { text: 'More to try' }), ...forms)]
  }

  drawSnippets() {
    const tabs = this.module.snippets(this.context).map(({ title, language, text }) => {
      const button = make('button', { type: 'button', class: 'copy', text: 'Copy' })
      button.addEventListener('click', async () => {
        try {
          await copy(text)
          write(button, 'Copied')
          announce(`${title} copied`)
        } catch (error) {
          write(button, 'Not copied')
          announce(error.message)
        }
        setTimeout(() => write(button, 'Copy'), 2000)
      })
      const code = make('pre', { tabindex: 0, 'aria-label': `${title}, ${language}` }, make('code', { text }))
      return { title, panel: make('div', { class: 'snippet' }, button, code) }
    })
    return make(
      'details',
      { class: 'snippets' },
      make('summary', { text: 'Connect your own code' }),
      makeTabs(`Snippets for ${this.title}`, tabs),
    )
  }

  get isListening() {
    return this.state === 'listening'
  }

  flip() {
    if (this.session || this.retry) this.close('not connected')
    else this.connect()
  }

  connect() {
    clearTimeout(this.retry)
    this.retry = null
    const { token } = this.module
    const given = this.context.development ? token?.development : this.token?.value.trim()
    let wasListening = false
    // What a session says after it was closed or replaced is no longer about this pane.
    const session = {}
    const isCurrent = () => this.session === session
    this.session = session
    const state = (text) => {
      if (!isCurrent()) return
      if (text === 'listening') {
        wasListening = true
        this.retryMs = RETRY_MS_FIRST
      }
      if (text.startsWith('closed')) {
        this.session = null
        // Who listened until now was not refused: the server restarts, or the network does.
        if (wasListening || this.isRetrying) return this.later(text)
      }
      this.show(text)
    }
    const hear = (text, isEvent = false) => isCurrent() && this.hear(text, isEvent)
    const said = (text) => isCurrent() && this.note({ kind: 'said', text, when: clock() })
    try {
      session.open = this.module.connect({ ...this.context, token: given }, hear, state, said)
    } catch (error) {
      state(`closed: ${error.message}`)
    }
  }

  later(text) {
    this.isRetrying = true
    this.retry = setTimeout(() => this.connect(), this.retryMs)
    this.show(`${text}; again in ${this.retryMs / 1000} s`)
    this.retryMs = Math.min(this.retryMs * 2, RETRY_MS_MAX)
  }

  close(text = 'closed') {
    clearTimeout(this.retry)
    this.retry = null
    this.isRetrying = false
    const session = this.session
    this.session = null
    session?.open?.close()
    this.show(text)
  }

  show(text) {
    this.state = text
    write(this.stateLine, text)
    this.node.dataset.state = text.split(':')[0]
    write(this.toggle, this.session || this.retry ? 'Disconnect' : 'Connect')
    this.toggle.setAttribute('aria-label', `${this.toggle.textContent} ${this.title}`)
  }

  hear(text, isEvent) {
    this.frames += 1
    if (isEvent) this.events += 1
    this.note({ kind: isEvent ? 'event' : 'chatter', text, when: clock() })
    this.whenHeard(this.name, text)
  }

  tell() {
    const { events, frames } = this
    this.counts.replaceChildren(
      'Received ',
      make('strong', { class: 'events-heard', text: count(events) }),
      ` ${events === 1 ? 'event' : 'events'} in ${plural(frames, 'frame')}`,
    )
  }

  put(frames) {
    const nodes = frames.map(({ kind, text, when }) => {
      const whose = make('span', { class: 'unseen', text: kind === 'said' ? ' sent' : ' received' })
      const head = make('span', { class: 'when', text: when }, whose)
      return make('li', { class: kind }, head, make('pre', {}, pretty(text)))
    })
    this.log.prepend(...nodes.reverse())
    while (this.log.children.length > LOG_FRAMES_MAX) this.log.lastChild.remove()
    this.tell()
  }

  // Publishes, and says how it went in one line.
  publish(name, data) {
    return this.attempt(() => this.module.publish(this.context, name, data), 200)
  }

  async attempt(ask, charactersMax = ANSWER_CHARACTERS_MAX) {
    try {
      const { status, body } = await ask()
      const detail = status === 401 ? 'the signature was refused' : body.slice(0, charactersMax)
      return { ok: status < 300, text: `${status}${status < 300 ? '' : ':'} ${detail}` }
    } catch (error) {
      return { ok: false, text: error.message }
    }
  }
}

let panes = []
let round = null

// Replaces all panes: another app or channel is another set of clients.
export async function openPanes(about, app, channel) {
  closePanes()
  const secure = location.protocol === 'https:'
  const context = {
    origin: location.origin,
    host: location.host,
    port: Number(location.port || (secure ? 443 : 80)),
    secure,
    app,
    channel,
    development: about.development,
    post: (path, value) => post(app, path, value),
  }
  // A protocol that serves one app has nothing to show of another.
  const dialects = about.dialects.filter((it) => it.app === undefined || it.app === app.id)
  const loaded = await Promise.all(
    dialects.map(async (dialect) => {
      try {
        return { dialect, module: (await import(dialect.pane)).default }
      } catch (error) {
        return { dialect, failed: error }
      }
    }),
  )
  closePanes()
  const nodes = []
  for (const { dialect, module, failed } of loaded) {
    if (failed) {
      nodes.push(
        make(
          'article',
          { class: 'card pane' },
          make('h3', { text: dialect.title }),
          make('p', { class: 'answer bad', text: `its pane did not load: ${failed.message}` }),
        ),
      )
      continue
    }
    const pane = new Pane(dialect, module, context, (name, text) => round?.heard(name, text))
    panes.push(pane)
    nodes.push(pane.node)
  }
  byId('panes').replaceChildren(...nodes)
  round = new Round(panes)
  // Only where no token has to be typed first.
  for (const pane of panes) if (about.development || !pane.module.token) pane.connect()
}

export function closePanes() {
  for (const pane of panes) pane.close()
  panes = []
  round?.stop()
  round = null
}

byId('round').addEventListener('submit', (event) => {
  event.preventDefault()
  round?.start(byId('round-name').value, typed(byId('round-data').value))
})
