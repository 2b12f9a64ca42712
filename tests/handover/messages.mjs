// What the app and its clients say to each other in tests/handover/run: numbered messages, and how each stream of them is checked.
import { deepEqual } from 'node:assert/strict'
import { createHash } from 'node:crypto'

// CLOCK_MONOTONIC in milliseconds, which all processes share.
export const now = () => Number(process.hrtime.bigint()) / 1e6

// What a client and the app send: message n of a kind is the same on both sides.
const LINE = 'grüß Gott, 안녕; the quick brown fox jumps over the lazy dog. '
const contents = {
  text: n => LINE.slice(n % 20) + n,
  // Compressed, and partly noise, so that it is long on the wire as well.
  deflate: n => LINE.repeat(20) + createHash('sha512').update(String(n)).digest('hex').repeat(2) + n,
  binary: n => Buffer.alloc(1 + (n * 37) % 900, n & 255),
  // Many TLS records.
  bulk: n => Buffer.alloc(20_000 + (n * 7919) % 100_000, n & 255),
  // To a client that does not read just now: longer than the buffers of the sockets, so that a part waits in the edge.
  slow: n => Buffer.alloc(200_000 + (n * 7919) % 200_000, n & 255),
}
contents.climb = contents.poll = contents.openssl = contents.text
export const content = (kind, n) => contents[kind](n)

export function intact(kind, n, data) {
  const wanted = content(kind, n)
  return typeof wanted === 'string' ? data === wanted : Buffer.isBuffer(data) && wanted.equals(data)
}

// One direction of one session: messages 0, 1, 2 … are expected once each, in this order.
export class Tracker {
  constructor() { this.reset() }

  reset() {
    this.next = 0
    this.missing = new Set()
    this.received = this.duplicated = this.reordered = this.damaged = 0
  }

  take(n, undamaged = true) {
    if (!undamaged) this.damaged++
    if (n >= this.next) {
      for (; this.next < n; this.next++) this.missing.add(this.next)
      this.next = n + 1
      this.received++
    } else if (this.missing.delete(n)) {
      this.reordered++
      this.received++
    } else {
      this.duplicated++
    }
  }

  // `sent` is what the other side has sent, where that is known; without it only what was overtaken counts as lost.
  faults(sent = this.next) {
    const { duplicated, reordered, damaged } = this
    return { lost: this.missing.size + Math.max(0, sent - this.next), duplicated, reordered, damaged }
  }
}

export function add(sum, more) {
  for (const [name, value] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + value
  return sum
}

// `node messages.mjs`: that each fault is seen.
if (import.meta.main ?? process.argv[1] === import.meta.filename) {
  const tracker = new Tracker()
  for (const n of [0, 1, 4, 2, 2, 5]) tracker.take(n, n !== 5)
  deepEqual(tracker.faults(8), { lost: 3, duplicated: 1, reordered: 1, damaged: 1 })
  for (const kind of Object.keys(contents)) deepEqual([intact(kind, 9, content(kind, 9)), intact(kind, 9, content(kind, 8))], [true, false])
}
