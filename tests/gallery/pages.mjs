// Pages in a headless Chromium beside the doctor: a page of an exhibit's origin runs Socket.IO's own client. Reads one JSON
// object a line, says one a line, as clients.mjs does.
//
//   {"id": 1, "origin": "https://…", "url": "https://…", "options": {…}, "cookies": [{…}], "websocket": true}
//   {"event": "result", "id": 1, "ok": false, "why": "xhr poll error"}
//
// The page is made up here (no server is asked for it); all that it asks goes over the network. Certificates are not
// judged: node's client and the doctor do that.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [executablePath] = process.argv.slice(2)
const CONNECT_MS = 20000 // the machine may be busy with other tests
const client = readFileSync(new URL('node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url), 'utf8')
const say = object => process.stdout.write(JSON.stringify(object) + '\n')
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })

// In the page.
const talk = ({ url, options, websocket, time }) => new Promise(done => {
  const socket = io(url, { forceNew: true, reconnection: false, timeout: time, ...options })
  const end = (ok, why) => { done({ ok, why: `${why}` }); socket.close() }
  const transport = () => socket.io.engine?.transport?.name
  setTimeout(() => end(false, transport() ? `it stays on ${transport()}` : 'timeout'), time)
  socket.on('connect_error', error => end(false, error.message))
  socket.on('disconnect', reason => end(false, reason))
  socket.on('connect', () => {
    if (!websocket || transport() === 'websocket') return end(true, transport())
    socket.io.engine.on('upgrade', () => end(true, transport()))
    socket.io.engine.on('upgradeError', () => end(false, `it stays on ${transport()}`))
  })
})

async function visit({ origin, url, options, cookies, websocket }) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  try {
    await context.addCookies(cookies)
    const page = await context.newPage()
    const front = `${origin}/made-up-page`
    await page.route(front, route => route.fulfill({ contentType: 'text/html', body: `<script>${client}</script>` }))
    await page.goto(front)
    // With an interception Playwright answers preflights itself.
    await page.unrouteAll()
    return await page.evaluate(talk, { url, options, websocket, time: CONNECT_MS })
  } finally {
    await context.close()
  }
}

createInterface({ input: process.stdin })
  .on('line', async line => {
    const request = JSON.parse(line)
    const said = await visit(request).catch(error => ({ ok: false, why: `the page: ${error}` }))
    say({ event: 'result', id: request.id, ...said })
  })
  .on('close', () => browser.close().then(() => process.exit(0)))
say({ event: 'ready' })
