// Preloaded into every client: each name is this machine, so that the tests' scripts say `https://socket.recre.store`
// as a user's do.
const dns = require('node:dns')

const lookup = dns.lookup
dns.lookup = (_host, ...rest) => lookup('127.0.0.1', ...rest)
