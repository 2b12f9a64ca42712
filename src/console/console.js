// The forms: checked while typing, shown before a change, and each step while it is made.
'use strict'
const at = id => document.getElementById(id)
const { csrf, seen } = document.body.dataset
const result = at('result')
let wanted // the form that is shown in the preview; null: the file as it is

const post = (path, body) => fetch(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json', 'Sanedge-Csrf': csrf }, body: JSON.stringify(body),
})
const refused = text => /id="why">([^<]*)/.exec(text)?.[1] ?? 'The console refused this request.'
const gone = 'The console does not answer: the console or the ssh connection has ended. A change that had begun is completed or undone.'

function add(to, tag, text, kind = '') {
  const element = document.createElement(tag)
  element.textContent = text
  element.className = kind
  to.append(element)
  return element
}

function fields(form) {
  const of = name => form.elements[name].value
  const agreed = () => form.elements.agreed.checked
  switch (form.dataset.form) {
    case 'add': return {
      add: { host: of('host'), app: of('app'), path: of('path'), redirect: of('redirect'), certificate: of('certificate'), agreed: agreed() },
    }
    case 'certificate': return { certificate: { host: of('host'), certificate: of('certificate'), agreed: agreed() } }
    case 'remove': return { remove: { host: of('host') } }
    default: {
      const { host, path } = form.elements.route.selectedOptions[0].dataset
      return { upstream: { host, path, app: of('app') } }
    }
  }
}

// What was found, at the field that it is about.
function show(form, problems) {
  for (const place of form.querySelectorAll('.said')) place.replaceChildren()
  for (const input of form.querySelectorAll('[aria-invalid]')) input.removeAttribute('aria-invalid')
  for (const { field, severity, message, remedy } of problems) {
    const place = (field && at(`${form.dataset.form}-${field}-said`)) || form.querySelector('.form-said')
    add(place, 'div', `${severity}: ${message}`, severity)
    if (remedy) add(place, 'small', remedy)
    if (severity === 'error') form.elements[field]?.setAttribute('aria-invalid', 'true')
  }
}

let asked = 0
async function check(form) {
  const number = ++asked
  try {
    const answer = await post('check', fields(form))
    const found = answer.ok ? await answer.json() : { problems: [{ field: '', severity: 'error', message: refused(await answer.text()), remedy: '' }] }
    if (number !== asked) return
    show(form, found.problems)
    return found
  } catch {
    show(form, [{ field: '', severity: 'error', message: gone, remedy: '' }])
  }
}

function preview({ edit, changes, restart, websockets }) {
  const place = at('preview')
  place.replaceChildren()
  add(place, 'p', changes.length ? 'For clients:' : 'Nothing changes for clients.')
  const lines = (list) => {
    const all = add(place, 'ul', '', 'code')
    for (const line of list) add(all, 'li', line, line.startsWith('+') ? 'added' : line.startsWith('-') ? 'removed' : '')
  }
  if (changes.length) lines(changes)
  if (edit.length) {
    add(place, 'p', 'In the file:')
    lines(edit)
  }
  const label = at('restart-label')
  const closes = Number(websockets) > 0
  if (restart.length && !closes) add(place, 'p', `The edge restarts, which this change needs (${restart.join('; ')}). This closes no WebSocket.`)
  label.hidden = !restart.length || !closes
  at('restart').checked = false
  label.lastElementChild.textContent = `Restart the edge, which this change needs (${restart.join('; ')}). Open WebSockets that this closes: ${websockets}.`
  at('steps').replaceChildren()
  at('outcome').textContent = ''
  at('again').hidden = true
  at('apply').disabled = at('cancel').disabled = false
  result.hidden = false
  result.focus()
}

async function apply() {
  at('apply').disabled = at('cancel').disabled = true
  at('steps').replaceChildren()
  at('outcome').textContent = 'The change is in progress…'
  const end = (good, text) => {
    at('outcome').textContent = text
    at('outcome').className = good ? 'added' : 'removed'
    at('again').hidden = false
    if (good) at('again').focus()
    else at('apply').disabled = at('cancel').disabled = false
  }
  try {
    await stream('apply', { form: wanted, seen, restart: at('restart').checked }, at('steps'), end)
  } catch {
    end(false, gone)
  }
}

// Shows the lines of a stream as they come.
async function stream(path, body, place, end) {
  const answer = await post(path, body)
  if (!answer.ok) return end(false, refused(await answer.text()))
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return end(false, gone)
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    for (const line of lines.map(JSON.parse)) {
      if (line.done) return end(line.done.is_good, line.done.text)
      add(place, 'li', line.line)
    }
  }
}

for (const form of document.querySelectorAll('[data-form]')) {
  let timer
  form.addEventListener('input', () => {
    clearTimeout(timer)
    result.hidden = true
    const empty = form.dataset.form === 'add' && !(form.elements.host.value && (form.elements.app.value || form.elements.redirect.value))
    if (empty || form.elements.app?.value === '' && form.dataset.form === 'upstream') return
    timer = setTimeout(() => check(form), 400)
  })
  form.addEventListener('submit', async event => {
    event.preventDefault()
    clearTimeout(timer)
    wanted = fields(form)
    const found = await check(form)
    if (found?.is_good) preview(found)
    else form.querySelector('[aria-invalid]')?.focus()
  })
}
at('as-it-is')?.addEventListener('click', () => {
  wanted = null
  const { restart, websockets } = at('as-it-is').dataset
  const changes = [...at('h-unapplied').parentElement.querySelectorAll('li')].map(line => line.textContent)
  preview({ edit: [], changes, restart: restart ? [restart] : [], websockets })
})
at('apply').addEventListener('click', apply)
at('cancel').addEventListener('click', () => {
  result.hidden = true
  document.querySelector('input')?.focus()
})
at('doctor')?.addEventListener('submit', async event => {
  event.preventDefault()
  const form = event.target
  const button = form.querySelector('button')
  button.disabled = true
  at('doctor-steps').replaceChildren()
  at('doctor-outcome').className = ''
  at('doctor-outcome').textContent = 'The doctor runs…'
  const end = (good, text) => {
    button.disabled = false
    at('doctor-outcome').textContent = text
    at('doctor-outcome').className = good ? 'added' : 'removed'
  }
  try {
    await stream('doctor', { host: form.elements.host.value, here: form.elements.here.checked }, at('doctor-steps'), end)
  } catch {
    end(false, gone)
  }
})
at('end').addEventListener('click', async () => {
  at('end').disabled = true
  try {
    await post('end', {})
  } catch {}
  document.querySelector('main').replaceChildren()
  add(document.querySelector('main'), 'p', 'The console has ended. You can close this page.').setAttribute('role', 'status')
})
