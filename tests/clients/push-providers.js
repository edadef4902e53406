// Servers that speak as providers of push notifications do, for tests: Web Push services, FCM, APNs, HMS, WNS and those
// that give out access tokens. They hold requests to the providers' published rules (heads, signatures, sizes, shapes),
// answer with the providers' errors, decrypt what Web Push brings, do what faults say, and record what arrived.
//
// As a module:
//   const providers = await PushProviders.start({ tls: true })
//   providers.settings        settings of ringmain that lead here: { 'push.fcm_url': ..., 'push.allow_private': true }
//   providers.credentials     bodies for POST push/credentials/{provider}, by provider
//   providers.caFile          certificate authority of the TLS ports; ringmain trusts it with SSL_CERT_FILE
//   providers.subscription()  a browser's subscription: { endpoint, keys: { p256dh, auth } }; what comes to it is decrypted
//   providers.apnsToken(), .fcmToken(), .hmsToken(), .wnsUri()   addresses that are good
//   providers.fault({ provider: 'apns', kind: 'goaway', count: 1 })    kinds are listed at `fault`
//   providers.gone('fcm', token)                from now on this address is no more
//   providers.received                          what arrived: { provider, address, status, headers, body, ... }
//   await providers.until((it) => it.provider === 'fcm', 3)   waits until three such arrived, and returns them
//   await providers.close()
//
// As a process: node push-providers.js [--tls] [--port N]; it prints one line of JSON with addresses, settings and
// credentials, and ends with its standard input. Over HTTP, at `control` of that line:
//   GET  /control                   that line again
//   POST /control/faults            { provider, kind, count?, at?, ... }
//   DELETE /control/faults
//   POST /control/gone              { provider, address }
//   POST /control/subscriptions     { count? } -> [subscription, ...]
//   GET  /control/received          ?provider=&at_least=N&wait_ms=M; waits until so many arrived
//   DELETE /control/received
//   GET  /control/counts            { "apns 200": 17, ... }: all that arrived, recorded or not
//   POST /control/settings          { recorded_max, apns_update_ms, token_life_s }
//
// Which address behaves how can also be said by its name, without control: a token (FCM, HMS), the end of a path (Web
// Push, WNS) that begins with `gone-`, `invalid-`, `mismatch-`, `broken-` (5xx); for APNs the
// first four digits of a token do, as `APNS_BY_NAME` has them. A path of Web Push that begins with `any-` takes whatever has the right form
// without being decrypted.
import crypto from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { authorities } from './push-certificates.js'

const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging'
const APNS_TOPIC = 'org.example.app'
const PROJECT = 'test-project'
const BODY_MAX = 64 << 10
const RECORDED_MAX = 50_000
const APNS_BY_NAME = {
  '0410': [410, 'Unregistered'],
  '0400': [400, 'BadDeviceToken'],
  '0401': [400, 'DeviceTokenNotForTopic'],
  '0429': [429, 'TooManyRequests'],
  '0500': [500, 'InternalServerError'],
}
const PUSH_TYPES = ['alert', 'background', 'location', 'voip', 'complication', 'fileprovider', 'mdm', 'liveactivity', 'pushtotalk', 'widgets', 'controls']

const base64url = (bytes) => Buffer.from(bytes).toString('base64url')
const json = (text) => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

// What a handler answers with.
const answer = (status, body, headers = {}) => ({ status, body, headers })

// A JSON Web Token's parts; undefined: it is none, or not signed so.
export function verified(token, algorithm, key) {
  const parts = (token ?? '').split('.')
  if (parts.length !== 3) return undefined
  const [head, claims] = parts.slice(0, 2).map((it) => json(Buffer.from(it, 'base64url')))
  if (head?.alg !== algorithm || typeof claims !== 'object') return undefined
  const signed = Buffer.from(parts.slice(0, 2).join('.'))
  const signature = Buffer.from(parts[2], 'base64url')
  const options = algorithm === 'ES256' ? { key, dsaEncoding: 'ieee-p1363' } : key
  try {
    return crypto.verify('sha256', signed, options, signature) ? { head, claims } : undefined
  } catch {
    return undefined
  }
}

// The public key on P-256 that an uncompressed point is.
function fromPoint(point) {
  if (point.length !== 65 || point[0] !== 4) return undefined
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map(base64url)
  try {
    return crypto.createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' })
  } catch {
    return undefined
  }
}

