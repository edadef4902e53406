// Starts the real binary and a real browser; stops them all.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

// What one wait may take; only a failing test gets near it.
export const PATIENCE_MS = 15_000

const TARGET = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL('../../target', import.meta.url))
const PICTURES = join(TARGET, 'console')

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
// Nothing that asks the network for anything but the page.
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
]

export function binary() {
  if (process.env.BINARY_UNDER_TEST) return process.env.BINARY_UNDER_TEST
  const built = ['release', 'debug'].map((profile) => join(TARGET, profile, 'ringmain')).find(existsSync)
  if (!built) throw new Error('no ringmain binary: build it, or name it in BINARY_UNDER_TEST')
  return built
}

// The real binary: in development mode, or with the configuration that is given.
export class Server {
  static async start(configuration) {
    const server = new Server()
    server.directory = mkdtempSync(join(tmpdir(), 'ringmain-console-'))
    await server.run(0, configuration)
    return server
  }

  // Listens on `port`; resolves once the banner has named the address.
  async run(port, configuration) {
    const args = ['serve', '--listen', `127.0.0.1:${port}`, '--data', join(this.directory, 'data')]
    if (configuration) {
      const file = join(this.directory, 'ringmain.toml')
      writeFileSync(file, configuration)
      args.push('--config', file)
    }
    // The variables of whoever runs the tests are none of the tests' settings.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('RINGMAIN_')),
    )
    const child = spawn(binary(), args, { cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'], env })
    this.child = child
    this.exit = once(child, 'exit')
    let text = ''
    const listening = new Promise((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (more) => {
          text += more
          const found = /127\.0\.0\.1:([1-9]\d*)\b/.exec(text)
          if (found) resolve(Number(found[1]))
        })
      }
    })
    const died = this.exit.then(([code, signal]) => {
      throw new Error(`ringmain ended before it listened (${code ?? signal}):\n${text}`)
    })
    died.catch(() => {})
    this.port = await Promise.race([listening, died])
    this.origin = `http://127.0.0.1:${this.port}`
  }

  async kill() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL')
    await this.exit
  }

  async close() {
    await this.kill()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export const openBrowser = () => chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS })

// A page at the console, and everything it complained about.
export async function openPage(browser, server, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    reducedMotion: 'reduce',
    ...options,
  })
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  page.complaints = []
  // A breach of the content security policy is told on the browser's console, too.
  page.on('console', (message) => message.type() === 'error' && page.complaints.push(message.text()))
  page.on('pageerror', (error) => page.complaints.push(String(error)))
  page.on('request', (request) => {
    const { protocol, host } = new URL(request.url())
    const isOurs = host === new URL(server.origin).host || protocol === 'blob:'
    if (!isOurs) page.complaints.push(`asked ${request.url()}`)
  })
  await page.goto(`${server.origin}/_/`)
  return page
}

// All panes listen.
export async function listening(page) {
  await page.waitForSelector('.pane')
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.pane')].every((pane) => pane.dataset.state === 'listening'),
  )
}

export async function picture(page, name, options = {}) {
  mkdirSync(PICTURES, { recursive: true })
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true, ...options })
}

// Prometheus' text format as a list of { name, labels, value }.
export function series(text) {
  return text
    .split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => {
      const [, name, , inside, value] = /^(\w+)(\{(.*)\})? (\S+)$/.exec(line)
      const labels = Object.fromEntries(
        [...(inside ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]),
      )
      return { name, labels, value: Number(value) }
    })
}

export const total = (all, name, where = {}) =>
  all
    .filter(
      (one) => one.name === name && Object.entries(where).every(([key, text]) => one.labels[key] === text),
    )
    .reduce((sum, { value }) => sum + value, 0)
