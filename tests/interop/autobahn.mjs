// The `ws` ends of tests/it/autobahn.rs.
//
//   node autobahn.mjs echo                          an echo server with permessage-deflate; says its port
//   node autobahn.mjs compressed '["ws:…","wss:…"]'   groups 12 and 13 of the Autobahn suite straight and through
//
// Says what happens as one JSON object a line on stdout; the server ends when stdin does.
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { WebSocket, WebSocketServer } from 'ws'

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')

// Whatever the size is: else small messages would never be compressed.
const always = { threshold: 0 }

function echo() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: always })
  server.on('connection', socket => {
    socket.on('message', (data, binary) => socket.send(data, { binary }))
    socket.on('error', () => {}) // it closes by itself
  })
  server.on('listening', () => say('listening', { port: server.address().port }))
  process.stdin.resume().on('end', () => process.exit(0))
}

// Bytes of a message, messages, bytes of a fragment (0: whole). The suite sends 1000 of each.
const SIZES = [
  [16, 20, 0], [64, 20, 0], [256, 20, 0], [1024, 20, 0], [4096, 10, 0], [8192, 10, 0], [16384, 5, 0], [32768, 3, 0],
  [65536, 2, 0], [131072, 2, 0], [8192, 3, 256], [16384, 2, 256], [32768, 1, 256], [65536, 1, 256], [131072, 1, 256],
  [131072, 1, 1024], [131072, 1, 4096], [131072, 2, 32768]
]

const repeated = piece => Buffer.from(Array.from({ length: 6000 }, (_, at) => piece(at)).join('').slice(0, 140000))
// In place of the suite's files: JSON, a bitmap, a German book, HTML, and a PDF, which is compressed already.
const DATA = [
  { binary: false, bytes: repeated(at => `{"id":${at},"name":"user ${(at * 7919) % 1000}","tags":["a","b"]},\n`) },
  { binary: true, bytes: Buffer.from(Array.from({ length: 140000 }, (_, at) => (at % 512 >> 2) ^ (at >> 11))) },
  { binary: true, bytes: repeated(at => `Habe nun, ach! Philosophie, Juristerei und Medizin, ${at} durchaus studiert, mit heißem Bemühn.\n`) },
  { binary: true, bytes: repeated(at => `<tr class="row"><td>${at}</td><td><a href="/x/${at}">x</a></td></tr>\n`) },
  { binary: true, bytes: randomBytes(140000) }
]

const PARAMETERS = [
  {},
  { serverNoContextTakeover: true },
  { serverMaxWindowBits: 9 },
  { serverMaxWindowBits: 15 },
  { serverNoContextTakeover: true, serverMaxWindowBits: 9 },
  { serverNoContextTakeover: true, serverMaxWindowBits: 15 },
  { serverNoContextTakeover: true, clientNoContextTakeover: true, clientMaxWindowBits: 10 }
]

// A message in frames of `fragment` bytes, all of them compressed together as RFC 7692 has it.
function send(socket, bytes, binary, fragment) {
  const step = fragment || bytes.length
  for (let at = 0; at < bytes.length; at += step) {
    socket.send(bytes.subarray(at, at + step), { binary, fin: at + step >= bytes.length })
  }
}

async function run(url, name, { binary, bytes }, parameters) {
  const socket = new WebSocket(url, { perMessageDeflate: { ...always, ...parameters } })
  await once(socket, 'open')
  const [raw, before] = [socket._socket, socket._socket.bytesRead]
  let payload = 0
  for (const [size, count, fragment] of SIZES) {
    for (let n = 0; n < count; n++) {
      const from = (n * size) % (bytes.length - size)
      const message = bytes.subarray(from, from + size)
      send(socket, message, binary, fragment)
      const [back, isBinary] = await once(socket, 'message')
      if (isBinary !== binary || !message.equals(back)) throw new Error(`${name}, ${url}: message ${n} of ${size} differs`)
      payload += size
    }
  }
  const wire = raw.bytesRead - before
  socket.close(1000)
  const [code] = await once(socket, 'close')
  if (code !== 1000) throw new Error(`${name}, ${url}: closed with ${code}`)
  return { extensions: socket.extensions, payload, wire }
}

async function compressed(urls) {
  const rows = [
    ...DATA.map((data, at) => [`12.${at + 1}`, data, {}]),
    ...PARAMETERS.map((parameters, at) => [`13.${at + 1}`, DATA[0], parameters])
  ]
  let smaller = 0
  for (const [name, data, parameters] of rows) {
    const [direct, through] = await Promise.all(urls.map(url => run(url, name, data, parameters)))
    if (!through.extensions || String(direct.extensions) !== String(through.extensions)) {
      throw new Error(`${name}: ${JSON.stringify(direct.extensions)} straight, ${JSON.stringify(through.extensions)} through`)
    }
    smaller += direct.wire < direct.payload / 2
  }
  say('done', { cases: rows.length * SIZES.length, compressed: smaller })
}

const [role, urls] = process.argv.slice(2)
if (role === 'echo') echo()
else await compressed(JSON.parse(urls))
