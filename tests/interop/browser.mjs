// One scenario in a headless Chromium, by name; ends with 0 when everything held.
//
//   HOME=… node browser.mjs <scenario> '{"chromium": "/usr/bin/chromium", "profile": …, …}'
//
// HOME holds the NSS database that trusts the test's CA: nothing about certificates is switched off.
import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'

const [scenario, json] = process.argv.slice(2)
const parameters = JSON.parse(json)
const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')

const scenarios = {
  // The demo's page connects, measures, sends, and hears what was sent.
  async demo(context) {
    const [page, group] = await visitWithGroup(context, parameters.url)
    await page.waitForSelector('#state[data-open]')
    await page.waitForFunction(() => Number(document.getElementById('count').textContent) >= 5)
    for (const id of ['last', 'median']) {
      assert.match(await page.textContent(`#${id}`), /^\d+\.\d\d ms$/)
    }
    await page.fill('#text', 'hello from <b>here</b>')
    await page.click('button')
    await page.waitForFunction(() => document.querySelector('#heard div')?.textContent === 'hello from <b>here</b>')

    const second = await visit(context, parameters.url)
    await second.waitForSelector('#state[data-open]')
    await second.fill('#text', 'from the second')
    await second.click('button')
    await page.waitForFunction(() => document.querySelector('#heard div')?.textContent === 'from the second')
    say('measured', { median: await page.textContent('#median'), count: await page.textContent('#count'), group })
  },

  // A page of one origin with Socket.IO's client, a server of another: cookies and CORS with credentials.
  async cross_origin(context) {
    const page = await visit(context, parameters.page)
    for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
      const said = await page.evaluate(talk, [parameters.server, transports])
      assert.deepEqual(said, { answer: 'across', transport: transports.at(-1) })
    }
    const cookies = await context.cookies(parameters.server)
    assert.deepEqual(cookies.map(cookie => cookie.name).sort(), ['io', 'page'])
  },

  // A page that nobody listed may not open a WebSocket, nor read an answer by polling.
  async foreign_origin(context) {
    const page = await visit(context, parameters.page)
    for (const transports of [['websocket'], ['polling']]) {
      const said = await page.evaluate(talk, [parameters.server, transports])
      assert.deepEqual(Object.keys(said), ['error'], JSON.stringify(said))
    }
  },

  // The edge's own page: live, held to its policy, whole on a desk and on a phone, and asking nobody else.
  async status(context) {
    const page = await context.newPage()
    const trouble = []
    const asked = new Set()
    page.on('pageerror', error => trouble.push(String(error)))
    page.on('console', message => message.type() === 'error' && trouble.push(message.text()))
    page.on('request', request => asked.add(request.url()))
    await page.goto(parameters.url)
    await page.waitForFunction(() => document.querySelector('#state').textContent === 'serving')
    await page.waitForFunction(open => document.querySelector('#sessions .big').textContent === `${open} open`, parameters.sessions)
    await page.waitForFunction(() => [...document.querySelectorAll('path.curve')].filter(path => path.getAttribute('d')).length === 3)
    assert.deepEqual(await page.$$eval('#hosts tr td:first-child', cells => cells.map(cell => cell.firstChild.textContent)), parameters.hosts)
    assert.match(await page.textContent('#upstreams'), /untried/)
    assert.equal(await page.getAttribute('#state', 'class'), 'good')
    assert.equal(await page.textContent('#problems'), '')
    // What is wrong comes first, with what to type, and the badge is not green any more.
    say('serving')
    await page.waitForFunction(() => document.querySelector('#state').textContent === '1 problem')
    assert.equal(await page.getAttribute('#state', 'class'), 'bad')
    assert.deepEqual(await page.$$eval('#problems li', items => items.map(item => item.textContent)), [parameters.problem])
    assert.match(await page.textContent('#problems code'), /^sanedge doctor /)
    const [problems, first] = await page.evaluate(() => ['#problems', 'section'].map(at => document.querySelector(at).getBoundingClientRect().top))
    assert.ok(problems < first)
    const shown = []
    for (const [name, width, height] of [['desk', 1200, 800], ['phone', 390, 844], ['small', 320, 640]]) {
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme })
        await page.setViewportSize({ width, height })
        const wide = await page.evaluate(() => document.documentElement.scrollWidth)
        assert.ok(wide <= width, `${wide} pixels on a screen of ${width}`)
        await page.screenshot({ path: `${parameters.shots}/${name}-${colorScheme}.png`, fullPage: true })
        shown.push(name)
      }
    }
    assert.equal(shown.length, 6)
    assert.deepEqual([...asked].sort(), ['', 'history', 'status'].map(path => parameters.url + path))
    // A script that somebody got into the page would not run.
    await page.evaluate(() => {
      const script = document.createElement('script')
      script.textContent = 'window.injected = true'
      document.body.append(script)
    })
    assert.equal(await page.evaluate(() => window.injected), undefined)
    assert.ok(trouble.length === 1 && /Content Security Policy/.test(trouble[0]), trouble.join('\n'))
    say('ready')
    await page.waitForFunction(() => document.querySelector('#state').textContent === 'no response', null, { timeout: 60_000 })
  },

  // The console: a finding at its field, a host by mouse and one by keyboard alone, whole on a desk and on a phone.
  async console(context) {
    const page = await context.newPage()
    const trouble = []
    page.on('pageerror', error => trouble.push(String(error)))
    page.on('console', message => message.type() === 'error' && trouble.push(message.text()))
    await page.goto(parameters.url)
    await page.waitForSelector('#edge')
    const inside = page.url()
    assert.match(inside, /^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}\/$/)
    assert.match(await page.textContent('#edge'), /serves 1 host/)
    // The script cannot read the cookie, and the history has no token.
    assert.equal(await page.evaluate(() => document.cookie), '')
    // A finding while one types, at its field.
    await page.fill('#add-host', 'other.test')
    await page.fill('#add-app', '3002')
    await page.waitForSelector('#add-host[aria-invalid=true]')
    assert.match(await page.textContent('#add-host-said'), /other\.test/)
    await page.fill('#add-host', parameters.host)
    await page.waitForFunction(() => !document.querySelector('#add-host[aria-invalid]'))
    await page.click('form[data-form=add] button')
    await page.waitForSelector('#result:not([hidden])')
    assert.match(await page.textContent('#preview'), new RegExp(`\\+ ${parameters.host} → 127\\.0\\.0\\.1:3002`))
    await page.click('#apply')
    await page.waitForSelector('#again:not([hidden])')
    assert.match(await page.textContent('#outcome'), /is in use/)
    assert.ok((await page.$$('#steps li')).length > 3)
    say('added')
    await page.click('#again')
    await page.waitForFunction(host => document.querySelector('#hosts')?.textContent.includes(host), parameters.host)

    // The keyboard alone: from the top of the page to the form, through it, and to the button.
    const tab = async (id, key = 'Tab') => {
      for (let presses = 0; presses < 40; presses++) {
        if (await page.evaluate(() => document.activeElement?.id) === id) return
        await page.keyboard.press(key)
      }
      assert.fail(`Tab does not reach ${id}`)
    }
    await tab('add-host')
    await page.keyboard.type(parameters.second)
    await tab('add-app')
    await page.keyboard.type('3002')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.activeElement?.id === 'result')
    await tab('apply')
    await page.keyboard.press('Enter')
    await page.waitForFunction(() => document.activeElement?.id === 'again')
    say('typed')
    await page.keyboard.press('Enter')
    await page.waitForFunction(host => document.querySelector('#hosts')?.textContent.includes(host), parameters.second)

    // The doctor shows its stages; nothing listens where DNS leads.
    await page.selectOption('#doctor-host', parameters.first)
    await page.click('#doctor button')
    await page.waitForFunction(() => document.querySelector('#doctor-outcome').className !== '')
    assert.ok((await page.$$('#doctor-steps li')).length > 1)
    assert.match(await page.textContent('#doctor-outcome'), /^The doctor has found/)

    // Each input has a label, and what is said about it is bound to it.
    const unlabelled = await page.$$eval('input, select', all => all.filter(one => !one.labels?.length).map(one => one.id))
    assert.deepEqual(unlabelled, [])
    const loose = await page.$$eval('[aria-describedby]', all => all.filter(one => one.getAttribute('aria-describedby').split(' ').some(id => !document.getElementById(id))).map(one => one.id))
    assert.deepEqual(loose, [])
    const shown = []
    for (const [name, width, height] of [['desk', 1200, 800], ['phone', 390, 844], ['small', 320, 640]]) {
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme })
        await page.setViewportSize({ width, height })
        const wide = await page.evaluate(() => document.documentElement.scrollWidth)
        assert.ok(wide <= width, `${wide} pixels on a screen of ${width}`)
        shown.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor))
        await page.screenshot({ path: `${parameters.shots}/${name}-${colorScheme}.png`, fullPage: true })
      }
    }
    assert.equal(new Set(shown).size, 2, shown.join())

    await page.selectOption('#remove-host', parameters.host)
    await page.click('form[data-form=remove] button')
    await page.waitForSelector('#result:not([hidden])')
    await page.click('#apply')
    await page.waitForSelector('#again:not([hidden])')
    assert.match(await page.textContent('#outcome'), /is in use/)
    say('removed')

    // A second window of the same link has no session, and neither has another browser.
    const second = await context.newPage()
    await second.goto(parameters.url)
    await second.waitForFunction(() => /A link opens one session/.test(document.querySelector('#why').textContent))
    // A page of another origin on this machine cannot send a change, nor read the page.
    const foreign = await context.newPage()
    await foreign.goto('about:blank')
    const read = await foreign.evaluate(inside => fetch(inside, { credentials: 'include' }).then(() => 'read', () => 'refused'), inside)
    assert.equal(read, 'refused')
    // A script that got into the page would not run.
    assert.deepEqual(trouble, [])
    await page.evaluate(() => {
      const script = document.createElement('script')
      try { script.textContent = 'window.injected = true' } catch {}
      document.body.append(script)
    })
    assert.equal(await page.evaluate(() => window.injected), undefined)
    await page.click('#again')
    await page.waitForSelector('#end')
    await page.click('#end')
    await page.waitForFunction(() => /has ended/.test(document.body.textContent))
  },

  // The console of a machine under systemd: a finding at its field, an app on a port of which the edge's sandbox knows nothing, a certificate
  // from the CA, and the removal of a host.
  async console_systemd(context) {
    const page = await context.newPage()
    const begun = Date.now()
    await page.goto(parameters.url)
    await page.waitForSelector('#edge')
    assert.match(await page.textContent('#edge'), /^The edge serves \d+ hosts; \d+ /)
    assert.equal(await page.$('#sandbox') === null, parameters.restarts > 0)

    await page.fill('#add-host', parameters.host)
    await page.fill('#add-app', parameters.wrong)
    await page.waitForSelector('#add-app[aria-invalid=true]')
    assert.match(await page.textContent('#add-app-said'), new RegExp(parameters.finding))
    assert.equal(await page.textContent('#add-host-said'), '')
    await page.fill('#add-app', parameters.app)
    await page.waitForFunction(() => !document.querySelector('#add-app[aria-invalid]'))
    await page.selectOption('#add-certificate', 'acme')
    await page.click('form[data-form=add] button')
    await page.waitForSelector('#result:not([hidden])')
    assert.match(await page.textContent('#preview'), new RegExp(`\\+ ${parameters.host} → 127\\.0\\.0\\.1:${parameters.app}`))
    assert.ok(!await page.isVisible('#restart-label'))
    if (parameters.restarts) assert.match(await page.textContent('#preview'), /The edge restarts, .* This closes no WebSocket\./)
    await page.click('#apply')
    await page.waitForSelector('#outcome.added')
    const steps = await page.$$eval('#steps li', all => all.map(one => one.textContent))
    for (const step of ['writing the bundle and putting it to use', `+ certificate of the CA for ${parameters.host}`]) assert.ok(steps.includes(step), steps.join('\n'))
    const outcome = await page.textContent('#outcome')
    say('applied', { steps, outcome })

    // Loaded again, as the page says, until the CA's certificate is in use.
    const row = async () => {
      await page.goto(page.url())
      return page.$$eval('#hosts tbody tr', (all, host) => all.find(one => one.firstElementChild.textContent === host)?.textContent, parameters.host)
    }
    const until = Date.now() + 120_000
    let shown = await row()
    while (/waits for its certificate/.test(shown) && Date.now() < until) {
      await new Promise(resolve => setTimeout(resolve, 500))
      shown = await row()
    }
    assert.match(shown, new RegExp(`acme: ${parameters.host}`))
    say('served', { shown, ms: Date.now() - begun })
    assert.match(outcome, new RegExp(`is in use.*Without a certificate yet: ${parameters.host}\\. sanedge-renew.service obtains the certificate now`))

    await page.selectOption('#remove-host', parameters.removed)
    await page.click('form[data-form=remove] button')
    await page.waitForSelector('#result:not([hidden])')
    await page.click('#apply')
    await page.waitForSelector('#outcome.added')

    // The link opens one session.
    const second = await context.newPage()
    await second.goto(parameters.url)
    await second.waitForFunction(() => /A link opens one session/.test(document.querySelector('#why').textContent))
  },
}

