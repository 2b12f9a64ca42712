// Handshakes of Node's OpenSSL with one server, each with groups of its own; run by a node whose OpenSSL is 3.5 or later.
//
//   node groups.mjs '{"port": 443, "host": "recre.store", "ca": "ca.pem", "clients": [{"ecdhCurve": "X25519"}]}'
import { readFileSync } from 'node:fs'
import tls from 'node:tls'

const { port, host, ca, clients } = JSON.parse(process.argv[2])
const say = said => process.stdout.write(JSON.stringify(said) + '\n')

say({ event: 'openssl', version: process.versions.openssl })
for (const options of clients) {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: host, ca: readFileSync(ca), ...options })
  const protocol = await new Promise((resolve, reject) => {
    socket.once('secureConnect', () => resolve(socket.getProtocol())).once('error', reject)
  })
  // Only with an answer is the handshake over for the server as well.
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
  await new Promise((resolve, reject) => socket.once('data', resolve).once('error', reject))
  say({ event: 'connected', protocol })
  socket.destroy()
}
say({ event: 'passed' })
