// The console's pane for Mastodon streaming. A bridged channel is the tag of its name; public statuses and what
// concerns the account are heard, too.

const quote = (text) => JSON.stringify(text)

const PATH = '/api/v1/streaming'

const urlOf = ({ secure, host }) => `${secure ? 'wss' : 'ws'}://${host}${PATH}`

const events = (context, body) => context.post(`/apps/${context.app.id}/mastodon/events`, body)

// As Mastodon makes ids: milliseconds, and sixteen bits of a sequence.
const newId = () => String((BigInt(Date.now()) << 16n) | BigInt(Math.floor(Math.random() * 65536)))

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

function statusOf(text, tag) {
  const account = { id: '2', username: 'console', acct: 'console', display_name: 'Console', emojis: [] }
  const tags = tag ? [{ name: tag, url: `https://example.com/tags/${tag}` }] : []
  return {
    id: newId(),
    created_at: new Date().toISOString(),
    visibility: 'public',
    language: 'en',
    sensitive: false,
    spoiler_text: '',
    content: `<p>${escape(text)}</p>`,
    account,
    tags,
    mentions: [],
    media_attachments: [],
    emojis: [],
    reblog: null,
    poll: null,
    card: null,
  }
}

export default {
  title: 'Mastodon',
  about: 'Streams of statuses and notifications; a channel is the hashtag of the same name.',
  token: { label: 'Access token', development: 'dev-token' },

  connect(context, hear, state, said) {
    state('connecting')
    // A browser's WebSocket cannot send an Authorization header; the protocol takes the token as a sub-protocol.
    const query = new URLSearchParams({ stream: 'hashtag', tag: context.channel })
    const protocols = context.token ? [context.token] : []
    const socket = new WebSocket(`${urlOf(context)}?${query}`, protocols)
    socket.onopen = () => {
      for (const stream of ['public', 'user']) {
        const text = JSON.stringify({ type: 'subscribe', stream })
        socket.send(text)
        said(text)
      }
      // Nothing says that a stream has begun.
      state('listening')
    }
    socket.onmessage = ({ data }) => hear(data, 'event' in JSON.parse(data))
    socket.onclose = ({ code, reason }) => {
      // A handshake that was refused is told to nobody.
      const why = code === 1006 ? 'refused, or lost' : [code, reason].filter(Boolean).join(' ')
      state(`closed: ${why}`)
    }
    return { close: () => socket.close(1000) }
  },

  publish(context, name, data) {
    return events(context, { event: name, payload: data, channels: [context.channel] })
  },

  deeds: [
    {
      title: 'Post a public status',
      fields: [{ label: 'Text', value: 'hi' }],
      run: (context, text) =>
        events(context, {
          event: 'update',
          payload: statusOf(text),
          channels: ['timeline:public', 'timeline:public:local'],
        }),
    },
    {
      title: 'Post with the tag',
      fields: [{ label: 'Text', value: 'hi' }],
      run: (context, text) =>
        events(context, {
          event: 'update',
          payload: statusOf(text, context.channel),
          channels: [`timeline:hashtag:${context.channel.toLowerCase()}`],
        }),
    },
    {
      title: 'Delete a status',
      fields: [{ label: 'Id', value: '1' }],
      run: (context, id) =>
        events(context, { event: 'delete', payload: id, channels: ['timeline:public'] }),
    },
    {
      title: 'End the connections of an account',
      fields: [{ label: 'Account', value: '1' }],
      run: (context, account) =>
        events(context, { event: 'kill', channels: [`timeline:system:${account}`] }),
    },
  ],

  snippets(context) {
    const { app, channel, host, port, secure, development } = context
    const name = host.replace(/:\d+$/, '')
    const url = urlOf(context)
    const http = `${secure ? 'https' : 'http'}://${host}`
    const token = development ? 'dev-token' : 'YOUR-TOKEN'
    return [
      {
        title: 'Browser',
        language: 'js',
        text: `const socket = new WebSocket('${url}', ['${token}'])

socket.onopen = () => {
  socket.send(JSON.stringify({ type: 'subscribe', stream: 'hashtag', tag: ${quote(channel)} }))
  socket.send(JSON.stringify({ type: 'subscribe', stream: 'public' }))
}
socket.onmessage = ({ data }) => {
  const { stream, event, payload } = JSON.parse(data)
  console.log(stream.join(' '), event, payload)
}`,
      },
      {
        title: 'Shell',
        language: 'sh',
        text: `curl -N -H 'Authorization: Bearer ${token}' '${http}${PATH}/public'`,
      },
      {
        title: 'masto.js',
        language: 'js',
        text: `import { createStreamingAPIClient } from 'masto'

const masto = createStreamingAPIClient({
  streamingApiUrl: '${url.slice(0, -PATH.length)}',
  accessToken: '${token}',
})
for await (const { event, payload } of masto.hashtag.subscribe({ tag: ${quote(channel)} })) {
  console.log(event, payload)
}`,
      },
      {
        title: 'Python',
        language: 'python',
        text: `from mastodon import Mastodon, StreamListener

class Printer(StreamListener):
    def on_abort(self, error):
        print(error)

    def on_any_event(self, name, data):
        print(name, data)

mastodon = Mastodon(access_token="${token}", api_base_url="${http}", version_check_mode="none")
mastodon.stream_public(Printer())`,
      },
      {
        title: 'Publish: Node',
        language: 'js',
        text: `import Pusher from 'pusher' // its signature is what counts here

const pusher = new Pusher({
  appId: ${quote(app.id)},
  key: ${quote(app.key)},
  secret: ${development ? `'app-secret'` : 'process.env.RINGMAIN_APP_SECRET'},
  host: ${quote(name)},
  port: '${port}',
  useTLS: ${secure},
})
await pusher.post({
  path: '/mastodon/events',
  body: {
    event: 'update',
    payload: status, // as Mastodon's API has it
    channels: ['timeline:public', 'timeline:public:local', 'timeline:hashtag:' + ${quote(channel.toLowerCase())}],
  },
})`,
      },
    ]
  },
}