// What a body of Web Push says to whom has these keys. Source: RFC 8291 section 3, RFC 8188 section 2.
export function decrypt(body, { ecdh, auth }) {
  const [salt, size, length] = [body.subarray(0, 16), body.readUInt32BE(16), body[20]]
  const sender = body.subarray(21, 21 + length)
  const hkdf = (ikm, salt, info, bytes) => Buffer.from(crypto.hkdfSync('sha256', ikm, salt, info, bytes))
  const shared = ecdh.computeSecret(sender)
  const info = Buffer.concat([Buffer.from('WebPush: info\0'), ecdh.getPublicKey(), sender])
  const ikm = hkdf(shared, auth, info, 32)
  const key = hkdf(ikm, salt, 'Content-Encoding: aes128gcm\0', 16)
  const nonce = hkdf(ikm, salt, 'Content-Encoding: nonce\0', 12)
  const sealed = body.subarray(21 + length)
  const parts = []
  for (let start = 0, n = 0; start < sealed.length; start += size, n += 1) {
    const record = sealed.subarray(start, start + size)
    const iv = Buffer.from(nonce)
    // Of the six bytes that count records, the last four: more a JavaScript number does not exclusive-or.
    iv.writeUInt32BE((iv.readUInt32BE(8) ^ n) >>> 0, 8)
    const cipher = crypto.createDecipheriv('aes-128-gcm', key, iv)
    cipher.setAuthTag(record.subarray(-16))
    const open = Buffer.concat([cipher.update(record.subarray(0, -16)), cipher.final()])
    const end = open.findLastIndex((it) => it !== 0)
    const isLast = start + size >= sealed.length
    if (open[end] !== (isLast ? 2 : 1)) throw new Error('the delimiter of a record is wrong')
    parts.push(open.subarray(0, end))
  }
  return Buffer.concat(parts)
}

export class PushProviders {
  static async start(options = {}) {
    const providers = new PushProviders()
    await providers.listen(options)
    return providers
  }

