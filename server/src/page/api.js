/**
 * The server's HTTP API: one function per endpoint, problem documents (RFC 9457) as errors, and
 * server-sent events read with fetch, because `EventSource` cannot carry a token.
 */

const ANSWER_WITHIN_MS = 10_000;
/** The server writes a comment at least every 15 s, so a longer silence is a dead connection. */
const EVENTS_SILENT_MAX_MS = 45_000;

let token = '';

/** @param {string} value the bearer token of every later request; empty means none */
export function setToken(value) {
  token = value.trim();
}

/** A request that did not succeed. `status` is 0 when no answer came at all. */
export class Problem extends Error {
  /**
   * @param {number} status the HTTP status
   * @param {string} title the short name of the problem
   * @param {string} detail what went wrong and what to change, for a person
   * @param {number | null} retryAfterMs when the server asks to be tried again
   */
  constructor(status, title, detail, retryAfterMs = null) {
    super(detail || title);
    this.name = 'Problem';
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later without a change by the person. */
  get passes() {
    return [0, 404, 408, 409, 425, 429].includes(this.status) || this.status >= 500;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} a response with a 2xx status
 * @throws {Problem}
 */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', ...options, headers });
  } catch {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new Problem(0, 'No answer', `The server at ${location.host} does not answer. ` +
      'Check that it is running and that this device is on its network.');
  }
  if (!response.ok) throw await readProblem(response);
  return response;
}

/**
 * Sends an SDP offer to a WHIP or WHEP endpoint.
 *
 * @param {string} endpoint
 * @param {string} offer
 * @param {AbortSignal} signal
 * @returns {Promise<{answer: string, url: string}>} the answer and the session's address
 */
export async function postOffer(endpoint, offer, signal) {
  const response = await request(endpoint, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp', Accept: 'application/sdp, application/json' },
    body: offer,
    signal: within(ANSWER_WITHIN_MS, signal),
  });
  const place = response.headers.get('Location');
  if (response.status !== 201 || !place) {
    throw new Problem(response.status, 'Unexpected answer',
      'The address answered, but not as a WHIP or WHEP endpoint does.');
  }
  const url = new URL(place, new URL(endpoint, location.href)).href;
  return { answer: await response.text(), url };
}

/** Ends a session. Never fails: a session that is gone already is what was wanted. */
export async function deleteSession(url) {
  try {
    await request(url, { method: 'DELETE', keepalive: true });
  } catch {
    // The server also ends sessions that fall silent.
  }
}

/** @param {string} url the session's address as given by `postOffer` */
export async function sessionStats(url, signal) {
  return readJson(`/api/sessions/${encodeURIComponent(nameOf(url))}/stats`, signal);
}

function nameOf(url) {
  return new URL(url).pathname.split('/').filter(Boolean).pop();
}

/** @returns {Promise<Array<{room: string, participants?: Array<object>}>>} */
export async function rooms(signal) {
  const answer = await readJson('/api/rooms', signal);
  return Array.isArray(answer) ? answer : (answer.rooms ?? []);
}

/**
 * Whether somebody publishes under this name. Publishing under it would take their place.
 */
export async function isTaken(room, name, signal) {
  try {
    // Asked for by name, a room with nobody in it is a 404, which browsers report as an error.
    const open = await rooms(signal);
    if (!open.some((other) => other.room === room)) return false;
    const { participants } = await readJson(`/api/rooms/${encodeURIComponent(room)}`, signal);
    return participants.some((participant) => participant.name === name);
  } catch {
    // What failed here fails when joining too, and is explained there.
    return false;
  }
}

/** What the server says of itself. */
export async function info(signal) {
  return readJson('/info', signal);
}

/** A room's events; see `events`. */
export function roomEvents(room, signal, onOpen) {
  return events(`/api/rooms/${encodeURIComponent(room)}/events`, signal, onOpen);
}

/**
 * What the server hears and decides in a call with an agent; see `events`.
 *
 * @param {string} url the session's address as given by `postOffer`
 */
export function voiceEvents(url, signal, onOpen) {
  return events(`/api/sessions/${encodeURIComponent(nameOf(url))}/voice`, signal, onOpen);
}

/**
 * Reads server-sent events until the server ends the stream, it falls silent, or `signal` aborts.
 *
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {() => void} onOpen called once, when the stream is up
 * @returns {AsyncGenerator<{name: string, value: any}>}
 */
async function* events(path, signal, onOpen) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), EVENTS_SILENT_MAX_MS);
  };
  heard();
  try {
    const response = await request(path, {
      headers: { Accept: 'text/event-stream' },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      yield* parser.push(value);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

/** The event-stream format of the HTML standard, §9.2.6: text in, events out. */
export class EventParser {
  #rest = '';
  #name = '';
  #lines = [];

  /**
   * @param {string} text any piece of the stream
   * @returns {Array<{name: string, value: any}>} the events this piece completes
   */
  push(text) {
    const events = [];
    this.#rest += text;
    // A carriage return at the end may be half of a line break: it waits for the next piece.
    for (;;) {
      const end = this.#rest.search(/\r\n|\n|\r(?!$)/);
      if (end < 0) return events;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(this.#rest.startsWith('\r\n', end) ? end + 2 : end + 1);
      const event = this.#line(line);
      if (event) events.push(event);
    }
  }

  #line(line) {
    if (line === '') return this.#dispatch();
    if (line.startsWith(':')) return null;
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#name = value;
    if (field === 'data') this.#lines.push(value);
    return null;
  }

  #dispatch() {
    const name = this.#name || 'message';
    const text = this.#lines.join('\n');
    const empty = this.#lines.length === 0;
    this.#name = '';
    this.#lines = [];
    if (empty) return null;
    try {
      return { name, value: JSON.parse(text) };
    } catch {
      return null;
    }
  }
}

async function readJson(path, signal) {
  const response = await request(path, {
    headers: { Accept: 'application/json' },
    signal: within(ANSWER_WITHIN_MS, signal),
  });
  return response.json();
}

async function readProblem(response) {
  const after = Number(response.headers.get('Retry-After'));
  const retryAfterMs = Number.isFinite(after) && after > 0 ? after * 1000 : null;
  let title = response.statusText || `HTTP ${response.status}`;
  let detail = '';
  try {
    const problem = await response.json();
    title = String(problem.title ?? title);
    detail = String(problem.detail ?? '');
  } catch {
    // A proxy in between may answer in HTML; the status still says enough.
  }
  return new Problem(response.status, title, detail, retryAfterMs);
}

function within(ms, signal) {
  const limit = AbortSignal.timeout(ms);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}
