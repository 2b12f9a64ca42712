// The apps of the doctor's gallery: real Socket.IO servers of 4.x and 2.x with one fault each, and bare servers that do
// what a broken one does. Ports are those of a network namespace of its own.
//
//   node apps.mjs '{"key": "…", "chain": "…", "future": {"key": "…", "chain": "…"}}'
//
// Says {"event":"listening"} when all of them listen; ends when stdin does.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { createSecureServer, createServer as createHttp2Server } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import { connect, createServer as createTcpServer } from 'node:net'
import { gzipSync } from 'node:zlib'
import { Server } from 'socket.io'
import { WebSocketServer } from 'ws'
import socketio2 from 'socket.io-2'

const options = JSON.parse(process.argv[2])
const tls = files => ({ key: readFileSync(files.key), cert: readFileSync(files.chain) })
const waiting = []
const listen = (server, port, host = '127.0.0.1') => {
  waiting.push(new Promise(done => server.listen(port, host, done)))
  return server
}
const notFound = (request, response) => response.writeHead(404).end(`Cannot ${request.method} ${request.url}`)
const guard = io => io.of('/catch').use((socket, next) => next(socket.handshake.query.uuId ? undefined : new Error('a uuId is needed')))

// Socket.IO 4.x on a port, with these options.
function four(port, more = {}, server = createServer(notFound), host) {
  const io = new Server(listen(server, port, host), more)
  guard(io)
  return io
}

// A bare WebSocket server on the same HTTP server.
function beside(io, options) {
  const server = io.httpServer
  new WebSocketServer(options.noServer ? options : { server, ...options })
}

function crashing() {
  const server = createServer(notFound)
  server.on('upgrade', (_, socket) => { server.close(); socket.destroy() })
  return server
}

function aging(session) {
  let pongs = 0
  session.on('heartbeat', () => { if (++pongs === 2) session.transport.socket?.terminate() })
}

four(4004) // nothing wrong
four(4005) // another process of it
const two = socketio2(listen(createServer(notFound), 4002))
guard(two)
four(4010, { transports: ['websocket'] })
four(4011, { transports: ['polling'] })
four(4012, { allowRequest: (_, decide) => decide('no cookie, no game', false) })
four(4013, { path: '/game/socket.io/' })
four(4014, { pingInterval: 90000 })
four(4015, { cors: { origin: '*', credentials: true } })
four(4016, { cors: { origin: 'https://other.recre.store', credentials: true } })
four(4017, { cors: { origin: true, credentials: true } })
four(4018).of('/slow').use(() => {})
four(4021, { cors: { origin: true, credentials: true, allowedHeaders: ['x-game'] } })
four(4019, { path: '/api/socket.io/' })
four(4022, {}, createTlsServer(tls(options.future), notFound)) // TLS where an edge speaks plain HTTP
four(4050, { perMessageDeflate: { threshold: 0 } }) // compresses whatever it sends
beside(four(4070), { path: '/live' }) // each of two answers an upgrade
beside(four(4071), { noServer: true })
four(4072, {}, crashing()) // ends when it is asked for a WebSocket
four(4073, { pingInterval: 300, pingTimeout: 20000 }).engine.on('connection', aging) // ends WebSockets of a certain age
four(4074, { pingInterval: 300, pingTimeout: 20000 })
four(4052, {}, createServer()) // nothing else is attached: other paths hang
listen(createHttp2Server(), 4053)
listen(createSecureServer({ ...tls(options), allowHTTP1: false }), 4055)

const ending = createServer(notFound)
four(4078, {}, ending)
ending.on('upgrade', (_, socket) => socket.end()) // as a hot reload that ends sockets which are not its own

