// The console's pane for the "authrequest" RealTime API. A bridged channel is the account stream's
// events of category "channel" whose subCategory is its name.

const quote = (text) => JSON.stringify(text)

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

const urlOf = ({ secure, host }) => `${secure ? 'wss' : 'ws'}://${host}/`

export default {
  title: 'Auth request',
  about: 'Log in, then start a stream; a channel is a kind of account event.',
  token: { label: 'Bearer token', development: 'dev-token' },

  connect(context, hear, state, said) {
    state('connecting')
    const socket = new WebSocket(urlOf(context))
    const send = (message, shown = message) => {
      socket.send(JSON.stringify(message))
      said(JSON.stringify(shown))
    }
    let refusal = ''
    socket.onopen = () => {
      state('open')
      const message = { type: 'authrequest', token: context.token ?? '' }
      // A real token stays out of the log; the development one is no secret.
      send(message, context.development ? message : { ...message, token: '***' })
    }
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      hear(data, message.type === 'accountevent')
      if (message.success === false) {
        refusal = message.message ?? message.error ?? `${message.type} says no`
        socket.close(1000)
      } else if (message.type === 'authresponse') {
        send({ type: 'startaccounteventrequest' })
      } else if (message.type === 'startaccounteventresponse') {
        state('listening')
      }
    }
    socket.onclose = ({ code, reason }) =>
      state(`closed: ${refusal || [code, reason].filter(Boolean).join(' ')}`)
    return { close: () => socket.close(1000) }
  },

  publish(context, name, data) {
    return context.post(`/apps/${context.app.id}/authrequest/events`, {
      accountId: 'dev',
      category: 'channel',
      subCategory: context.channel,
      eventName: name,
      data: isObject(data) ? data : { value: data },
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
        text: `const socket = new WebSocket('${url}')
const send = (message) => socket.send(JSON.stringify(message))

socket.onopen = () => send({ type: 'authrequest', token: '${token}' })
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data)
  if (message.type === 'authresponse') {
    if (message.success === true) send({ type: 'startaccounteventrequest' })
    else console.error('not logged in', message)
  } else if (message.type === 'accountevent' && message.subCategory === ${quote(channel)}) {
    console.log(message.eventName, message)
  }
}`,
      },
      {
        title: 'Python',
        language: 'python',
        text: `import asyncio, json
import websockets

async def listen():
    async with websockets.connect("${url}") as socket:
        await socket.send(json.dumps({"type": "authrequest", "token": "${token}"}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "authresponse" and message["success"]:
                await socket.send(json.dumps({"type": "startaccounteventrequest"}))
            elif message["type"] == "accountevent":
                print(message["eventName"], message)

asyncio.run(listen())`,
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
  path: '/authrequest/events',
  body: {
    accountId: ${development ? "'dev'" : "'YOUR-ACCOUNT'"},
    category: 'channel',
    subCategory: ${quote(channel)},
    eventName: 'greeting',
    data: { text: 'hi' },
  },
})`,
      },
    ]
  },
}
