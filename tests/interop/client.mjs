// One scenario of a real Socket.IO client, by name; ends with 0 when everything held.
//
//   node --require ./resolve.cjs client.mjs <scenario> <url> '{"client": 4, …}'
//
// Every scenario is written with callbacks only, so that it is the same for socket.io-client 4.x and 2.x.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import https from 'node:https'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'

const [scenario, url, json = '{}'] = process.argv.slice(2)
const parameters = JSON.parse(json)
const io = await client(parameters.client ?? 4)
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')

async function client(version) {
  if (version === 2) return createRequire(import.meta.url)('socket.io-client-2')
  return (await import('socket.io-client')).io
}

function connecting(path = '/', options = {}) {
  return io(url + path, { forceNew: true, reconnection: false, transports: parameters.transports, ...options })
}

function connected(path, options) {
  const socket = connecting(path, options)
  return new Promise((resolve, reject) => {
    socket.on('connect', () => resolve(socket))
    socket.on('connect_error', error => reject(new Error(`connect_error: ${error.message}`, { cause: error })))
  })
}

// Emits and waits for the acknowledgement; a connection that ends in between is an error.
function ask(socket, event, ...data) {
  return new Promise((resolve, reject) => {
    const ended = reason => reject(new Error(`disconnected: ${reason}`))
    socket.on('disconnect', ended)
    socket.emit(event, ...data, answer => {
      socket.off('disconnect', ended)
      resolve(answer)
    })
  })
}

const next = (socket, event) => new Promise(resolve => socket.once(event, resolve))
const engine = socket => socket.io.engine
const digest = bytes => createHash('sha256').update(bytes).digest('hex')

