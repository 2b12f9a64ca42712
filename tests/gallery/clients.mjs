// The real clients of the doctor's gallery: socket.io-client 4.x and 2.x with an exhibit's options, as many at once as are
// asked for. Reads one JSON object a line, says one a line.
//
//   {"id": 1, "url": "https://…", "version": 4, "options": {…}, "websocket": true, "hold": 1000}
//   {"event": "result", "id": 1, "ok": false, "why": "xhr poll error"}
//
// A client succeeds where it connects, gets its WebSocket (unless it shall only poll), and still has it after the hold.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { io as io4 } from 'socket.io-client'

const io2 = createRequire(import.meta.url)('socket.io-client-2')
const CONNECT_MS = 9000

const say = object => process.stdout.write(JSON.stringify(object) + '\n')

function visit({ id, url, version, options, websocket, hold }) {
  const socket = (version === 2 ? io2 : io4)(url, { forceNew: true, reconnection: false, timeout: CONNECT_MS, ...options })
  let over = false
  const end = (ok, why) => {
    if (over) return
    over = true
    clearTimeout(late)
    say({ event: 'result', id, ok, why: `${why}` })
    socket.close()
  }
  const late = setTimeout(() => end(false, 'timeout'), CONNECT_MS + hold)
  const transport = () => socket.io.engine?.transport?.name
  const arrived = () => {
    clearTimeout(late)
    setTimeout(() => end(true, transport()), hold + 50)
  }
  socket.on('connect_error', error => end(false, error.message ?? error))
  socket.on('error', error => end(false, error.message ?? error))
  socket.on('disconnect', reason => end(false, reason))
  socket.on('connect', () => {
    const engine = socket.io.engine
    if (!websocket || transport() === 'websocket') return arrived()
    engine.on('upgrade', arrived)
    setTimeout(() => transport() === 'websocket' || end(false, `it stays on ${transport()}`), 5000)
  })
}

// A damaged packet is an exception in the client: its visit ends by its time.
process.on('uncaughtException', () => {})

createInterface({ input: process.stdin }).on('line', line => visit(JSON.parse(line))).on('close', () => process.exit(0))
say({ event: 'ready' })
