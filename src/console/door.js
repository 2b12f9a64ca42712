// Exchanges the token of the link for a session.
'use strict'
const why = document.getElementById('why')
async function enter() {
  const token = location.hash.slice(1)
  // The link works once: its token is not kept in the history.
  history.replaceState(null, '', '/')
  if (!token) {
    why.textContent = 'Open the link that sanedge console has printed: it is incomplete.'
    return
  }
  why.textContent = 'Opening the console…'
  try {
    const answer = await fetch('/enter', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }),
    })
    const text = await answer.text()
    if (answer.ok) {
      location.replace(JSON.parse(text).path)
    } else {
      why.textContent = /id="why">([^<]*)/.exec(text)?.[1] ?? 'The console refused this link.'
    }
  } catch {
    why.textContent = 'The console does not answer: the console or the ssh connection has ended.'
  }
}
enter()