// The same, and the group of the key exchange that the page came by, as the developer tools show it.
async function visitWithGroup(context, url) {
  const tools = await context.newCDPSession(await context.newPage())
  await tools.send('Network.enable')
  const seen = new Promise(resolve => tools.on('Network.responseReceived', ({ response }) => resolve(response.securityDetails)))
  await tools.send('Page.navigate', { url })
  const { keyExchangeGroup } = await seen
  return [await visit(context, url), keyExchangeGroup]
}

async function visit(context, url) {
  const page = await context.newPage()
  page.on('pageerror', error => say('pageerror', { error: String(error) }))
  const response = await page.goto(url)
  assert.equal(response.status(), 200)
  return page
}

// Runs in the page: one acknowledged event, then the transport it ended with. The upgrade may be through before the
// namespace is connected, so both orders count; what takes too long is told with how far it came.
function talk([server, transports]) {
  return new Promise(resolve => {
    const socket = window.io(server, { transports, withCredentials: true, forceNew: true, reconnection: false })
    const steps = []
    const done = said => (clearTimeout(late), socket.close(), resolve(said))
    const late = setTimeout(() => done({ late: steps }), 60_000)
    const wanted = transports.at(-1)
    const ask = () => {
      steps.push(socket.connected ? 'connected' : 'not connected', socket.io.engine.transport.name)
      if (!socket.connected || socket.io.engine.transport.name !== wanted) return
      socket.emit('echo', 'across', answer => done({ answer, transport: socket.io.engine.transport.name }))
    }
    socket.on('connect_error', error => done({ error: error.message }))
    socket.on('connect', ask)
    socket.io.on('open', () => {
      socket.io.engine.on('upgrade', ask)
      socket.io.engine.on('upgradeError', error => done({ upgrade: error.message }))
    })
  })
}

const context = await chromium.launchPersistentContext(parameters.profile, {
  executablePath: parameters.chromium,
  headless: true,
  timeout: 60_000,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    ...(parameters.resolve ? [`--host-resolver-rules=${parameters.resolve}`] : []),
  ],
})
try {
  await scenarios[scenario](context)
  say('passed', { scenario })
} finally {
  await context.close()
}