  constructor() {
    this.received = []
    this.counts = {}
    this.faults = []
    this.waiting = new Set()
    this.subscriptions = new Map()
    this.goneAddresses = new Set()
    this.tokens = new Map()
    this.channels = new Map()
    this.sessions = new Set()
    this.options = { recorded_max: RECORDED_MAX, apns_update_ms: 20 * 60_000, token_life_s: 3600 }
    const ec = () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const rsa = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 })
    const pem = (key) => key.export({ type: 'pkcs8', format: 'pem' })
    const [apns, vapid] = [ec(), crypto.createECDH('prime256v1')]
    vapid.generateKeys()
    this.keys = { fcm: rsa.publicKey, apns: apns.publicKey, vapid: base64url(vapid.getPublicKey()) }
    this.team = { id: 'TEAM123456', key: 'KEY1234567' }
    this.hms = { id: '104000001', secret: base64url(crypto.randomBytes(24)) }
    this.wns = { sid: 'ms-app://s-1-15-2-1', secret: base64url(crypto.randomBytes(24)) }
    this.made = { fcm: pem(rsa.privateKey), apns: pem(apns.privateKey) }
    const webpush = { publicKey: this.keys.vapid, privateKey: base64url(vapid.getPrivateKey()), subject: 'mailto:push@example.org' }
    this.credentials = { webpush }
  }

  // `port`: of the plain server; 0, as for all others: any.
  async listen({ tls = false, port = 0 }) {
    this.directory = mkdtempSync(join(tmpdir(), 'ringmain-push-'))
    this.servers = [http.createServer({ keepAlive: true }), http2.createServer()]
    if (tls) {
      const { authority, certificate, key } = authorities(['127.0.0.1', '::1'], ['localhost'])
      this.caFile = join(this.directory, 'ca.pem')
      writeFileSync(this.caFile, authority)
      const secure = { key, cert: certificate, allowHTTP1: true, requestCert: true, rejectUnauthorized: false }
      this.servers.push(http2.createSecureServer(secure))
    }
    for (const [n, server] of this.servers.entries()) {
      server.on('request', (request, response) => this.take(request, response))
      server.on('session', (session) => {
        this.sessions.add(session)
        session.on('close', () => this.sessions.delete(session)).on('error', () => {})
      })
      server.on('sessionError', () => {}).on('clientError', (_, socket) => socket.destroy())
      await new Promise((resolve, reject) => {
        server.once('error', reject).listen(n === 0 ? port : 0, '127.0.0.1', resolve)
      })
    }
    const [plain, h2c, secure] = this.servers.map((it) => it.address().port)
    this.plain = `http://127.0.0.1:${plain}`
    this.h2c = `http://127.0.0.1:${h2c}`
    if (secure) this.secure = `https://127.0.0.1:${secure}`
    const [url, apns] = [this.secure ?? this.plain, this.secure ?? this.h2c]
    this.url = url
    this.settings = {
      'push.allow_private': true,
      'push.fcm_url': url,
      'push.apns_url': apns,
      'push.apns_sandbox_url': apns,
      'push.apns_channels_url': apns,
      'push.apns_channels_sandbox_url': apns,
      'push.hms_url': url,
      'push.hms_token_url': `${url}/oauth2/v3/token`,
      'push.wns_token_url': `${url}/accesstoken.srf`,
    }
    const account = {
      type: 'service_account',
      project_id: PROJECT,
      private_key_id: 'fcm-key',
      private_key: this.made.fcm,
      client_email: `push@${PROJECT}.iam.gserviceaccount.com`,
      client_id: '1',
      token_uri: `${url}/token`,
    }
    Object.assign(this.credentials, {
      fcm: { serviceAccountJson: JSON.stringify(account) },
      apns: { teamId: this.team.id, keyId: this.team.key, privateKey: this.made.apns, topic: APNS_TOPIC },
      hms: { hmsAppId: this.hms.id, clientSecret: this.hms.secret },
      wns: { packageSid: this.wns.sid, clientSecret: this.wns.secret },
    })
  }

  async close() {
    for (const session of this.sessions) session.destroy()
    for (const server of this.servers) {
      server.closeAllConnections?.()
      await new Promise((resolve) => server.close(resolve))
    }
    rmSync(this.directory, { recursive: true, force: true })
  }

  get facts() {
    const { url, plain, h2c, secure, caFile, settings, credentials } = this
    return { control: `${plain}/control`, url, plain, h2c, secure, ca_file: caFile, settings, credentials }
  }

  // Addresses that are good; `name` is what they begin with.
  subscription(name = '') {
    const ecdh = crypto.createECDH('prime256v1')
    const [p256dh, auth] = [ecdh.generateKeys(), crypto.randomBytes(16)]
    const id = name + base64url(crypto.randomBytes(12))
    this.subscriptions.set(id, { ecdh, auth })
    return { endpoint: `${this.url}/push/${id}`, keys: { p256dh: base64url(p256dh), auth: base64url(auth) } }
  }

  apnsToken(name = '') {
    return name + crypto.randomBytes(32).toString('hex').slice(name.length).replace(/^0/, '1')
  }

  fcmToken(name = '') {
    return `${name}${base64url(crypto.randomBytes(16))}:APA91b${base64url(crypto.randomBytes(24))}`
  }

  hmsToken(name = '') {
    return `${name}${base64url(crypto.randomBytes(32))}`
  }

  wnsUri(name = '') {
    return `${this.url}/wns/?token=${name}${base64url(crypto.randomBytes(24))}`
  }

  gone(provider, address) {
    this.goneAddresses.add(`${provider} ${address}`)
  }

  // The next `count` requests (0: all) to `provider`, at its messages or `at: 'token'`, meet this:
  //   throttle { retry_after? }   429 (WNS: 406) with Retry-After in seconds
  //   status { status, body? }    that
  //   goaway                      HTTP/2: good-bye without having processed it; HTTP/1: the socket ends
  //   refuse                      HTTP/2: REFUSED_STREAM; HTTP/1: the socket ends
  //   drop                        it is processed and recorded, and the connection is lost before the answer
  //   slow { ms }                 the answer comes late
  //   hang                        no answer ever
  //   expired                     the access token is not good any more, and never again
  fault({ provider, kind, count = 1, at = 'message', ...rest }) {
    this.faults.push({ provider, kind, count, at, left: count || Infinity, ...rest })
  }

  // What arrived and `is` accepts, once there are so many.
  async until(is = () => true, atLeast = 1, ms = 10_000) {
    const end = Date.now() + ms
    for (;;) {
      const found = this.received.filter((it) => is(it))
      if (found.length >= atLeast) return found
      if (Date.now() >= end) throw new Error(`${found.length} of ${atLeast} arrived within ${ms} ms`)
      await this.arrival(end - Date.now())
    }
  }

  // Resolves when something arrived, or after a while.
  arrival(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.waiting.add(done)
    })
  }

  async take(request, response) {
    request.on('error', () => {})
    response.on('error', () => {})
    const parts = []
    let length = 0
    try {
      for await (const part of request) {
        length += part.length
        if (length <= BODY_MAX) parts.push(part)
      }
    } catch {
      // Whoever asked is gone.
      return
    }
    const url = new URL(request.url, this.url)
    const body = Buffer.concat(parts)
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !name.startsWith(':')))
    const said = { method: request.method, url, headers, body, length, isHttp2: request.httpVersionMajor === 2, certificate: request.socket?.getPeerCertificate?.()?.subject }
    if (url.pathname.startsWith('/control')) return write(response, await this.control(said))
    const route = ROUTES.find((it) => it.path.test(url.pathname))
    if (!route) return write(response, answer(404, { error: 'there is no such path' }))
    const fault = this.faults.find((it) => it.provider === route.provider && it.at === route.at && it.left > 0)
    if (fault) fault.left -= 1
    if (fault?.kind === 'hang') return
    if (fault?.kind === 'goaway' || fault?.kind === 'refuse') return this.refuse(request, response, fault.kind)
    const given = fault && this.faulty(fault, route, said)
    const found = given ?? route.take.call(this, said, route.path.exec(url.pathname))
    this.record(route, said, found)
    if (fault?.kind === 'slow') await new Promise((resolve) => setTimeout(resolve, fault.ms ?? 1000))
    if (fault?.kind === 'drop') {
      if (response.stream) response.stream.session?.destroy()
      else request.socket.destroy()
      return
    }
    write(response, found)
  }

  refuse(request, response, kind) {
    const stream = response.stream
    if (!stream) return request.socket.destroy()
    if (kind === 'refuse') return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)
    const { session, id } = stream.on('error', () => {})
    const bye = (last) => {
      session.goaway(http2.constants.NGHTTP2_NO_ERROR, last)
      session.close()
    }
    // Those before this one are answered; then the connection ends. The first has none before it that a good-bye could name.
    // A stream closed beside the good-bye damages Node's heap (Node 20).
    if (id > 1) return bye(id - 2)
    stream.once('close', () => bye(0)).close(http2.constants.NGHTTP2_REFUSED_STREAM)
  }

  faulty(fault, route, said) {
    const after = { 'retry-after': String(fault.retry_after ?? 1) }
    switch (fault.kind) {
      case 'throttle':
        return route.errors.throttled(after)
      case 'status':
        return answer(fault.status, fault.body ?? {})
      case 'expired':
        this.tokens.delete((said.headers.authorization ?? '').replace(/^bearer /i, ''))
        return route.errors.expired()
    }
  }

  record(route, said, found) {
    const name = `${route.provider}${route.at === 'message' ? '' : ` ${route.at}`} ${found.status}`
    this.counts[name] = (this.counts[name] ?? 0) + 1
    if (this.received.length < this.options.recorded_max) {
      const { method, url, headers, isHttp2, certificate } = said
      this.received.push({
        provider: route.provider,
        at: route.at,
        n: this.received.length,
        time: Date.now(),
        method,
        path: url.pathname + url.search,
        headers,
        isHttp2,
        certificate,
        body: found.opened ?? json(said.body) ?? said.body.toString('base64'),
        address: found.address,
        status: found.status,
        answer: found.body,
        id: found.id,
      })
    }
    for (const done of [...this.waiting]) done()
  }

  async control({ method, url, body }) {
    const asked = json(body) ?? {}
    switch (`${method} ${url.pathname.slice('/control'.length)}`) {
      case 'GET ':
        return answer(200, this.facts)
      case 'POST /faults':
        this.fault(asked)
        return answer(200, {})
      case 'DELETE /faults':
        this.faults = []
        return answer(200, {})
      case 'POST /gone':
        this.gone(asked.provider, asked.address)
        return answer(200, {})
      case 'POST /subscriptions':
        return answer(200, Array.from({ length: asked.count ?? 1 }, () => this.subscription(asked.name)))
      case 'GET /received': {
        const [provider, least] = [url.searchParams.get('provider'), Number(url.searchParams.get('at_least') ?? 0)]
        const is = (it) => !provider || it.provider === provider
        const wait = Number(url.searchParams.get('wait_ms') ?? 10_000)
        await this.until(is, least, wait).catch(() => {})
        return answer(200, this.received.filter(is))
      }
      case 'DELETE /received':
        this.received = []
        this.counts = {}
        return answer(200, {})
      case 'GET /counts':
        return answer(200, this.counts)
      case 'POST /settings':
        Object.assign(this.options, asked)
        return answer(200, this.options)
      default:
        return answer(404, { error: 'there is no such control' })
    }
  }

  // Access tokens, by the provider that gave them out.
  issue(provider) {
    const token = `${provider}.${base64url(crypto.randomBytes(24))}`
    this.tokens.set(token, { provider, until: Date.now() + this.options.token_life_s * 1000 })
    return token
  }

  isLetIn(provider, headers) {
    const token = /^bearer (.+)$/i.exec(headers.authorization ?? '')?.[1]
    const issued = this.tokens.get(token)
    return issued?.provider === provider && issued.until > Date.now()
  }

  isGone(provider, address) {
    return address.startsWith('gone-') || this.goneAddresses.has(`${provider} ${address}`)
  }
}