// Filters in front of the good app that know no WebSockets: what comes after the handshake is changed, or held back.
function filter(port, { down, up }) {
  listen(createTcpServer(client => client.once('data', head => {
    const server = connect(4004, '127.0.0.1', () => server.write(head))
    const upgrades = /^upgrade: websocket/im.test(head)
    let handshake = upgrades && down
    server.on('data', data => {
      const end = handshake ? data.indexOf('\r\n\r\n') + 4 : 0
      handshake = false
      client.write(data.subarray(0, end))
      const behind = data.subarray(end)
      client.write(upgrades && down ? down(behind) : behind)
    })
    client.on('data', data => { if (!upgrades || !up) server.write(data) })
    for (const [end, other] of [[client, server], [server, client]]) end.on('error', () => {}).on('close', () => other.destroy())
  })), port)
}
filter(4079, { down: data => data.map(byte => byte ^ 0x37) })
filter(4080, { up: 'held back' })
filter(4081, {})
listen(createServer((request, response) => response.writeHead(400).end('400: Bad Request')), 4082) // trusts no proxy
listen(createServer((_, response) => response.writeHead(200, { 'Content-Length': 200 }).write('0{"sid":"x"', () => response.destroy())), 4085) // cuts answers short
listen(createServer((_, response) => response.writeHead(200, { 'Content-Encoding': 'gzip' }).end(gzipSync('0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'))), 4086) // asked or not
listen(createTcpServer(socket => socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 2\r\n\r\nok'))), 4087)

// A server that is an hour behind, and one that knows the day on which its certificate will be good.
const dated = (date, server) => server.prependListener('request', (_, response) => response.setHeader('Date', date.toUTCString()))
const slow = createServer(notFound)
four(4020, {}, slow)
dated(new Date(Date.now() - 3600e3), slow)
const future = createTlsServer(tls(options.future), notFound)
four(443, {}, future, options.future.address)
dated(new Date(options.future.date), future)

// HTTP/2 and nothing else.
listen(createSecureServer({ ...tls(options), allowHTTP1: false, ALPNProtocols: ['h2'] }), 443, options.h2)

// Bare servers.
const page = '<!doctype html><title>my app</title><div id=app></div>'
listen(createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(page)), 4030)
listen(createServer(() => {}), 4031) // takes requests and never answers
listen(createTcpServer(socket => socket.on('error', () => {}).once('data', () => socket.destroy())), 4032)
listen(createTcpServer(socket => socket.on('error', () => {}).once('data', () => socket.end('\x20\x02\x00\x00 MQTT, not HTTP\r\n'))), 4033)
listen(createServer((request, response) => response.writeHead(301, { Location: `https://${request.headers.host}${request.url}` }).end()), 4034)
listen(createServer((_, response) => response.writeHead(500).end('TypeError: undefined is not a function')), 4035)
listen(createServer((_, response) => response.end('0{"sid":"x","upgrades"<script src=/inject.js></script>')), 4036)
listen(createServer((request, response) => response.writeHead(302, { Location: `https://elsewhere.recre.store/login?sent=${request.headers.cookie ?? 'nothing'}` }).end()), 4037)
// Other apps that have the port: one with an answer of its own for every path, one with bare WebSockets (the package `ws`).
listen(createServer((_, response) => response.setHeader('Content-Type', 'application/json').end('{"ok":true}')), 4048)
const bare = createServer((_, response) => response.writeHead(426, { 'Content-Type': 'text/plain' }).end('Upgrade Required'))
bare.on('upgrade', (request, socket) => {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
  socket.on('error', () => {})
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
  socket.write(Buffer.concat([Buffer.from([0x81, 5]), Buffer.from('hello')]))
})
listen(bare, 4049)

// Polling that works, with a WebSocket that does not: the fault is what `onUpgrade` does.
function half(port, onUpgrade, open = { pingInterval: 25000, pingTimeout: 20000 }) {
  let sessions = 0
  const packet = () => '0' + JSON.stringify({ sid: `half-${port}-${sessions++}`, upgrades: ['websocket'], maxPayload: 1e6, ...open })
  // Each open packet has the real client try another WebSocket, so a waiting poll is not answered at once: hundreds of
  // connections in a second use up those of nginx.
  const server = createServer((request, response) => {
    if (request.method === 'POST') return response.end('ok')
    setTimeout(() => response.end(packet()), request.url.includes('sid=') ? 400 : 0)
  })
  server.on('upgrade', (request, socket) => {
    socket.on('error', () => {})
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
    const switching = key => socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`)
    const text = data => socket.write(Buffer.concat([Buffer.from(data.length < 126 ? [0x81, data.length] : [0x81, 126, data.length >> 8, data.length & 255]), Buffer.from(data)]))
    onUpgrade({ socket, accept, switching, text, packet, request })
  })
  listen(server, port)
}
half(4040, ({ switching }) => switching('c29tZWJvZHkgZWxzZSdzIGtleQ=='))
half(4041, ({ switching, accept }) => switching(accept))
half(4042, ({ switching, accept, socket }) => { switching(accept); socket.end(Buffer.from([0x88, 2, 0x03, 0xf3])) })
half(4043, ({ socket }) => socket.end('HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n'))
half(4044, ({ switching, accept, text, packet }) => { switching(accept); text(packet()) }, { upgrades: [], pingInterval: 400, pingTimeout: 400 })
// As IIS (ARR): compression is agreed on, and the first message ends the connection.
half(4056, ({ switching, accept, text, packet, request, socket }) => { switching(accept); if (request.headers['sec-websocket-extensions']) socket.end(); else text(packet()) })
half(4059, () => {})
half(4084, ({ socket }) => socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'))
half(4076, ({ socket }) => socket.end('HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\nContent-Length: 12\r\n\r\nBad Request\n'))
half(4077, ({ socket }) => socket.end('HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n'))
half(4057, ({ socket }) => socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n\r\n')) // as Passenger in Apache
const gunicorn = '<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n    <h1><p>Internal Server Error</p></h1>\n  </body>\n</html>\n'
half(4058, ({ socket }) => socket.end(`HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: ${gunicorn.length}\r\n\r\n${gunicorn}`), { pingTimeout: 20000, pingInterval: 25000 })
half(4045, ({ switching, accept, text, packet, request, socket }) => { if (request.url.includes('sid=')) socket.destroy(); else { switching(accept); text(packet()) } })

// A proxy in front of the good app that holds the answers of waiting polls back.
const held = createServer((request, response) => {
  const onward = httpRequest({ port: 4004, path: request.url, method: request.method, headers: request.headers }, answer => {
    const pass = () => answer.pipe(response.writeHead(answer.statusCode, answer.headers))
    if (request.method === 'GET' && request.url.includes('sid=')) setTimeout(pass, 60e3).unref()
    else pass()
  })
  onward.on('error', () => response.destroy())
  request.pipe(onward)
})
held.on('upgrade', (request, socket) => {
  const onward = connect(4004, '127.0.0.1', () => {
    const fields = request.rawHeaders.map((word, at) => at % 2 ? word + '\r\n' : word + ': ').join('')
    onward.write(`GET ${request.url} HTTP/1.1\r\n${fields}\r\n`)
    onward.pipe(socket).pipe(onward)
  })
  for (const end of [onward, socket]) end.on('error', () => {})
})
listen(held, 4046)

// A good server that ends a session on a noop and answers only after a poll, as python-engineio does.
const wary = createServer((request, response) => {
  if (request.method !== 'POST') return response.end(`0{"sid":"${Math.random()}","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`)
  request.on('data', body => { if (`${body}` !== '6') response.end('OK') })
})
listen(wary, 4047)

// What is in front of the app or in its place, with the fields of its maker.
function says(port, status, fields, body = '') {
  const server = createServer((_, response) => response.writeHead(status, { 'Content-Length': body.length, ...fields }).end(body))
  server.on('upgrade', (_, socket) => socket.on('error', () => {}).end(`HTTP/1.1 ${status} no\r\n${Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join('')}Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`))
  listen(server, port)
}
says(4091, 403, { Server: 'AmazonS3' }, '<Error><Code>AccessDenied</Code></Error>')
says(4092, 404, { server: 'istio-envoy' })
says(4093, 404, { 'apigw-requestid': 'x' }, '{"message":"Not Found"}')
says(4094, 404, { Server: 'cloudflare' })
says(4095, 400, { Server: 'Microsoft-HTTPAPI/2.0' }, '<h2>Bad Request - Invalid Hostname</h2>')
four(4096, { allowEIO3: true })
four(4124, { path: '/socket.io', addTrailingSlash: false })
four(4098).on('connection', socket => socket.disconnect())
four(4099).on('connection', socket => socket.conn.close())
four(4117).use((socket, next) => next(socket.handshake.auth.token === 'a "secret"' ? undefined : new Error('who are you?')))
four(4119).use((_, next) => setTimeout(next, 4500))
four(4120, { cors: { origin: 'https://page.recre.store/', credentials: true } })
four(4121, { cors: { origin: 'https://page.recre.store, https://other.recre.store', credentials: true } })
four(4122, { cors: { origin: 'https://page.recre.store' } })
four(4123).on('connection', socket => socket.emit('state', 'x'.repeat(2e6)))

// A proxy in front of the good app that changes the heads of its answers: the first one of each connection.
function heads(port, change) {
  listen(createTcpServer(client => client.once('data', request => {
    const server = connect(4004, '127.0.0.1', () => server.write(request))
    let head = Buffer.alloc(0)
    server.on('data', data => {
      if (!head) return client.write(data)
      head = Buffer.concat([head, data])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      client.write(change(`${head.subarray(0, end + 2)}`, `${request}`))
      client.write(change.body ? change.body(head.subarray(end + 4), `${request}`) : head.subarray(end + 4))
      head = undefined
    })
    client.on('data', data => server.write(data))
    for (const [end, other] of [[client, server], [server, client]]) end.on('error', () => {}).on('close', () => other.destroy())
  })), port)
}
const long = kibibytes => 'X-Policy: ' + 'x'.repeat(1000) + '\r\n' + ('X-More: ' + 'y'.repeat(1024) + '\r\n').repeat(kibibytes - 1)
heads(4112, head => head.replace(/(content-length: \d+\r\n)/i, '$1$1') + '\r\n')
heads(4113, head => head + long(17) + '\r\n')
heads(4114, head => head.replaceAll('\r\n', '\n') + '\n')
heads(4115, head => head + long(14) + '\r\n')
heads(4116, head => head.replace(/(sec-websocket-accept: .*\r\n)/i, '$1$1') + '\r\n')
const emptied = (head, request) => (request.startsWith('POST') ? head.replace(/content-length: \d+/i, 'Content-Length: 0') : head) + '\r\n'
emptied.body = (body, request) => request.startsWith('POST') ? '' : body
heads(4118, emptied)

process.stdin.on('end', () => process.exit(0)).resume()
await Promise.all(waiting)
process.stdout.write('{"event":"listening"}\n')
