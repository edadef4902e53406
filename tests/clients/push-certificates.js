// Certificates for servers of tests: an authority that lives as long as the test, and a server's certificate that it
// vouches for. Source: RFC 5280; written as X.690 says.
import crypto from 'node:crypto'

const tlv = (tag, ...parts) => {
  const body = Buffer.concat(parts.map((it) => Buffer.from(it)))
  const bytes = []
  for (let left = body.length; left > 0; left >>= 8) bytes.unshift(left & 0xff)
  const length = body.length < 128 ? [body.length] : [0x80 | bytes.length, ...bytes]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const sequence = (...parts) => tlv(0x30, ...parts)
const octets = (...parts) => tlv(0x04, ...parts)
const bits = (body) => tlv(0x03, [0], body)
const yes = tlv(0x01, [0xff])
const oid = (text) => {
  const [first, second, ...rest] = text.split('.').map(Number)
  const bytes = rest.flatMap((it) => {
    const out = [it & 0x7f]
    for (let left = it >> 7; left > 0; left >>= 7) out.unshift(0x80 | (left & 0x7f))
    return out
  })
  return tlv(0x06, [first * 40 + second, ...bytes])
}
const name = (text) => sequence(tlv(0x31, sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from(text)))))
const time = (at) => tlv(0x18, Buffer.from(at.toISOString().replace(/[-:T]|\.\d+/g, '')))
const extension = (id, value, isCritical = false) => sequence(oid(id), ...(isCritical ? [yes] : []), octets(value))
const address = (text) => (text.includes(':') ? Buffer.from('0'.repeat(31) + '1', 'hex') : Buffer.from(text.split('.').map(Number)))

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
const DAY_MS = 86_400_000

function certificate({ subject, issuer, publicKey, signer, extensions }) {
  const now = Date.now()
  const body = sequence(
    tlv(0xa0, tlv(0x02, [2])),
    tlv(0x02, [1], crypto.randomBytes(8)),
    ECDSA_SHA256,
    name(issuer),
    sequence(time(new Date(now - DAY_MS)), time(new Date(now + 30 * DAY_MS))),
    name(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensions)),
  )
  const whole = sequence(body, ECDSA_SHA256, bits(crypto.sign('sha256', body, signer)))
  const lines = whole.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}

// An authority, and a certificate with its key for a server at these addresses (IPv4, ::1) and names; all in PEM.
export function authorities(addresses, names) {
  const [ca, server] = [1, 2].map(() => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }))
  const issuer = 'ringmain test authority'
  const alternatives = [
    ...names.map((it) => tlv(0x82, Buffer.from(it))),
    ...addresses.map((it) => tlv(0x87, address(it))),
  ]
  return {
    authority: certificate({
      subject: issuer,
      issuer,
      publicKey: ca.publicKey,
      signer: ca.privateKey,
      extensions: [extension('2.5.29.19', sequence(yes), true), extension('2.5.29.15', tlv(0x03, [1, 0x06]), true)],
    }),
    certificate: certificate({
      subject: 'ringmain test server',
      issuer,
      publicKey: server.publicKey,
      signer: ca.privateKey,
      extensions: [extension('2.5.29.17', sequence(...alternatives)), extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1')))],
    }),
    key: server.privateKey.export({ type: 'pkcs8', format: 'pem' }),
  }
}
