// The console's pane for the Hypothesis Real Time API. A bridged channel is the group of its name.

const quote = (text) => JSON.stringify(text)

const random = (bytes) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('')

const filterOf = (group) => ({
  filter: {
    match_policy: 'include_any',
    clauses: [{ field: '/group', operator: 'equals', value: group }],
    actions: { create: true, update: true, delete: true },
  },
})

const urlOf = ({ secure, host }) => `${secure ? 'wss' : 'ws'}://${host}/ws`

export default {
  title: 'Hypothesis',
  about: 'Annotations as they are made; a channel is the group of the same name.',
  token: { label: 'Access token (none: anonymous)', development: 'dev-token' },

  connect(context, hear, state, said) {
    state('connecting')
    // A browser's WebSocket cannot send an Authorization header; the protocol takes the token here.
    const query = context.token ? `?access_token=${encodeURIComponent(context.token)}` : ''
    const socket = new WebSocket(urlOf(context) + query)
    const send = (message) => {
      const text = JSON.stringify(message)
      socket.send(text)
      said(text)
    }
    socket.onopen = () => {
      state('open')
      // Without an id of its own a client may miss what was made through the plain HTTP API.
      send({ messageType: 'client_id', value: random(16) })
      send(filterOf(context.channel))
      send({ type: 'whoami', id: 1 })
    }
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      hear(data, message.type === 'annotation-notification')
      // Messages are answered in order, so the filter before this one is in force.
      if (message.type === 'whoyouare') state('listening')
    }
    socket.onclose = ({ code, reason }) => state(`closed: ${[code, reason].filter(Boolean).join(' ')}`)
    return { close: () => socket.close(1000) }
  },

  publish(context, name, data) {
    return context.post(`/apps/${context.app.id}/hypothesis/events`, {
      kind: 'annotation',
      action: 'create',
      annotation: {
        id: random(11),
        user: 'acct:console@localhost',
        uri: 'https://example.com/',
        text: typeof data === 'string' ? data : JSON.stringify(data),
        tags: [name],
        group: context.channel,
      },
      visibility: { shared: true, group_world_readable: true },
    })
  },

  snippets(context) {
    const { app, channel, host, port, secure, development } = context
    const name = host.replace(/:\d+$/, '')
    const url = urlOf(context)
    const token = development ? 'dev-token' : 'YOUR-TOKEN'
    return [
      {
        title: 'Browser',
        language: 'js',
        text: `const socket = new WebSocket('${url}?access_token=${token}')
const send = (message) => socket.send(JSON.stringify(message))

socket.onopen = () => {
  send({ messageType: 'client_id', value: crypto.randomUUID() })
  send({
    filter: {
      match_policy: 'include_any',
      clauses: [{ field: '/group', operator: 'equals', value: ${quote(channel)} }],
      actions: { create: true, update: true, delete: true },
    },
  })
}
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data)
  if (message.type !== 'annotation-notification') return
  for (const annotation of message.payload) {
    console.log(message.options.action, annotation.text)
  }
}`,
      },
      {
        title: 'Python',
        language: 'python',
        text: `import asyncio, json, uuid
import websockets

FILTER = {
    "match_policy": "include_any",
    "clauses": [{"field": "/group", "operator": "equals", "value": ${quote(channel)}}],
    "actions": {"create": True, "update": True, "delete": True},
}

async def listen():
    headers = {"Authorization": "Bearer ${token}"}
    async with websockets.connect("${url}", additional_headers=headers) as socket:
        await socket.send(json.dumps({"messageType": "client_id", "value": uuid.uuid4().hex}))
        await socket.send(json.dumps({"filter": FILTER}))
        async for text in socket:
            print(json.loads(text))

asyncio.run(listen())`,
      },
      {
        title: 'h and its client',
        language: 'sh',
        text: `# The Hypothesis client takes the address from h's API (GET /api/links, key "websocket"),
# and h takes it from its environment:
WEBSOCKET_URL=${url}`,
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
  path: '/hypothesis/events',
  body: {
    kind: 'annotation',
    action: 'create',
    annotation: {
      id: crypto.randomUUID(),
      user: 'acct:ann@localhost',
      uri: 'https://example.com/',
      text: 'hi',
      tags: ['greeting'],
      group: ${quote(channel)},
    },
    visibility: { shared: true, group_world_readable: true },
  },
})`,
      },
    ]
  },
}
