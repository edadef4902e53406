// A finished frame, taken apart: the WebSocket header of RFC 6455, section 5.2, or that of a chunk of RFC 9112,
// section 7.1, and the payload.

import { count, make, pretty } from './page.js'

const ROW_BYTES = 16
// What is shown of one frame; a page is no place for a megabyte of digits.
const SHOWN_BYTES_MAX = 4096
const OPCODES = { 0: 'continuation', 1: 'text', 2: 'binary', 8: 'close', 9: 'ping', 10: 'pong' }

const hex = (byte) => byte.toString(16).padStart(2, '0')

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
}

// The header's fields, and where the payload begins; null if there is no whole header.
export function takeApart(frame) {
  if (frame.length < 2) return null
  const [first, second] = frame
  const short = second & 0x7f
  const extra = short === 126 ? 2 : short === 127 ? 8 : 0
  const masked = (second & 0x80) !== 0
  const headerBytes = 2 + extra + (masked ? 4 : 0)
  if (frame.length < headerBytes) return null
  let length = short
  if (extra) length = frame.subarray(2, 2 + extra).reduce((sum, byte) => sum * 256 + byte, 0)
  return {
    fin: (first & 0x80) !== 0,
    compressed: (first & 0x40) !== 0,
    opcode: first & 0x0f,
    masked,
    short,
    length,
    headerBytes,
    payload: frame.subarray(headerBytes),
  }
}

// A piece of an event stream: where its chunk's payload begins, and how long it is; null if it is no chunk.
export function takeChunkApart(frame) {
  const line = /^([0-9a-f]+)\r\n/i.exec(new TextDecoder().decode(frame.subarray(0, 20)))
  if (!line) return null
  const [whole, digits] = line
  const length = parseInt(digits, 16)
  if (frame.length !== whole.length + length + 2) return null
  return { digits, length, headerBytes: whole.length, payload: frame.subarray(whole.length, -2) }
}

const rowsOf = (rows) =>
  make(
    'dl',
    { class: 'header-bytes' },
    ...rows.map(([bytes, text]) => make('div', {}, make('dt', { text: bytes }), make('dd', { text }))),
  )

function explanation(frame, { fin, compressed, opcode, masked, short, length, headerBytes }) {
  const rows = [
    [
      hex(frame[0]),
      `FIN ${fin ? '1, the whole message' : '0, more follows'}; RSV1 ${
        compressed ? '1, compressed' : '0, not compressed'
      }; opcode ${opcode}, ${OPCODES[opcode] ?? 'reserved'}`,
    ],
    [
      hex(frame[1]),
      `mask ${masked ? 1 : 0}; length ${short}${
        short < 126 ? '' : `, so the next ${short === 126 ? 2 : 8} bytes tell it`
      }`,
    ],
  ]
  if (headerBytes > 2)
    rows.push([[...frame.subarray(2, headerBytes)].map(hex).join(' '), `length ${count(length)}`])
  return rowsOf(rows)
}

// 16 bytes a row: offset, digits, and what is printable; the header's bytes stand out.
function dump(frame, headerBytes) {
  const pre = make('pre', { class: 'dump', tabindex: 0, 'aria-label': 'Bytes of the frame' })
  const end = Math.min(frame.length, SHOWN_BYTES_MAX)
  for (let at = 0; at < end; at += ROW_BYTES) {
    const row = frame.subarray(at, Math.min(at + ROW_BYTES, end))
    const inHeader = Math.max(0, Math.min(row.length, headerBytes - at))
    const digits = [...row].map(hex)
    const letters = [...row].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·'))
    const mark = (parts, between) => [
      make('mark', { text: parts.slice(0, inHeader).join(between) }),
      (inHeader && inHeader < parts.length ? between : '') + parts.slice(inHeader).join(between),
    ]
    const gap = ' '.repeat((ROW_BYTES - row.length) * 3 + 2)
    const whole = (parts, between) => (inHeader ? mark(parts, between) : [parts.join(between)])
    pre.append(
      `${at.toString(16).padStart(4, '0')}  `,
      ...whole(digits, ' '),
      gap,
      ...whole(letters, ''),
      '\n',
    )
  }
  if (frame.length > end) pre.append(`… ${count(frame.length - end)} more bytes`)
  return pre
}

// Undoes permessage-deflate (RFC 7692, section 7.2.2): the sender cut four bytes off the end. The
// two after them are an empty last block, so that the stream ends.
async function inflate(payload) {
  const whole = new Blob([payload, Uint8Array.of(0, 0, 0xff, 0xff, 0x03, 0)])
  const stream = whole.stream().pipeThrough(new DecompressionStream('deflate-raw'))
  return new Response(stream).text()
}

const payloadOf = (child) =>
  make('pre', { class: 'payload', tabindex: 0, 'aria-label': 'Payload' }, child)

// A piece of an event stream is text of lines, shown as it stands.
function describePiece(frame, isChunk) {
  const parts = isChunk ? takeChunkApart(frame) : { headerBytes: 0, payload: frame }
  if (!parts) return [make('p', { class: 'answer bad', text: 'these bytes are no whole chunk' }), dump(frame, 0)]
  const { digits, length, headerBytes, payload } = parts
  const header = isChunk
    ? [rowsOf([[digits, `a chunk of ${count(length)} bytes; CR LF before it and behind it`]])]
    : []
  const title = make('h5', { text: 'Payload' })
  return [...header, dump(frame, headerBytes), title, payloadOf(new TextDecoder().decode(payload))]
}

// Everything about one frame of a lane of this kind, as a list of elements.
export function describe(frame, kind) {
  if (kind === 'chunk' || kind === 'plain') return describePiece(frame, kind === 'chunk')
  const parts = takeApart(frame)
  if (!parts)
    return [
      make('p', { class: 'answer bad', text: 'these bytes are no whole WebSocket frame' }),
      dump(frame, 0),
    ]
  const text = payloadOf('')
  const title = make('h5', { text: parts.compressed ? 'Payload, inflated' : 'Payload' })
  if (parts.compressed) {
    inflate(parts.payload).then(
      (inflated) => text.replaceChildren(pretty(inflated)),
      () => text.replaceChildren('it could not be inflated here'),
    )
  } else {
    text.append(pretty(new TextDecoder().decode(parts.payload)))
  }
  return [explanation(frame, parts), dump(frame, parts.headerBytes), title, text]
}
