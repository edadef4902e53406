// The console's pane for Pusher's protocol 7 and its HTTP API.

const quote = (text) => JSON.stringify(text)

// What a snippet shows in place of an app's secret: the development app's is known to all.
const secretOf = (context, from) => (context.development ? '"app-secret"' : from)

export default {
  title: 'Pusher',
  about: 'What pusher-js, Laravel Echo and every Pusher server library speak.',

  connect(context, hear, state, said) {
    state('connecting')
    const scheme = context.secure ? 'wss' : 'ws'
    const key = encodeURIComponent(context.app.key)
    const socket = new WebSocket(`${scheme}://${context.host}/app/${key}?protocol=7&client=console&version=1`)
    const send = (message) => {
      const text = JSON.stringify(message)
      socket.send(text)
      said(text)
    }
    let refusal = ''
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      const chatter = message.event.startsWith('pusher:') || message.event.startsWith('pusher_internal:')
      hear(data, !chatter)
      if (message.event === 'pusher:connection_established') {
        state('open')
        send({ event: 'pusher:subscribe', data: { channel: context.channel } })
      } else if (message.event === 'pusher_internal:subscription_succeeded') {
        state('listening')
      } else if (message.event === 'pusher:ping') {
        send({ event: 'pusher:pong', data: {} })
      } else if (message.event === 'pusher:error') {
        refusal = message.data?.message ?? ''
      }
    }
    socket.onclose = ({ code, reason }) =>
      state(`closed: ${[code, reason || refusal].filter(Boolean).join(' ')}`)
    return { close: () => socket.close(1000) }
  },

  publish(context, name, data) {
    return context.post(`/apps/${context.app.id}/events`, {
      name,
      channel: context.channel,
      data: JSON.stringify(data),
    })
  },

  snippets(context) {
    const { app, channel, host, port, secure } = context
    const name = host.replace(/:\d+$/, '')
    const where = `  wsHost: ${quote(name)},
  wsPort: ${port},
  wssPort: ${port},
  forceTLS: ${secure},
  enabledTransports: ['ws', 'wss'],
  cluster: 'any', // not used`
    return [
      {
        title: 'pusher-js',
        language: 'js',
        text: `import Pusher from 'pusher-js'

const pusher = new Pusher(${quote(app.key)}, {
${where}
})
pusher.subscribe(${quote(channel)})
  .bind('greeting', (data) => console.log(data))`,
      },
      {
        title: 'Laravel Echo',
        language: 'js',
        text: `import Echo from 'laravel-echo'
import Pusher from 'pusher-js'

window.Pusher = Pusher
const echo = new Echo({
  broadcaster: 'pusher',
  key: ${quote(app.key)},
${where}
})
echo.channel(${quote(channel)})
  .listen('.greeting', (data) => console.log(data))`,
      },
      {
        title: 'Publish: Node',
        language: 'js',
        text: `import Pusher from 'pusher'

const pusher = new Pusher({
  appId: ${quote(app.id)},
  key: ${quote(app.key)},
  secret: ${secretOf(context, 'process.env.RINGMAIN_APP_SECRET')},
  host: ${quote(name)},
  port: '${port}',
  useTLS: ${secure},
})
await pusher.trigger(${quote(channel)}, 'greeting', { text: 'hi' })`,
      },
      {
        title: 'Publish: Python',
        language: 'python',
        text: `${context.development ? '' : 'import os\n'}import pusher

${
  /^[0-9]+$/.test(app.id) ? '' : '# This library takes an app id of digits only: give the app such an id.\n'
}client = pusher.Pusher(
    app_id=${quote(app.id)},
    key=${quote(app.key)},
    secret=${secretOf(context, 'os.environ["RINGMAIN_APP_SECRET"]')},
    host=${quote(name)},
    port=${port},
    ssl=${secure ? 'True' : 'False'},
)
client.trigger(${quote(channel)}, "greeting", {"text": "hi"})`,
      },
      {
        title: 'Publish: shell',
        language: 'sh',
        text: `# The secret comes from RINGMAIN_APP_SECRET${context.development ? '; the development app needs none' : ''}.
ringmain publish --url ${context.origin} ${
          context.development ? '' : `--app-id ${app.id} --key ${app.key} `
        }\\
  --channel '${channel}' --event greeting --data '{"text":"hi"}'`,
      },
    ]
  },
}
