// What the page asks of the server, and how it tells a person what went wrong.

import { byId, make } from './page.js'

const base = new URL('.', import.meta.url)

// What to do about a status, where the server's own sentence would not say it.
const ADVICE = {
  401: 'log in again',
  403: 'this machine may not ask',
  404: 'there is no such thing',
  413: 'that is too large',
  429: 'too many at once, try again in a while',
  503: 'the server has no room, or stops',
}

// An answer that was not a success, named so that a person can act on it.
export class Refusal extends Error {
  constructor(status, detail) {
    const advice = ADVICE[status]
    const parts = status === 401 || !detail ? [advice ?? detail ?? 'the server refused'] : [detail]
    super(`${status}: ${parts[0]}`)
    this.status = status
  }
}

let whenLoginNeeded = () => {}

// Who shows the form when an answer says 401.
export function onLoginNeeded(show) {
  whenLoginNeeded = show
}

async function request(path, { query = {}, value, method = value === undefined ? 'GET' : 'POST' } = {}) {
  const url = new URL(path, base)
  for (const [name, text] of Object.entries(query)) url.searchParams.set(name, text)
  const headers = value === undefined ? {} : { 'content-type': 'application/json' }
  const body = value === undefined ? undefined : JSON.stringify(value)
  let answer
  try {
    answer = await fetch(url, { method, headers, body, credentials: 'same-origin', cache: 'no-store' })
  } catch {
    throw new Error('the server does not answer; is it running?')
  }
  if (answer.ok) return answer
  const text = await answer.text()
  let detail = text.trim().slice(0, 200)
  try {
    detail = JSON.parse(text).error ?? detail
  } catch {
    // Not JSON: a proxy between us, perhaps. What it said is shown as it is.
  }
  if (answer.status === 401 && path !== 'login') whenLoginNeeded()
  throw new Refusal(answer.status, detail)
}

export const askJson = async (path, options) => (await request(path, options)).json()
export const askText = async (path, options) => (await request(path, options)).text()
export const tell = async (path, value = {}) => void (await request(path, { value }))

// The address of a WebSocket of the console's own.
export function socketUrl(path, query) {
  const url = new URL(path, base)
  url.protocol = url.protocol.replace('http', 'ws')
  for (const [name, text] of Object.entries(query)) url.searchParams.set(name, text)
  return url
}

// Signs a request of the HTTP API with the app's secret, which stays on the server, and sends it.
export async function post(app, path, value) {
  const body = JSON.stringify(value)
  const { target } = await askJson('sign', { value: { app: app.id, method: 'POST', path, body } })
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(target, { method: 'POST', headers, body })
  return { status: answer.status, body: (await answer.text()).trim() }
}

const notices = new Map()

// Shows what is wrong with `about`, or nothing more once `text` is empty. One line per subject,
// so that a poll that fails each second says it once.
export function notice(about, text) {
  const shown = notices.get(about)
  if (!text) {
    shown?.remove()
    notices.delete(about)
  } else if (!shown) {
    const line = make('p', { class: 'notice', text: `${about}: ${text}` })
    notices.set(about, line)
    byId('notices').append(line)
  } else if (shown.textContent !== `${about}: ${text}`) {
    shown.textContent = `${about}: ${text}`
  }
}
