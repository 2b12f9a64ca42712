// The app of tests/handover/run: node app.mjs PORT INTERVAL_MS
//
// Takes the numbered messages of every client, acknowledges them, and sends numbered messages of its own. It knows a client by the name
// in its handshake, so numbers go on after a reconnection. Its figures are at /control, which only the trial asks.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { Tracker, add, content, intact, now } from './messages.mjs'

const [port, interval] = process.argv.slice(2).map(Number)
const clients = new Map()
let epoch = 0, talking = false, connections = 0, stale = 0
const reasons = {}

class Client {
  constructor(kind) {
    this.kind = kind
    this.sent = 0
    this.heard = new Tracker()
    setTimeout(() => setInterval(() => this.say(), interval), Math.random() * interval)
  }

  say() {
    if (!talking || !this.socket?.connected) return
    const m = this.sent++
    this.socket.emit('m', epoch, m, now(), content(this.kind, m))
  }

  serve(socket) {
    this.socket = socket
    socket.on('n', (of, n, data, answer) => {
      if (of !== epoch) return void stale++
      this.heard.take(n, intact(this.kind, n, data))
      answer(n)
    })
  }
}

const control = {
  start: () => { talking = true },
  stop: () => { talking = false },
  // Of each client: what it was sent, and the faults of what it has sent so far, or of `sent` where the trial knows that.
  figures: sent => ({
    connections, stale, reasons,
    sent: Object.fromEntries(Array.from(clients, ([name, client]) => [name, client.sent])),
    faults: Array.from(clients).reduce((sum, [name, client]) => add(sum, client.heard.faults(sent?.[name])), {}),
  }),
  // Numbers begin at 0 again. A message of an older epoch that still comes is stale.
  begin: next => {
    epoch = next
    for (const client of clients.values()) {
      client.sent = 0
      client.heard.reset()
    }
  },
}

const http = createServer(async (request, response) => {
  const [, where, command] = request.url.split('/')
  if (where !== 'control' || !Object.hasOwn(control, command)) return void response.writeHead(404).end()
  let body = ''
  for await (const chunk of request.setEncoding('utf8')) body += chunk
  response.end(JSON.stringify(control[command](body ? JSON.parse(body) : undefined) ?? {}))
})
const io = new Server(http, { perMessageDeflate: { threshold: 0 }, maxHttpBufferSize: 4e6 })
io.on('connection', socket => {
  const { name, kind } = socket.handshake.auth
  connections++
  if (!clients.has(name)) clients.set(name, new Client(kind))
  clients.get(name).serve(socket)
  socket.on('disconnect', reason => add(reasons, { [reason]: 1 }))
})
http.listen(port, '127.0.0.1', () => console.log('listening'))
