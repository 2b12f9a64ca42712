// Many real clients through a restart of the edge: says when all are connected, and how it went once all are back.
//
//   node --require ./resolve.cjs restart.mjs <url> <clients>
//
// Nobody tells them to reconnect: socket.io-client does, as it comes. Moments are nanoseconds of the monotonic clock.
import { io } from 'socket.io-client'

const [url, count] = process.argv.slice(2)
const clients = Number(count)
const AT_ONCE = 50 // so that opening them is no test of its own
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')
const now = () => Number(process.hrtime.bigint())

const codes = {}
const back = []

function open() {
  const socket = io(url, { forceNew: true, transports: ['websocket'] })
  socket.on('disconnect', (reason, details) => {
    const code = details?.context?.code ?? reason
    codes[code] = (codes[code] ?? 0) + 1
  })
  return new Promise(resolve => socket.once('connect', () => resolve(socket)))
}

const sockets = []
while (sockets.length < clients) {
  const batch = Math.min(AT_ONCE, clients - sockets.length)
  sockets.push(...(await Promise.all(Array.from({ length: batch }, open))))
}
const returned = sockets.map(socket => new Promise(resolve => {
  socket.once('connect', () => socket.emit('echo', 'back', () => resolve(back.push(now()))))
}))
say('connected', { clients: sockets.length })
await Promise.all(returned)

back.sort((a, b) => a - b)
say('back', {
  codes,
  first_back_ns: back[0],
  median_back_ns: back[back.length >> 1],
  last_back_ns: back.at(-1),
})
process.exit(0)
