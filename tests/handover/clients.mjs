// The clients of tests/handover/run, in one or more processes:
//
//   node --require ./resolve.cjs clients.mjs '{"url": …, "app": …, "folder": …, "clients": 1000, "processes": 2, "interval": 2000, "poll": 0}'
//
// Reads commands from stdin, one a line, and answers each with one line. socket.io-client does everything by itself, also the
// reconnection.
//
//   open             connects all; what was negotiated with how many
//   mark, unmark     begin and end of what is measured
//   figures          since `mark`: disconnects lost duplicated reordered damaged silence_ms p50_ms p99_ms max_ms down_max_ms late
//   rekey            KeyUpdate (RFC 8446 §4.6.3) both ways, by the clients that have openssl between them and the edge: how many
//                    were sent, and how many came back
//   leave N          so many clients end their TCP connection, each at some moment of the next second
//   back SECONDS     waits until all are connected: how many are, and after how many ms the last one was
//   settle           stops, waits for what is in flight, and counts the whole time since the last one: messages disconnects lost
//                    duplicated reordered damaged opened closed codes, of which the app says how many were opened and closed; then
//                    begins at 0 again
import { fork, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { io } from 'socket.io-client'
import { Tracker, add, content, intact, now } from './messages.mjs'

const parameters = JSON.parse(process.argv[2])
const ca = join(parameters.folder, 'ca.pem')
const AT_ONCE = 10 // opened by each process
const UNCHANGED_FOR = 6_000 // then what has not come is lost
const AROUND = 300 // ms before and after a restart of which the messages count for it
const EXPECTED = [1001, 1006, 1012] // with which sessions end in this trial, if they do; others are worth a line
const SLOW_EVERY = 5_000, SLOW_FOR = 2_500

// Two of each, with and without resumption.
const suites = [
  { ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' },
  { ciphers: 'TLS_CHACHA20_POLY1305_SHA256', minVersion: 'TLSv1.3' },
  { ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' },
  { ciphers: 'ECDHE-ECDSA-CHACHA20-POLY1305', maxVersion: 'TLSv1.2' },
  { ciphers: 'TLS_AES_256_GCM_SHA384', minVersion: 'TLSv1.3' },
]
// Of 20 clients. Those with much to say are few: the machine is shared.
const kinds = ['text', 'binary', 'deflate', 'climb', 'text', 'binary', 'text', 'bulk', 'text', 'climb',
  'text', 'binary', 'deflate', 'text', 'text', 'binary', 'text', 'slow', 'text', 'text']

// The stdin and stdout of a process. A frame is one write: openssl takes the first byte of what it reads for a command, and a frame begins
// with none.
class Piped extends Duplex {
  constructor(child) {
    super()
    this.child = child
    child.stdout.on('data', chunk => this.push(chunk))
    child.stdout.on('end', () => this.push(null))
    child.once('close', () => setImmediate(() => this.destroy()))
  }

  _read() {} // little comes
  _write(chunk, _encoding, done) { this.child.stdin.write(chunk, () => done()) }
  _writev(chunks, done) { this._write(Buffer.concat(chunks.map(({ chunk }) => Buffer.from(chunk))), '', done) }
  _final(done) { this.child.stdin.end(done) }
  _destroy(error, done) {
    this.child.kill()
    done(error)
  }
}

// Node cannot ask for a KeyUpdate, `openssl s_client` can: a line `K` on its stdin. Each of these suites is that of one client.
const UPDATED_WITHIN = 10_000
class OverOpenssl extends https.Agent {
  constructor(suite) {
    super()
    this.suite = suite
    this.opened = this.asked = 0
  }

  createConnection({ host, port }) {
    this.asked = 0
    this.messages = join(parameters.folder, `${this.suite}.${++this.opened}`)
    const child = this.child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', host, '-CAfile', ca,
      '-verify_return_error', '-tls1_3', '-ciphersuites', this.suite, '-brief', '-msg', '-msgfile', this.messages], { stdio: ['pipe', 'pipe', 'ignore'] })
    child.stdin.on('error', () => {})
    return new Piped(child)
  }

  ask() {
    this.asked++
    this.child.stdin.write('K\n')
  }

  get answered() { return readFileSync(this.messages, 'utf8').match(/^<<< .*KeyUpdate/gm)?.length ?? 0 }
}
const updaters = ['TLS_AES_128_GCM_SHA256', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_256_GCM_SHA384']

class Client {
  constructor(number, agents) {
    // So that each suite meets each kind.
    const kind = this.kind = number < updaters.length ? 'openssl' : number < updaters.length + parameters.poll ? 'poll'
      : kinds[Math.floor(number / suites.length) % kinds.length]
    this.agent = kind === 'openssl' ? new OverOpenssl(updaters[number]) : agents[number % agents.length]
    this.name = `client-${number}`
    this.sent = 0
    this.waiting = new Map()
    this.heard = new Tracker()
    this.acknowledged = new Tracker()
    this.busy = kind === 'bulk' || kind === 'slow' // its own delays say nothing about the edge
    const transports = kind === 'poll' ? ['polling'] : kind === 'climb' ? ['polling', 'websocket'] : ['websocket']
    this.socket = io(parameters.url, {
      forceNew: true, transports, agent: this.agent, auth: { name: this.name, kind },
      perMessageDeflate: kind === 'deflate' && { threshold: 0 },
    })
    this.socket.on('disconnect', (reason, details) => {
      const code = details?.context?.code
      if (!EXPECTED.includes(code)) console.error(`       ${new Date().toISOString()} ${kind} ${this.name}: ${reason} ${code ?? ''} ${details?.description ?? ''}`)
      // One that does not read may miss the Close frame.
      add(counts.codes, { [kind === 'slow' ? kind : code ?? reason.replaceAll(' ', '-')]: 1 })
      // It climbs once. When all come back at once, some would not get a WebSocket in time.
      if (kind === 'climb') this.socket.io.opts.transports = ['websocket']
    })
    this.socket.on('m', (of, m, sent, data) => {
      if (of !== epoch) return void counts.stale++
      this.heard.take(m, intact(kind, m, data))
      if (!this.busy) arrived('down', sent)
    })
    setTimeout(() => setInterval(() => this.say(), parameters.interval), Math.random() * parameters.interval)
    if (kind === 'slow') setInterval(() => this.rest(), SLOW_EVERY)
  }

  // Once it is connected, and no longer polls if it shall not.
  async ready() {
    const { socket } = this
    while (!socket.connected || (this.kind !== 'poll' && this.transport.name !== 'websocket')) await sleep(20)
  }

  get transport() { return this.socket.io.engine.transport }

  say() {
    if (!talking || this.updates || !this.socket.connected) return
    const n = this.sent++, of = epoch, sent = now()
    this.waiting.set(n, sent)
    this.socket.emit('n', of, n, content(this.kind, n), back => {
      if (of !== epoch) return void counts.stale++
      this.waiting.delete(back)
      this.acknowledged.take(back)
      if (!this.busy) arrived('round', sent)
    })
  }

  // It reads nothing for a while.
  rest() {
    const { ws } = this.transport
    if (!ws || !talking) return
    ws.pause()
    setTimeout(() => ws.resume(), SLOW_FOR)
  }

  // The command of openssl must be the first in what it reads, and alone: nothing is said around it.
  async rekey() {
    this.updates = true
    await sleep(200)
    this.agent.ask()
    const until = now() + UPDATED_WITHIN
    do await sleep(200); while (this.agent.answered < this.agent.asked && now() < until)
    this.updates = false
    return { asked: this.agent.asked, answered: this.agent.answered }
  }

  leave() {
    setTimeout(() => this.transport.ws._socket.destroy(), Math.random() * 1000)
  }

  negotiated() {
    const { ws } = this.transport
    if (!ws || this.kind === 'openssl') return this.kind
    const words = [ws._socket.getProtocol(), ws._socket.getCipher().name]
    if (ws._socket.isSessionReused()) words.push('resumed')
    if (ws.extensions) words.push('deflate')
    return words.join('/')
  }
}

// --- one process with its share of the clients ----------------------------------------------------------------------------------
const clients = []
const counts = { codes: {}, stale: 0 }
let epoch = 0, talking = false
const measured = { samples: { round: [], down: [] }, last: 0, silence: 0, on: false, codes: {} }

function arrived(kind, sent) {
  const at = now()
  measured.samples[kind].push([sent, at - sent])
  if (measured.on) measured.silence = Math.max(measured.silence, at - measured.last)
  measured.last = at
}

const share = {
  async open({ numbers }) {
    const trusted = { ca: readFileSync(ca) }
    const agents = [100, 0].flatMap(maxCachedSessions => suites.map(suite => new https.Agent({ ...trusted, maxCachedSessions, ...suite })))
    const negotiated = {}
    for (let at = 0; at < numbers.length; at += AT_ONCE) {
      const batch = numbers.slice(at, at + AT_ONCE).map(number => new Client(number, agents))
      clients.push(...batch)
      await Promise.all(batch.map(client => client.ready()))
      for (const client of batch) add(negotiated, { [client.negotiated()]: 1 })
    }
    talking = true
    return negotiated
  },
  mark() {
    measured.from = now()
    measured.last = measured.from
    measured.silence = 0
    measured.on = true
    measured.codes = { ...counts.codes }
    measured.samples = { round: [], down: [] }
  },
  unmark() {
    measured.to = now()
    measured.silence = Math.max(measured.silence, measured.to - measured.last)
    measured.on = false
  },
  figures() {
    const within = ([sent]) => sent >= measured.from - AROUND && sent <= measured.to + AROUND
    const delays = kind => measured.samples[kind].filter(within).map(([, delay]) => delay)
    const late = clients.flatMap(client => client.busy ? [] : Array.from(client.waiting.values())).filter(sent => sent < measured.to).length
    return {
      round: delays('round'), down: delays('down'), late, silence: measured.silence,
      disconnects: total(counts.codes) - total(measured.codes),
      faults: clients.reduce((sum, client) => add(add(sum, client.heard.faults()), client.acknowledged.faults()), {}),
    }
  },
  rekey: async () =>
    (await Promise.all(clients.filter(client => client.kind === 'openssl').map(client => client.rekey()))).reduce(add, {}),
  leave({ count }) {
    for (const client of clients.filter(({ kind }) => kind === 'text' || kind === 'binary').slice(0, count)) client.leave()
  },
  connected: () => clients.filter(client => client.socket.connected).length,
  stop() { talking = false },
  // What each has sent, how many answers are still due, and how many of the app's messages it has had.
  sent: () => ({
    sent: Object.fromEntries(clients.map(client => [client.name, client.sent])),
    waiting: clients.reduce((sum, client) => sum + client.waiting.size, 0),
    received: clients.reduce((sum, client) => sum + client.heard.received, 0),
  }),
  faults: ({ sent }) => ({
    ...counts,
    faults: clients.reduce((sum, client) =>
      add(add(sum, client.heard.faults(sent[client.name])), client.acknowledged.faults(client.sent)), {}),
  }),
  begin({ next }) {
    epoch = next
    counts.codes = {}
    for (const client of clients) {
      client.sent = 0
      client.waiting.clear()
      client.heard.reset()
      client.acknowledged.reset()
    }
    talking = true
  },
}
const total = codes => Object.values(codes).reduce((sum, count) => sum + count, 0)

// --- all processes --------------------------------------------------------------------------------------------------------------
function start() {
  const child = fork(fileURLToPath(import.meta.url), [process.argv[2]], { env: { ...process.env, HANDOVER_SHARE: '1' } })
  let settle
  child.on('message', answer => settle(answer))
  child.on('exit', () => process.exit(1))
  return (command, more = {}) => new Promise(resolve => {
    settle = resolve
    child.send({ command, ...more })
  })
}

async function ask(command, body) {
  const response = await fetch(`${parameters.app}/control/${command}`, { method: 'POST', body: body && JSON.stringify(body) })
  return response.json()
}

function trial() {
  const processes = Array.from({ length: parameters.processes }, start)
  const all = (command, more) => Promise.all(processes.map(process => process(command, more)))
  const merged = figures => figures.reduce((sum, more) => add(sum, more), {})
  const text = codes => Object.entries(codes).map(([code, count]) => `${code}:${count}`).join(',') || '-'
  const inOrder = ({ lost = 0, duplicated = 0, reordered = 0, damaged = 0 }) => `${lost} ${duplicated} ${reordered} ${damaged}`
  const tenths = ms => ms === undefined ? '-' : ms.toFixed(1)
  let next = 0, before = { opened: 0, closed: 0 }
  return {
    async open() {
      const numbers = Array.from({ length: parameters.clients }, (_, number) => number)
      const shares = processes.map((_, at) => numbers.filter(number => number % processes.length === at))
      const negotiated = merged(await Promise.all(processes.map((process, at) => process('open', { numbers: shares[at] }))))
      await ask('start')
      return Object.entries(negotiated).sort().map(([what, count]) => `${count}*${what}`).join(' ')
    },
    async mark() { return void await all('mark') },
    async unmark() { return void await all('unmark') },
    async figures() {
      const figures = await all('figures')
      const app = await ask('figures')
      const round = figures.flatMap(figure => figure.round).sort((a, b) => a - b)
      const down = figures.flatMap(figure => figure.down)
      const sum = name => figures.reduce((sum, figure) => sum + figure[name], 0)
      const faults = merged([...figures.map(figure => figure.faults), app.faults])
      return `${sum('disconnects')} ${inOrder(faults)} ${tenths(Math.max(...figures.map(figure => figure.silence)))} ` +
        `${tenths(round[round.length >> 1])} ${tenths(round[Math.floor(round.length * 0.99)])} ${tenths(round.at(-1))} ` +
        `${tenths(down.reduce((most, delay) => Math.max(most, delay), 0))} ${sum('late')}`
    },
    async rekey() {
      const { asked, answered } = merged(await all('rekey'))
      return `${asked} ${answered}`
    },
    async leave(count) { return void await processes[0]('leave', { count: Number(count) }) },
    async back(seconds) {
      const from = now()
      let connected
      do {
        await sleep(50)
        connected = (await all('connected')).reduce((sum, count) => sum + count)
      } while (connected < parameters.clients && now() < from + seconds * 1000)
      return `${connected} ${(now() - from).toFixed(0)}`
    },
    async settle() {
      await Promise.all([all('stop'), ask('stop')])
      let sent, waiting, last, since = now()
      do {
        await sleep(200)
        sent = await all('sent')
        const app = await ask('figures')
        waiting = total(app.sent) + sent.reduce((sum, { waiting, received }) => sum + waiting - received, 0)
        if (waiting !== last) since = now()
        last = waiting
      } while (waiting > 0 && now() < since + UNCHANGED_FOR)
      const theirs = await ask('figures', Object.assign({}, ...sent.map(({ sent }) => sent)))
      const ours = await all('faults', { sent: theirs.sent })
      // Each of the clients' has an acknowledgement, which is a message as well.
      const messages = total(theirs.sent) + 2 * sent.reduce((sum, { sent }) => sum + total(sent), 0)
      const codes = merged(ours.map(({ codes }) => codes))
      const faults = merged([...ours.map(({ faults }) => faults), theirs.faults])
      const opened = theirs.connections - before.opened, closed = total(theirs.reasons) - before.closed
      before = { opened: theirs.connections, closed: total(theirs.reasons) }
      next++
      await ask('begin', next)
      await all('begin', { next })
      await ask('start')
      return `${messages} ${total(codes)} ${inOrder(faults)} ${opened} ${closed} ${text(codes)}`
    },
  }
}

if (process.env.HANDOVER_SHARE) {
  process.on('message', async ({ command, ...more }) => process.send(await share[command](more) ?? {}))
} else {
  const commands = trial()
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(' ')
    console.log(await commands[command](...words) ?? 'done')
  }
  process.exit(0)
}
