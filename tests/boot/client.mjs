// A real Socket.IO client against the emulated board: node --require ../interop/resolve.cjs client.mjs https://host:port [origin]
import { io } from 'socket.io-client'

const [url, origin] = process.argv.slice(2)
const extraHeaders = origin ? { Origin: origin } : {}
const socket = io(url, { transports: ['websocket'], reconnection: false, timeout: 120000, extraHeaders })
const late = setTimeout(() => fail('no answer within 120 s'), 120000)
function fail(why) {
  console.error(why)
  process.exit(1)
}
socket.on('connect_error', error => fail(`connect_error: ${error.message} ${error.description ?? ''}`))
socket.on('connect', () => {
  const from = performance.now()
  socket.emit('echo', 'ahoy', (data, proto, arch) => {
    if (data !== 'ahoy' || proto !== 'https') fail(`expected ahoy over https, found ${data} over ${proto}`)
    console.log(`${(performance.now() - from).toFixed(0)} ms, app on ${arch}`)
    clearTimeout(late)
    socket.close()
  })
})
