// The app on the emulated board: real Socket.IO, an echo with acknowledgement, and what the edge told about the client.
import { createServer } from 'node:http'
import { Server } from 'socket.io'

const http = createServer((request, response) => response.end(`app on ${process.arch}\n`))
const io = new Server(http)
io.on('connection', socket => {
  socket.on('echo', (data, answer) => answer(data, socket.handshake.headers['x-forwarded-proto'], process.arch))
})
http.listen(3002, '127.0.0.1')
