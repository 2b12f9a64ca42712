// A Socket.IO app in the fewest lines: it sends back what it gets.
import { Server } from 'socket.io'

new Server(3002).on('connection', socket => socket.onAny((name, ...values) => socket.emit(name, ...values)))
