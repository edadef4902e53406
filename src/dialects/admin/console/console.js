// The console: asks what there is, opens the sections, and shows the login where one is needed.

import { askJson, notice, onLoginNeeded, tell } from './api.js'
import { openCharts, redrawCharts } from './charts.js'
import { closeChannels, openChannels } from './channels.js'
import { openEndings } from './endings.js'
import { closeInspector, inspect, openInspector } from './inspector.js'
import { startPolling, stopPolling } from './metrics.js'
import { byId, make, write } from './page.js'
import { closePanes, openPanes } from './panes.js'
import { closePush, openPush } from './push.js'

const THEMES = ['system', 'light', 'dark']

let about = null
let app = null

const fill = (select, values) =>
  select.replaceChildren(...values.map((value) => make('option', { value, text: value })))

function inspectChannel(channel) {
  inspect(channel)
  byId('inspector').scrollIntoView()
  byId('inspector-toggle').focus({ preventScroll: true })
}

function chooseChannel() {
  const channel = byId('channel').value
  openPanes(about, app, channel).catch((error) => notice('Panes', error.message))
  openInspector(app, channel)
}

function chooseApp() {
  app = about.apps.find(({ id }) => id === byId('app').value) ?? about.apps[0]
  const bridged = app.bridge ?? []
  notice(
    'Bridge',
    bridged.length ? '' : `no channel of ${app.id} is bridged, so each pane hears only its own protocol`,
  )
  fill(byId('channel'), bridged.length ? bridged : ['hello'])
  openChannels(app, inspectChannel)
  openPush(about, app)
  chooseChannel()
}

async function open() {
  try {
    about = await askJson('about')
  } catch (error) {
    if (error.status !== 401) {
      notice('Console', `${error.message}; trying again`)
      setTimeout(open, 2000)
    }
    return
  }
  notice('Console', '')
  byId('login').hidden = true
  byId('sections').hidden = false
  byId('nav').hidden = false
  write(byId('version'), about.version)
  byId('mode').hidden = !about.development
  byId('logout').hidden = about.development
  if (about.apps.length === 0) {
    notice('Apps', 'there is none; configure one')
    return
  }
  fill(
    byId('app'),
    about.apps.map(({ id }) => id),
  )
  byId('app-choice').hidden = about.apps.length < 2
  chooseApp()
  startPolling()
  // The page was short until now; where the address points is further down.
  if (location.hash) document.querySelector(`[id="${CSS.escape(location.hash.slice(1))}"]`)?.scrollIntoView()
}

function close() {
  if (!byId('login').hidden) return
  stopPolling()
  closePanes()
  closeChannels()
  closeInspector()
  closePush()
  for (const subject of ['Metrics', 'Channels', 'Push', 'Panes', 'Bridge', 'Console']) notice(subject, '')
  byId('sections').hidden = true
  byId('nav').hidden = true
  byId('logout').hidden = true
  byId('login').hidden = false
  byId('token').focus()
}

byId('login').addEventListener('submit', async (event) => {
  event.preventDefault()
  const answer = byId('login-answer')
  try {
    await tell('login', { token: byId('token').value })
    write(answer, '')
    byId('token').value = ''
    await open()
    byId('main').focus()
  } catch (error) {
    answer.classList.add('bad')
    write(answer, error.status === 401 ? '401: that is not the token' : error.message)
    byId('token').select()
  }
})

byId('logout').addEventListener('click', async () => {
  try {
    await tell('logout')
    close()
  } catch (error) {
    notice('Log out', error.message)
  }
})

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? 'system'
  write(byId('theme-name'), theme)
  byId('theme').setAttribute('aria-label', `Theme: ${theme}`)
  redrawCharts()
}

byId('theme').addEventListener('click', () => {
  const root = document.documentElement
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? 'system') + 1) % THEMES.length]
  if (theme === 'system') delete root.dataset.theme
  else root.dataset.theme = theme
  try {
    localStorage.setItem('ringmain-theme', theme)
  } catch {
    // Not kept then; it holds until the page is closed.
  }
  showTheme()
})

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTheme)
byId('app').addEventListener('change', chooseApp)
byId('channel').addEventListener('change', chooseChannel)
onLoginNeeded(close)
showTheme()
openCharts()
openEndings()
open()
