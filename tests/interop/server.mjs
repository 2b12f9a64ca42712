// A real Socket.IO server with a few plain routes, for the interop tests.
//
//   node server.mjs '{"port": 0, "socketio": {"transports": ["websocket"]}}'
//
// Says what happens as one JSON object a line on stdout, first {"event":"listening","port":…}; ends when stdin does, so
// it cannot outlive its test.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Server } from 'socket.io'

const options = JSON.parse(process.argv[2] ?? '{}')
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')

// Moments in the life of `/hold/<id>`, in nanoseconds of the clock that all processes share.
const moments = new Map()
function moment(name) {
  if (!moments.has(name)) {
    const settled = {}
    settled.promise = new Promise(resolve => (settled.resolve = resolve))
    moments.set(name, settled)
  }
  return moments.get(name)
}
const now = () => process.hrtime.bigint().toString()

const routes = {
  // Never answers; its arrival and its end can be asked for.
  async hold(_request, response, id) {
    response.on('close', () => moment(`closed ${id}`).resolve(now()))
    moment(`arrived ${id}`).resolve(now())
  },
  async arrived(_request, response, id) {
    response.end(await moment(`arrived ${id}`).promise)
  },
  async closed(_request, response, id) {
    response.end(await moment(`closed ${id}`).promise)
  },
  // Reads a body of any size and tells its length and digest.
  async upload(request, response) {
    const digest = createHash('sha256')
    let bytes = 0
    for await (const chunk of request) {
      digest.update(chunk)
      bytes += chunk.length
    }
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ bytes, sha256: digest.digest('hex'), framing: request.headers['transfer-encoding'] ?? 'length' }))
  },
  // Sends as many bytes as asked.
  async download(_request, response, bytes) {
    const chunk = Buffer.alloc(64 * 1024, 'sanedge ')
    for (let left = Number(bytes); left > 0; left -= chunk.length) {
      if (!response.write(left < chunk.length ? chunk.subarray(0, left) : chunk)) await once(response, 'drain')
    }
    response.end()
  },
  // A page for the browser's test: Socket.IO's own client, told where to connect by its query.
  async page(_request, response) {
    response.setHeader('Content-Type', 'text/html')
    response.setHeader('Set-Cookie', 'page=recre; Domain=recre.store; Path=/; Secure; SameSite=Lax')
    response.end('<!doctype html><title>page</title><script src="/socket.io/socket.io.js"></script>')
  },
}

const http = createServer((request, response) => {
  const [, name, rest] = request.url.split('/')
  const route = Object.hasOwn(routes, name) ? routes[name] : undefined
  if (route) return void route(request, response, rest).catch(error => response.destroy(error))
  response.writeHead(404).end('no such route')
})

const io = new Server(http, { maxHttpBufferSize: 12e6, ...options.socketio })
io.engine.on('connection_error', error => say('connection_error', { code: error.code, message: error.message }))

function serve(namespace) {
  namespace.on('connection', socket => {
    const { query, headers } = socket.handshake
    say('connection', { namespace: namespace.name, uuId: query.uuId, cookie: headers.cookie, origin: headers.origin, for: headers['x-forwarded-for'], proto: headers['x-forwarded-proto'] })
    socket.on('echo', (...data) => {
      const answer = data.pop()
      answer(...data)
    })
    socket.on('say', data => socket.emit('said', data))
    socket.on('ask me', answer => socket.emit('question', 'how many?', count => answer(count)))
    socket.on('how', answer => answer({
      process: process.pid,
      transport: socket.conn.transport.name,
      protocol: socket.conn.protocol,
      deflate: Boolean(socket.conn.transport.socket?.extensions.includes('permessage-deflate')),
    }))
    socket.on('disconnect', reason => say('disconnect', { reason }))
  })
}
serve(io)
const guarded = io.of('/catch')
guarded.use((socket, next) => next(socket.handshake.query.uuId ? undefined : new Error('a uuId is needed')))
serve(guarded)

process.stdin.on('end', () => process.exit(0)).resume()
http.listen(options.port ?? 0, '127.0.0.1', () => say('listening', { port: http.address().port }))