const scenarios = {
  // Events, acknowledgements in both directions, order, over the transports asked for.
  async basics() {
    const socket = await connected()
    const data = { text: 'grüß Gott, 안녕', list: [1, null, true] }
    assert.deepEqual(await ask(socket, 'echo', data), data)

    socket.emit('say', 'hello')
    assert.equal(await next(socket, 'said'), 'hello')

    socket.on('question', (question, answer) => answer(question === 'how many?' ? 42 : 0))
    assert.equal(await ask(socket, 'ask me'), 42)

    const heard = []
    socket.on('said', n => heard.push(n))
    const wanted = Array.from({ length: 200 }, (_, n) => n)
    for (const n of wanted) socket.emit('say', n)
    await ask(socket, 'echo', 'the last')
    assert.deepEqual(heard, wanted)

    const { transport, protocol } = await ask(socket, 'how')
    assert.equal(protocol, parameters.client === 2 ? 3 : 4)
    if (parameters.transports) {
      assert.equal(transport, parameters.transports[0])
      assert.equal(engine(socket).transport.name, parameters.transports[0])
    }
    socket.close()
  },

  // Polling, then a WebSocket, with messages in flight all the while.
  async upgrade() {
    const socket = connecting('/', { transports: ['polling', 'websocket'] })
    const heard = []
    socket.on('said', n => heard.push(n))
    const upgraded = new Promise((resolve, reject) => {
      // On a busy machine a 2.x client hears of its namespace only after the upgrade.
      const watch = () => (engine(socket).transport.name === 'websocket' ? resolve() : engine(socket).once('upgrade', resolve))
      socket.on('connect', watch)
      socket.on('connect_error', reject)
    })
    await next(socket, 'connect')
    let sent = 0
    const talking = setInterval(() => socket.emit('say', sent++), 1)
    await upgraded
    const before = sent
    while (sent < before + 50) await sleep(1)
    clearInterval(talking)
    assert.deepEqual(await ask(socket, 'how').then(how => how.transport), 'websocket')
    assert.deepEqual(heard, Array.from({ length: sent }, (_, n) => n), 'lost or out of order over the upgrade')
    socket.close()
  },

  // Two namespaces on one connection, one of them with a condition.
  async namespaces() {
    const manager = { forceNew: false, query: { uuId: 'bd6bf4b7' }, withCredentials: true }
    const root = await connected('/', manager)
    const guarded = await connected('/catch', manager)
    assert.equal(engine(root), engine(guarded), 'one connection carries both')
    assert.equal(await ask(guarded, 'echo', 'here'), 'here')
    assert.equal(await ask(root, 'echo', 'there'), 'there')
    root.close()
    guarded.close()

    await assert.rejects(connected('/catch'), /a uuId is needed/)
    await assert.rejects(connected('/nowhere'), /Invalid namespace/)
  },

  // The client of the story, as its author wrote it.
  async story() {
    const socket = io(`${url}/catch`, {
      withCredentials: true,
      transports: ['websocket'],
      query: {
        uuId: crypto.randomUUID(),
      }
    });
    await next(socket, 'connect')
    assert.match(socket.id, /^[\w-]{20}$/)
    socket.close()
  },

  // Attachments of the given sizes there and back, alone and several in one packet.
  async binary() {
    const socket = await connected()
    for (const size of parameters.sizes) {
      const sent = randomBytes(size)
      const back = await ask(socket, 'echo', sent)
      assert.equal(digest(Buffer.from(back)), digest(sent), `${size} bytes`)
    }
    const two = { first: randomBytes(1000), nested: [randomBytes(3)] }
    const back = await ask(socket, 'echo', two)
    assert.equal(digest(Buffer.from(back.first)), digest(two.first))
    assert.equal(digest(Buffer.from(back.nested[0])), digest(two.nested[0]))
    socket.close()
  },

  // One text of so many bytes there and back.
  async text() {
    const socket = await connected()
    const sent = randomBytes(parameters.bytes / 2).toString('hex')
    assert.ok(await ask(socket, 'echo', sent) === sent)
    socket.close()
  },

  async deflate() {
    const socket = await connected('/', { transports: ['websocket'], perMessageDeflate: { threshold: 0 } })
    const sent = 'again and '.repeat(50_000)
    assert.ok(await ask(socket, 'echo', sent) === sent)
    const noise = randomBytes(300_000)
    assert.equal(digest(Buffer.from(await ask(socket, 'echo', noise))), digest(noise))
    assert.equal((await ask(socket, 'how')).deflate, true, 'permessage-deflate was negotiated')
    socket.close()
  },

  // Clients at once, every second one by polling.
  async many() {
    const sockets = await Promise.all(Array.from({ length: parameters.clients }, (_, at) =>
      connected('/', { transports: [at % 2 ? 'websocket' : 'polling'] })))
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(sockets.map((socket, at) => ask(socket, 'echo', `${round} of ${at}`)))
      assert.deepEqual(answers, sockets.map((_, at) => `${round} of ${at}`))
    }
    say('counted', { clients: sockets.length })
    for (const socket of sockets) socket.close()
  },

  // Clients that poll and then upgrade; how many ended how. Nothing is tried twice.
  async climb() {
    const outcomes = {}
    const sockets = []
    const climb = at => new Promise(resolve => {
      const socket = connecting('/', { transports: ['polling', 'websocket'], timeout: 60_000 })
      sockets.push(socket)
      socket.on('connect_error', () => resolve('refused'))
      socket.on('disconnect', () => resolve('lost'))
      engine(socket).on('upgradeError', () => resolve('not upgraded'))
      engine(socket).on('upgrade', () => ask(socket, 'echo', at).then(() => resolve('upgraded'), () => resolve('lost')))
    })
    // A few at a time, and all of them stay: what a busy machine is slow at shall not look like a session lost.
    let next = 0
    await Promise.all(Array.from({ length: 25 }, async () => {
      while (next < parameters.clients) {
        const outcome = await climb(next++)
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      }
    }))
    say('counted', { outcomes })
    for (const socket of sockets) socket.close()
  },

  // Says when it lost the server and when it is back; the test restarts the server in between.
  async reconnects() {
    const socket = connecting('/', { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 })
    await next(socket, 'connect')
    say('connected')
    await next(socket, 'disconnect')
    say('disconnected')
    await next(socket, 'connect')
    assert.equal(await ask(socket, 'echo', 'back'), 'back')
    say('reconnected')
    socket.close()
  },

  // A server without polling: its own 400 reaches a polling client, as in the story.
  async transport_unknown() {
    const socket = connecting('/', { transports: ['polling'] })
    // Read in the handler, as the story did: the request is wiped after it.
    const said = await new Promise(resolve => socket.on('connect_error', ({ message, description, context }) =>
      resolve({ message, description, responseText: context.responseText })))
    assert.deepEqual(said, {
      message: 'xhr poll error',
      description: 400,
      responseText: '{"code":0,"message":"Transport unknown"}',
    })
  },

  // Clients that poll, each posting after every one of the pauses: a round is an emit with its acknowledgement.
  async spaced_posts() {
    const sockets = await Promise.all(Array.from({ length: parameters.clients }, () => connected('/', { transports: ['polling'] })))
    let rounds = 0
    for (const pause of parameters.pauses_ms) {
      await Promise.all(sockets.map(async (socket, at) => {
        await sleep(pause + at)
        assert.equal(await ask(socket, 'echo', at), at)
        rounds++
      }))
    }
    say('counted', { rounds })
    for (const socket of sockets) socket.close()
  },

  // How long the server goes on with a request whose client went away.
  async cancelled() {
    const spans = []
    for (let round = 0; round < parameters.rounds; round++) {
      const held = https.get(`${url}/hold/${round}`)
      const aborted = once(held, 'error')
      await body(`/arrived/${round}`)
      const from = process.hrtime.bigint()
      held.destroy(new Error('gone'))
      await aborted
      spans.push(Number(BigInt(await body(`/closed/${round}`)) - from) / 1e6)
    }
    spans.sort((a, b) => a - b)
    say('measured', { rounds: spans.length, median_ms: spans[spans.length >> 1], max_ms: spans.at(-1) })
  },

  // So many bytes up, with Content-Length or in chunks; the server must have seen the same.
  async upload() {
    const chunk = randomBytes(1 << 20)
    const whole = createHash('sha256')
    const headers = parameters.chunked ? {} : { 'Content-Length': parameters.megabytes << 20 }
    const request = https.request(`${url}/upload`, { method: 'POST', headers })
    const answered = once(request, 'response')
    for (let n = 0; n < parameters.megabytes; n++) {
      whole.update(chunk)
      if (!request.write(chunk)) await once(request, 'drain')
    }
    request.end()
    const [response] = await answered
    const seen = JSON.parse(await text(response))
    assert.equal(response.statusCode, 200)
    assert.deepEqual(seen, { bytes: parameters.megabytes << 20, sha256: whole.digest('hex'), framing: parameters.chunked ? 'chunked' : 'length' })
  },

  // So many bytes down.
  async download() {
    const [response] = await once(https.get(`${url}/download/${parameters.megabytes << 20}`), 'response')
    let bytes = 0
    for await (const chunk of response) bytes += chunk.length
    assert.equal(bytes, parameters.megabytes << 20)
  },
}

async function body(path) {
  const [response] = await once(https.get(url + path), 'response')
  assert.equal(response.statusCode, 200, path)
  return text(response)
}

async function text(response) {
  let all = ''
  for await (const chunk of response.setEncoding('utf8')) all += chunk
  return all
}

assert.ok(Object.hasOwn(scenarios, scenario), `no scenario ${scenario}`)
await scenarios[scenario]()
say('passed', { scenario })
process.exit(0)