function write(response, { status, body, headers = {} }) {
  if (response.destroyed || response.stream?.destroyed) return
  const isText = typeof body === 'string'
  const text = body === undefined ? '' : isText ? body : JSON.stringify(body)
  const type = body === undefined || isText ? {} : { 'content-type': 'application/json' }
  response.writeHead(status, { ...type, 'content-length': Buffer.byteLength(text), ...headers })
  response.end(text)
}

const pairs = (body) => Object.fromEntries(new URLSearchParams(body.toString()))
const isForm = (headers) => (headers['content-type'] ?? '').startsWith('application/x-www-form-urlencoded')
const isJson = (headers) => /^application\/json\b/.test(headers['content-type'] ?? '')

// --- Web Push. Source: RFC 8030, 8188, 8291, 8292; sizes and statuses as browsers' services document them.

function webPush({ method, url, headers, body, length }, [, id]) {
  const said = (status, text, more) => ({ ...answer(status, text, more), address: `${url.origin}${url.pathname}` })
  if (method !== 'POST') return said(405, 'only POST')
  if (this.isGone('webPush', id)) return said(410, 'push subscription has unsubscribed or expired')
  if (id.startsWith('broken-')) return said(503, 'try again')
  const subscription = this.subscriptions.get(id)
  if (!subscription && !id.startsWith('any-')) return said(404, 'there is no such subscription')
  if (!/^\d+$/.test(headers.ttl ?? '')) return said(400, 'TTL is missing')
  if (!['very-low', 'low', 'normal', 'high', undefined].includes(headers.urgency)) return said(400, 'Urgency makes no sense')
  if (headers.topic !== undefined && !/^[\w-]{1,32}$/.test(headers.topic)) return said(400, 'Topic makes no sense')
  const [, token, key] = /^vapid t=([^\s,]+), ?k=([\w-]+)$/.exec(headers.authorization ?? '') ?? []
  if (!token) return said(401, 'a vapid token is missing')
  const point = fromPoint(Buffer.from(key, 'base64url'))
  const claims = point && verified(token, 'ES256', point)?.claims
  if (!claims) return said(403, 'the signature is wrong')
  if (claims.aud !== url.origin) return said(403, `aud is not ${url.origin}`)
  const now = Date.now() / 1000
  if (!(claims.exp > now && claims.exp <= now + 86_400)) return said(403, 'exp is over or more than 24 hours away')
  if (!/^(mailto:|https:)/.test(claims.sub ?? '')) return said(403, 'sub is missing')
  if (subscription && key !== this.keys.vapid) return said(403, 'the subscription is for another key')
  if (length > 4096) return said(413, 'the payload is too large')
  if (length === 0) return said(201, undefined, { location: `${url.origin}/message/${crypto.randomUUID()}` })
  if (headers['content-encoding'] !== 'aes128gcm') return said(400, 'Content-Encoding is not aes128gcm')
  if (length < 21 + 65 + 18 || body[20] !== 65 || body[21] !== 4 || body.readUInt32BE(16) < 18) {
    return said(400, 'the head of the payload makes no sense')
  }
  let opened
  try {
    if (subscription) opened = decrypt(body, subscription).toString()
  } catch (error) {
    return said(400, `the browser could not read it: ${error.message}`)
  }
  const id_ = `${url.origin}/message/${crypto.randomUUID()}`
  return { ...said(201, undefined, { location: id_ }), opened: opened && (json(opened) ?? opened), id: id_ }
}

