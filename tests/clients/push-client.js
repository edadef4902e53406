// Signed requests of the push API, written from its documentation, and devices as applications register them.
import crypto from 'node:crypto'
import { APP } from './harness.js'

export class PushApi {
  constructor(server, app = APP) {
    Object.assign(this, { server, app })
  }

  // Status, head and JSON of the answer.
  async ask(method, path, body, { query = {}, headers = {}, secret = this.app.secret } = {}) {
    const text = body === undefined ? '' : JSON.stringify(body)
    const parameters = {
      ...query,
      auth_key: this.app.key,
      auth_timestamp: Math.floor(Date.now() / 1000),
      auth_version: '1.0',
      ...(text && { body_md5: crypto.createHash('md5').update(text).digest('hex') }),
    }
    const full = `/apps/${this.app.id}/${path}`
    const lower = Object.entries(parameters).map(([name, value]) => [name.toLowerCase(), value]).sort(([a], [b]) => (a < b ? -1 : 1))
    const signed = [method, full, lower.map((pair) => pair.join('=')).join('&')].join('\n')
    const url = new URLSearchParams({
      ...parameters,
      auth_signature: crypto.createHmac('sha256', secret).update(signed).digest('hex'),
    })
    const response = await fetch(`http://127.0.0.1:${this.server.port}${full}?${url}`, {
      method,
      headers: { ...(text && { 'content-type': 'application/json' }), ...headers },
      body: text || undefined,
    })
    const said = await response.text()
    let json
    try {
      json = said && JSON.parse(said)
    } catch {
      json = said
    }
    return { status: response.status, headers: response.headers, json }
  }

  // The same below push/; fails unless the status is this one.
  async push(method, path, body, { status = undefined, ...options } = {}) {
    const answer = await this.ask(method, `push/${path}`, body, options)
    // What is waited for has come to something; everything else is accepted.
    const published = body?.sync ? 200 : 202
    const expected = status ?? { POST: path.startsWith('publish') ? published : path.startsWith('batch') ? 202 : 201, GET: 200, DELETE: 204 }[method]
    if (answer.status !== expected) {
      throw new Error(`${method} push/${path}: ${answer.status} instead of ${expected}: ${JSON.stringify(answer.json).slice(0, 600)}`)
    }
    return answer.json
  }

  register(id, recipient, more = {}) {
    return this.push('POST', 'deviceRegistrations', { appId: this.app.id, id, ...DEVICE, push: { recipient }, ...more })
  }

  subscribe(deviceId, channel) {
    return this.push('POST', 'channelSubscriptions', { appId: this.app.id, deviceId, channel })
  }

  publish(body, options) {
    return this.push('POST', 'publish', body, options)
  }

  status(id) {
    return this.push('GET', `publish/${id}/status`)
  }

  async outcomes(id) {
    const items = []
    for (let cursor; ; ) {
      const page = await this.push('GET', `publish/${id}/outcomes`, undefined, { query: cursor ? { cursor } : {} })
      items.push(...page.items)
      cursor = page.next_cursor
      if (!page.has_more) return items
    }
  }

  // A registration goes a moment after its outcome is told.
  async untilGone(id, ms = 5_000) {
    const end = Date.now() + ms
    while ((await this.ask('GET', `push/deviceRegistrations/${id}`)).status !== 404) {
      if (Date.now() >= end) throw new Error(`${id} is still registered`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  // How sending went is kept a moment later, too.
  async untilState(id, state, ms = 5_000) {
    const end = Date.now() + ms
    for (;;) {
      const device = await this.push('GET', `deviceRegistrations/${id}`)
      if (device.pushState === state) return
      if (Date.now() >= end) throw new Error(`${id} is still ${device.pushState}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  // The status once `is` accepts it.
  async until(id, is = (status) => FINAL.includes(status.state), ms = 15_000) {
    const end = Date.now() + ms
    for (;;) {
      const status = await this.status(id)
      if (is(status)) return status
      if (Date.now() >= end) throw new Error(`it stays like this: ${JSON.stringify(status)}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

export const FINAL = ['cancelled', 'succeeded', 'partially_succeeded', 'failed', 'quota_exceeded', 'expired', 'dead_lettered']

const DEVICE = { formFactor: 'phone', platform: 'android', timezone: 'Europe/Vienna', locale: 'en', metadata: {} }

export const to = {
  device: (device_id) => ({ type: 'device', device_id }),
  channel: (channel) => ({ type: 'channel', channel }),
  client: (client_id) => ({ type: 'client', client_id }),
}

export const web = ({ endpoint, keys }) => ({ transportType: 'web', endpoint, ...keys })
export const fcm = (registrationToken) => ({ transportType: 'gcm', registrationToken })
export const apns = (deviceToken) => ({ transportType: 'apns', deviceToken })
export const hms = (registrationToken) => ({ transportType: 'hms', registrationToken })
export const wns = (channelUri) => ({ transportType: 'wns', channelUri })
