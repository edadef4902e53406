// The console's pane for Hotsock. Everything but subscribing is asked over the client HTTP API, which says how it went.

const quote = (text) => JSON.stringify(text)

// The development app's secret is known to all, so the page can sign a token that allows everything.
const SECRET = 'app-secret'
const HOUR_S = 3600
const RIGHTS = {
  subscribe: true,
  historyStart: 0,
  getInfo: true,
  messages: { '*': { publish: true, echo: true, store: HOUR_S, react: true } },
  storage: { '*': { get: true, set: true, observe: true, store: HOUR_S } },
}

const base64Url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (it) => ({ '+': '-', '/': '_' })[it] ?? '')

async function sign(claims) {
  const encode = (text) => new TextEncoder().encode(text)
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  const key = await crypto.subtle.importKey('raw', encode(SECRET), algorithm, false, ['sign'])
  const parts = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => base64Url(encode(JSON.stringify(part))))
  const signature = await crypto.subtle.sign('HMAC', key, encode(parts.join('.')))
  return [...parts, base64Url(new Uint8Array(signature))].join('.')
}

const developmentToken = () =>
  sign({
    scope: 'connect',
    exp: Math.floor(Date.now() / 1000) + HOUR_S,
    uid: 'console',
    umd: { name: 'Console' },
    keepAlive: true,
    channels: { '*': RIGHTS },
  })

const urlOf = ({ secure, host }) => `${secure ? 'wss' : 'ws'}://${host}/v1`

// The connection that publishes and asks: there is one pane.
let current = null

async function call(operation, value) {
  if (!current?.id) throw new Error('connect first: what you may do is in your token')
  const query = new URLSearchParams({ connectionId: current.id, connectionSecret: current.secret })
  const answer = await fetch(`/connection/${operation}?${query}`, {
    method: 'POST',
    body: JSON.stringify(value),
  })
  return { status: answer.status, body: await answer.text() }
}

const parsed = (text) => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

export default {
  title: 'Hotsock',
  about: 'What hotsock-js speaks: rights are written in a token, and channels keep values beside messages.',
  token: { label: 'Connect token (a JWT)' },

  connect(context, hear, state, said) {
    state('connecting')
    const session = { close: () => finish('closed') }
    current = session
    let socket = null
    let isOver = false
    let refusal = ''
    const finish = (text) => {
      if (isOver) return
      isOver = true
      if (current === session) current = null
      socket?.close()
      state(`closed: ${text}`)
    }
    // By the channel that is being subscribed: who waits for the answer, whatever it is.
    const waiting = new Map()
    session.subscribe = (channel) => {
      const text = JSON.stringify({ event: 'hotsock.subscribe', channel })
      socket.send(text)
      said(text)
      return new Promise((resolve) => waiting.set(channel, resolve))
    }
    const open = (token) => {
      if (isOver) return
      socket = new WebSocket(`${urlOf(context)}?token=${encodeURIComponent(token)}`)
      socket.onopen = () => state('open')
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data)
        const { event, channel, error } = message
        // The secret is as good as the token.
        const secret = message.data?.connectionSecret
        hear(secret ? data.replace(secret, '***') : data, message.id !== undefined)
        if (event === 'hotsock.subscribed' || event === 'hotsock.error') waiting.get(channel)?.()
        if (event === 'hotsock.connected') {
          session.id = message.data.connectionId
          session.secret = secret
          session.subscribe(context.channel)
        } else if (event === 'hotsock.subscribed' && channel === context.channel) {
          state('listening')
        } else if (event === 'hotsock.error' && channel === context.channel) {
          refusal = error.message
        }
      }
      // A browser does not tell why a handshake was refused.
      socket.onclose = ({ code, reason }) =>
        finish(code === 1006 && !session.id ? 'is the token good?' : [code, reason || refusal].join(' ').trim())
    }
    const { development, token } = context
    const given = development ? developmentToken() : Promise.resolve(token ?? '')
    given.then(open).catch(({ message }) => finish(message))
    return session
  },

  publish(context, name, data) {
    return call('publishMessage', { channel: context.channel, event: name, data })
  },

  deeds: [
    {
      title: 'Set a value',
      fields: [
        { label: 'Key', value: 'topic' },
        { label: 'Value', value: '{"text":"hi"}' },
      ],
      run: ({ channel }, key, text) => call('channelStorageSet', { channel, key, data: parsed(text) }),
    },
    {
      title: 'Get a value',
      fields: [{ label: 'Key', value: 'topic' }],
      run: ({ channel }, key) => call('channelStorageGet', { channel, key }),
    },
    {
      title: 'List messages',
      fields: [],
      run: ({ channel }) =>
        call('listMessages', { channel, reverse: true, limit: 10, expandReactions: true }),
    },
    {
      title: 'Who is there',
      fields: [{ label: 'Channel', value: 'presence.console' }],
      run: async (_, channel) => {
        // Being there is what makes members; a second time does nothing.
        if (current?.id) await current.subscribe(channel)
        return call('getChannelInfo', { channel })
      },
    },
  ],

  snippets(context) {
    const { channel, origin, development } = context
    const url = urlOf(context)
    const key = development ? SECRET : '$HOTSOCK_API_KEY'
    return [
      {
        title: 'hotsock-js',
        language: 'js',
        text: `import { HotsockClient } from '@hotsock/hotsock-js'

const client = new HotsockClient('${url}', {
  connectTokenFn: async () => (await fetch('/your/token')).text(),
})
client.channels(${quote(channel)})
  .bind('greeting', ({ data }) => console.log(data))`,
      },
      {
        title: 'Token',
        language: 'sh',
        text: `# A back end signs one with any JWT library; by hand:
ringmain token hotsock --uid ada --subscribe '${channel}' --publish '${channel}:*'`,
      },
      {
        title: 'Publish: curl',
        language: 'sh',
        text: `curl ${origin}/publish -H "Authorization: Bearer ${key}" \\
  -d '{"channel":${quote(channel)},"event":"greeting","data":{"text":"hi"}}'`,
      },
      {
        title: 'Publish: boto3',
        language: 'python',
        text: `import json
import boto3

hotsock = boto3.client(
    "lambda",
    endpoint_url="${origin}",
    region_name="us-east-1",
    aws_access_key_id="${development ? context.app.key : 'YOUR-ACCESS-KEY'}",
    aws_secret_access_key="${development ? SECRET : 'YOUR-SECRET-KEY'}",
)
hotsock.invoke(
    FunctionName="publish",
    Payload=json.dumps({"channel": ${quote(channel)}, "event": "greeting", "data": {"text": "hi"}}),
)`,
      },
    ]
  },
}