const webPushErrors = {
  throttled: (after) => answer(429, 'too many requests', after),
  expired: () => answer(401, 'the vapid token has expired'),
}

// --- FCM HTTP v1. Source: Firebase's reference of projects.messages and of its error codes.

function googleToken({ method, url, headers, body }) {
  const not = (error, error_description) => answer(400, { error, error_description })
  if (method !== 'POST' || !isForm(headers)) return not('invalid_request', 'a form is wanted')
  const { grant_type, assertion } = pairs(body)
  if (grant_type !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') return not('unsupported_grant_type', grant_type)
  const token = verified(assertion, 'RS256', this.keys.fcm)
  if (!token) return not('invalid_grant', 'Invalid JWT Signature.')
  const { iss, scope, aud, iat, exp } = token.claims
  const now = Date.now() / 1000
  if (iss !== `push@${PROJECT}.iam.gserviceaccount.com`) return not('invalid_grant', 'account not found')
  if (!(scope ?? '').split(' ').includes(SCOPE)) return not('invalid_scope', scope)
  if (aud !== `${url.origin}${url.pathname}`) return not('invalid_grant', 'aud is wrong')
  if (!(iat <= now + 60 && exp > now && exp - iat <= 3600)) return not('invalid_grant', 'iat and exp make no sense')
  return answer(200, { access_token: this.issue('fcm'), expires_in: this.options.token_life_s, token_type: 'Bearer' })
}

const google = (code, status, message, errorCode, headers) => {
  const details = errorCode && [{ '@type': 'type.googleapis.com/google.firebase.fcm.v1.FcmError', errorCode }]
  return answer(code, { error: { code, message, status, details } }, headers)
}

const fcmErrors = {
  throttled: (after) => google(429, 'RESOURCE_EXHAUSTED', 'Quota exceeded', 'QUOTA_EXCEEDED', after),
  expired: () => google(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.'),
}

const FCM_MEMBERS = ['name', 'data', 'notification', 'android', 'webpush', 'apns', 'fcm_options', 'token', 'topic', 'condition']

function fcm({ method, headers, body, length }, [, project]) {
  const invalid = (message) => google(400, 'INVALID_ARGUMENT', message, 'INVALID_ARGUMENT')
  if (method !== 'POST' || !isJson(headers)) return invalid('JSON is wanted')
  if (!this.isLetIn('fcm', headers)) return fcmErrors.expired()
  if (project !== PROJECT) return google(403, 'PERMISSION_DENIED', `no permission for ${project}`)
  const { message, ...others } = json(body) ?? {}
  const unknown = Object.keys(others).find((it) => it !== 'validate_only') ?? Object.keys(message ?? {}).find((it) => !FCM_MEMBERS.includes(it))
  if (unknown) return invalid(`Invalid JSON payload received. Unknown name "${unknown}"`)
  const targets = ['token', 'topic', 'condition'].filter((it) => typeof message?.[it] === 'string')
  if (targets.length !== 1) return invalid('Exactly one of token, topic or condition is required')
  const address = message[targets[0]]
  const said = (it) => ({ ...it, address })
  if (Object.values(message.data ?? {}).some((it) => typeof it !== 'string')) return said(invalid('data takes strings alone'))
  if (Object.keys(message.data ?? {}).some((it) => /^(from|gcm|google|collapse_key)/.test(it))) return said(invalid('a key of data is reserved'))
  if (message.android?.ttl !== undefined && !/^\d+(\.\d+)?s$/.test(message.android.ttl)) return said(invalid('android.ttl makes no sense'))
  if (length > 4096 + 1024) return said(invalid('Android message is too big'))
  if (targets[0] === 'token') {
    if (this.isGone('fcm', address)) return said(google(404, 'NOT_FOUND', 'Requested entity was not found.', 'UNREGISTERED'))
    if (address.startsWith('invalid-')) return said(invalid('The registration token is not a valid FCM registration token'))
    if (address.startsWith('mismatch-')) return said(google(403, 'PERMISSION_DENIED', 'SenderId mismatch', 'SENDER_ID_MISMATCH'))
    if (address.startsWith('broken-')) return said(google(503, 'UNAVAILABLE', 'try again', 'UNAVAILABLE'))
  }
  const name = `projects/${project}/messages/${crypto.randomUUID()}`
  return { ...said(answer(200, { name })), id: name }
}

// --- APNs. Source: Apple, "Sending notification requests to APNs", "Handling error responses", "Managing broadcast
// channels", "Establishing a token-based connection".

const apns = (status, reason, headers = {}, more = {}) => answer(status, reason && { reason, ...more }, headers)

const apnsErrors = {
  throttled: (after) => apns(429, 'TooManyRequests', after),
  expired: () => apns(403, 'ExpiredProviderToken'),
}

// Why this request is not let in, as an answer.
function apnsDenied(providers, { headers, certificate }) {
  const token = /^bearer (.+)$/i.exec(headers.authorization ?? '')?.[1]
  if (!token) return certificate?.CN ? undefined : apns(403, 'MissingProviderToken')
  const parts = verified(token, 'ES256', providers.keys.apns)
  if (!parts || parts.head.kid !== providers.team.key || parts.claims.iss !== providers.team.id) return apns(403, 'InvalidProviderToken')
  const now = Date.now()
  const age = now / 1000 - parts.claims.iat
  if (!(age < 3600 && age > -60)) return apns(403, 'ExpiredProviderToken')
  const last = providers.lastToken
  if (last?.token === token) return undefined
  if (last && now - last.at < providers.options.apns_update_ms) return apns(429, 'TooManyProviderTokenUpdates')
  providers.lastToken = { token, at: now }
  return undefined
}

// What is wrong with head and body of a message, as an answer.
function apnsWrong({ headers, body, length }, max) {
  const [type, priority] = [headers['apns-push-type'], headers['apns-priority'] ?? '10']
  if (!headers['apns-topic']) return apns(400, 'MissingTopic')
  if (!PUSH_TYPES.includes(type)) return apns(400, 'InvalidPushType')
  const topic = type === 'liveactivity' ? `${APNS_TOPIC}.push-type.liveactivity` : APNS_TOPIC
  if (headers['apns-topic'] !== topic) return apns(400, 'TopicDisallowed')
  if (!['1', '5', '10'].includes(priority)) return apns(400, 'BadPriority')
  if (!/^\d*$/.test(headers['apns-expiration'] ?? '')) return apns(400, 'BadExpirationDate')
  if (Buffer.byteLength(headers['apns-collapse-id'] ?? '') > 64) return apns(400, 'BadCollapseId')
  if (headers['apns-id'] && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(headers['apns-id'])) return apns(400, 'BadMessageId')
  if (length > max) return apns(413, 'PayloadTooLarge')
  const aps = json(body)?.aps
  if (typeof aps !== 'object') return apns(400, 'PayloadEmpty')
  if (type === 'background' && (priority === '10' || aps['content-available'] !== 1)) return apns(400, 'BadPriority')
  if (type === 'liveactivity' && !(Number.isInteger(aps.timestamp) && ['start', 'update', 'end'].includes(aps.event))) return apns(400, 'InvalidPayload')
  return undefined
}

function apnsDevice(said, [, token]) {
  const id = said.headers['apns-id'] ?? crypto.randomUUID().toUpperCase()
  const found = (it) => ({ ...it, address: token, headers: { ...it.headers, 'apns-id': id }, id })
  if (!said.isHttp2) return found(apns(505, 'HTTP/2 is wanted'))
  if (said.method !== 'POST') return found(apns(405, 'MethodNotAllowed'))
  const denied = apnsDenied(this, said)
  if (denied) return found(denied)
  if (!/^([0-9a-f]{2}){32,100}$/i.test(token)) return found(apns(400, 'BadDeviceToken'))
  const wrong = apnsWrong(said, said.headers['apns-push-type'] === 'voip' ? 5120 : 4096)
  if (wrong) return found(wrong)
  // It went just now: one that went before its registration is there again.
  if (this.isGone('apns', token)) return found(apns(410, 'Unregistered', {}, { timestamp: Date.now() }))
  const [status, reason] = APNS_BY_NAME[token.slice(0, 4)] ?? []
  if (status) return found(apns(status, reason, {}, status === 410 ? { timestamp: Date.now() - 1000 } : {}))
  return found(answer(200, undefined, { 'apns-unique-id': crypto.randomUUID() }))
}

function apnsBroadcast(said, [, bundle]) {
  const channel = said.headers['apns-channel-id'] ?? ''
  const id = said.headers['apns-request-id'] ?? crypto.randomUUID()
  const found = (it) => ({ ...it, address: channel, headers: { ...it.headers, 'apns-request-id': id }, id })
  const denied = apnsDenied(this, said)
  if (denied) return found(denied)
  if (bundle !== APNS_TOPIC) return found(apns(400, 'BadTopic'))
  if (!channel) return found(apns(400, 'MissingChannelId'))
  if (!this.channels.has(channel)) return found(apns(404, 'ChannelNotRegistered'))
  const { headers } = said
  if (headers['apns-push-type'] !== 'liveactivity') return found(apns(400, 'InvalidPushType'))
  if (headers['apns-expiration'] === undefined) return found(apns(400, 'BadExpirationDate'))
  const wrong = apnsWrong({ ...said, headers: { ...headers, 'apns-topic': `${bundle}.push-type.liveactivity` } }, 5120)
  return found(wrong ?? answer(200, undefined, { 'apns-unique-id': crypto.randomUUID() }))
}

function apnsChannels(said, [, bundle, which]) {
  const request = { 'apns-request-id': crypto.randomUUID() }
  const found = (it) => ({ ...it, headers: { ...it.headers, ...request }, address: said.headers['apns-channel-id'] })
  const denied = apnsDenied(this, said)
  if (denied) return found(denied)
  if (bundle !== APNS_TOPIC) return found(apns(400, 'BadTopic'))
  if (which === 'all-channels') return found(answer(200, { channels: [...this.channels.keys()] }))
  const channel = said.headers['apns-channel-id']
  if (said.method === 'POST') {
    const asked = json(said.body) ?? {}
    if (asked['push-type'] !== 'LiveActivity') return found(apns(400, 'InvalidPushType'))
    const policy = asked['message-storage-policy']
    if (![0, 1].includes(policy)) return found(apns(400, 'BadMessageStoragePolicy'))
    const id = crypto.randomBytes(16).toString('base64')
    this.channels.set(id, policy)
    return found(answer(201, undefined, { 'apns-channel-id': id }))
  }
  if (!channel) return found(apns(400, 'MissingChannelId'))
  if (!this.channels.has(channel)) return found(apns(404, 'ChannelNotRegistered'))
  if (said.method === 'DELETE') {
    this.channels.delete(channel)
    return found(answer(204))
  }
  return found(answer(200, { 'message-storage-policy': this.channels.get(channel), 'push-type': 'LiveActivity' }))
}

// --- HMS. Source: HUAWEI Push Kit, "Sending messages" and "Result codes"; "OAuth 2.0-based authentication".

function huaweiToken({ method, headers, body }) {
  if (method !== 'POST' || !isForm(headers)) return answer(400, { error: 1101, sub_error: 20001, error_description: 'a form is wanted' })
  const { grant_type, client_id, client_secret } = pairs(body)
  if (grant_type !== 'client_credentials') return answer(400, { error: 1101, sub_error: 20001, error_description: 'grant_type is wrong' })
  if (client_id !== this.hms.id || client_secret !== this.hms.secret) {
    return answer(400, { error: 1101, sub_error: 20002, error_description: 'app secret is incorrect' })
  }
  return answer(200, { access_token: this.issue('hms'), expires_in: this.options.token_life_s, token_type: 'Bearer' })
}

const huawei = (status, code, msg, headers) => answer(status, { code, msg, requestId: crypto.randomUUID() }, headers)

const hmsErrors = {
  throttled: (after) => huawei(503, '81000001', 'system busy', after),
  expired: () => huawei(401, '80200003', 'access token has expired'),
}

function hms({ method, headers, body, length }, [, app]) {
  if (method !== 'POST' || !isJson(headers)) return huawei(400, '80100001', 'JSON is wanted')
  if (!this.isLetIn('hms', headers)) return huawei(401, '80200001', 'Oauth authentication error.')
  if (app !== this.hms.id) return huawei(403, '80300002', 'No permission to send message to these tokens.')
  const { message } = json(body) ?? {}
  const targets = ['token', 'topic', 'condition'].filter((it) => message?.[it])
  if (targets.length !== 1) return huawei(400, '80100001', 'one of token, topic and condition is wanted')
  const address = targets[0] === 'token' ? message.token[0] : message[targets[0]]
  const said = (it) => ({ ...it, address, id: it.body.requestId })
  if (targets[0] === 'token' && !(Array.isArray(message.token) && message.token.length <= 1000)) return said(huawei(400, '80100001', 'token takes a list'))
  if (message.data !== undefined && typeof message.data !== 'string') return said(huawei(400, '80100001', 'data takes a string'))
  if (message.notification === undefined && message.data === undefined && message.android?.notification === undefined) {
    return said(huawei(400, '80100003', 'Incorrect message structure.'))
  }
  if (message.android?.notification && message.android.notification.click_action === undefined) return said(huawei(400, '80100003', 'click_action is missing'))
  if (length > 4096 + 1024) return said(huawei(400, '80300008', 'The message body size exceeds the default value.'))
  if (this.isGone('hms', address)) return said(huawei(200, '80300007', 'All tokens are invalid.'))
  if (address.startsWith('invalid-')) return said(huawei(200, '80300007', 'All tokens are invalid.'))
  if (address.startsWith('broken-')) return said(huawei(503, '81000001', 'System internal error.'))
  return said(huawei(200, '80000000', 'Success'))
}

// --- WNS. Source: Microsoft, "Push notification service request and response headers", "How to authenticate with WNS".

function microsoftToken({ method, headers, body }) {
  const not = (error, error_description) => answer(400, { error, error_description })
  if (method !== 'POST' || !isForm(headers)) return not('invalid_request', 'a form is wanted')
  const { grant_type, client_id, client_secret, scope } = pairs(body)
  if (grant_type !== 'client_credentials') return not('unsupported_grant_type', grant_type)
  if (client_id !== this.wns.sid || client_secret !== this.wns.secret) return not('invalid_client', 'the client is not known')
  if (scope !== 'notify.windows.com') return not('invalid_scope', scope)
  return answer(200, { access_token: this.issue('wns'), token_type: 'bearer', expires_in: this.options.token_life_s })
}

const wnsErrors = {
  throttled: (after) => answer(406, '', { 'x-wns-status': 'channelthrottled', ...after }),
  expired: () => answer(401, '', { 'www-authenticate': 'Bearer error="invalid_token", error_description="Token expired"' }),
}

// Whether a text is XML as far as tags go, with this element around it.
function isXml(text, element) {
  const open = []
  const tags = text.replace(/^<\?xml[^>]*\?>/, '').replace(/<!--.*?-->/gs, '')
  if (/&(?!(amp|lt|gt|quot|apos|#\d+|#x[0-9a-f]+);)/i.test(tags)) return false
  for (const [, end, name, empty] of tags.matchAll(/<(\/?)([\w-]+)(?:\s+[\w:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(\/?)>/g)) {
    if (!open.length && !end && name !== element) return false
    if (end && open.pop() !== name) return false
    if (!end && !empty) open.push(name)
  }
  return open.length === 0 && tags.trim().startsWith(`<${element}`) && !/[<>]/.test(tags.replace(/<[^<>]*>/g, ''))
}

function wns({ method, url, headers, body, length }) {
  const uri = `${url.origin}${url.pathname}${url.search}`
  const token = url.searchParams.get('token') ?? ''
  const id = crypto.randomBytes(8).toString('hex').toUpperCase()
  const said = (status, state, more = {}) => ({
    ...answer(status, '', { 'x-wns-status': state, 'x-wns-msg-id': id, 'x-wns-debug-trace': 'test', ...more }),
    address: uri,
    id,
    opened: body.toString(),
  })
  const wrong = (text) => said(400, 'dropped', { 'x-wns-error-description': text })
  if (method !== 'POST') return said(405, 'dropped')
  if (!this.isLetIn('wns', headers)) return { ...wnsErrors.expired(), address: uri }
  const type = headers['x-wns-type']
  if (!['wns/toast', 'wns/tile', 'wns/badge', 'wns/raw'].includes(type)) return wrong('X-WNS-Type is invalid')
  const isRaw = type === 'wns/raw'
  if (headers['content-type'] !== (isRaw ? 'application/octet-stream' : 'text/xml')) return wrong('Content-Type does not fit X-WNS-Type')
  if (headers['content-length'] === undefined) return wrong('Content-Length is missing')
  if (headers['x-wns-ttl'] !== undefined && !/^[1-9]\d*$/.test(headers['x-wns-ttl'])) return wrong('X-WNS-TTL is invalid')
  if (headers['x-wns-tag'] !== undefined && !/^[\x20-\x7e]{1,16}$/.test(headers['x-wns-tag'])) return wrong('X-WNS-Tag is invalid')
  if (length > 5000) return said(413, 'dropped')
  if (this.isGone('wns', uri) || token.startsWith('gone-')) return said(410, 'dropped')
  if (token.startsWith('invalid-')) return said(404, 'dropped')
  if (token.startsWith('mismatch-')) return said(403, 'dropped')
  if (token.startsWith('broken-')) return said(503, 'dropped')
  if (!isRaw && !isXml(body.toString(), type.slice(4))) return wrong('the XML is not well formed')
  return said(200, 'received', { 'x-wns-deviceconnectionstatus': 'connected' })
}

const route = (provider, at, path, take, errors) => ({ provider, at, path, take, errors })
const ROUTES = [
  route('webPush', 'message', /^\/push\/([^/]+)$/, webPush, webPushErrors),
  route('fcm', 'message', /^\/v1\/projects\/([^/]+)\/messages:send$/, fcm, fcmErrors),
  route('fcm', 'token', /^\/token$/, googleToken, fcmErrors),
  route('apns', 'message', /^\/3\/device\/([^/]*)$/, apnsDevice, apnsErrors),
  route('apns', 'broadcast', /^\/4\/broadcasts\/apps\/([^/]+)$/, apnsBroadcast, apnsErrors),
  route('apns', 'channels', /^\/1\/apps\/([^/]+)\/(channels|all-channels)$/, apnsChannels, apnsErrors),
  route('hms', 'message', /^\/v[12]\/([^/]+)\/messages:send$/, hms, hmsErrors),
  route('hms', 'token', /^\/oauth2\/v[23]\/token$/, huaweiToken, hmsErrors),
  route('wns', 'message', /^\/wns\/$/, wns, wnsErrors),
  route('wns', 'token', /^\/accesstoken\.srf$/, microsoftToken, wnsErrors),
]

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(/--port[ =](\d+)/.exec(process.argv.slice(2).join(' '))?.[1] ?? 0)
  const providers = await PushProviders.start({ tls: process.argv.includes('--tls'), port })
  process.stdout.write(`${JSON.stringify(providers.facts)}\n`)
  const end = () => providers.close().then(() => process.exit(0))
  process.stdin.resume().on('end', end)
  process.on('SIGTERM', end).on('SIGINT', end)
}
