/**
 * One WHIP or WHEP session: a peer connection that is set up, watched, and set up again when it
 * is lost, until it is stopped or the server refuses it for good.
 *
 *   start -> calling -> joining -> connected -> (interrupted) -> lost -> pause -> calling ...
 *                  \-> waiting (no publisher yet) -> calling        \-> failed (needs a person)
 */

import { deleteSession, postOffer, Problem, sessionStats } from './api.js';
import { Sampler } from './sampler.js';
import { explain, seconds } from './words.js';

const GATHER_MAX_MS = 500;
const CONNECT_MAX_MS = 15_000;
/** ICE often recovers from `disconnected` by itself; after this it is taken as lost. */
const INTERRUPTED_MAX_MS = 4_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 8_000;
/** A connection that held this long makes the next back-off start afresh. */
const STEADY_MS = 10_000;
const WATCH_MS = 1_000;

/**
 * Events: `state` (read `phase`, `words`), `media` (read `remote`), `sample` (read `sample`).
 *
 * @typedef {'idle' | 'calling' | 'joining' | 'connected' | 'interrupted' | 'waiting' | 'retrying'
 *   | 'failed'} Phase
 */
export class Session extends EventTarget {
  /** @type {Phase} */
  phase = 'idle';
  words = '';
  /** @type {RTCPeerConnection | null} */
  pc = null;
  /** @type {MediaStream} the tracks received; a new object for each connection */
  remote = new MediaStream();
  /** @type {string | null} the session's address while there is one */
  url = null;
  /** @type {import('./sampler.js').Sample | null} */
  sample = null;
  /** @type {object | null} the server's latest view of this session */
  serverStats = null;

  #endpoint;
  #prepare;
  #stop = null;
  #skipPause = null;

  /**
   * @param {string} endpoint
   * @param {(pc: RTCPeerConnection) => void} prepare adds the transceivers to a new connection
   */
  constructor(endpoint, prepare) {
    super();
    this.#endpoint = endpoint;
    this.#prepare = prepare;
  }

  start() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  /** Ends the session, here and at the server. */
  stop() {
    this.#stop?.abort();
    this.#stop = null;
    this.#close();
    this.#enter('idle', '');
  }

  /** Ends the present pause before the next attempt, if there is one. */
  retryNow() {
    this.#skipPause?.();
  }

  async #run(signal) {
    let failures = 0;
    while (!signal.aborted) {
      let cause;
      try {
        const since = await this.#connect(signal);
        cause = await this.#watch(signal);
        if (performance.now() - since >= STEADY_MS) failures = 0;
      } catch (error) {
        cause = error;
      }
      if (signal.aborted) return;
      this.#close();
      if (cause instanceof Problem && !cause.passes) {
        this.#enter('failed', explain(cause));
        this.#stop = null;
        return;
      }
      await this.#pause(cause, failures, signal);
      failures += 1;
    }
  }

  async #connect(signal) {
    this.#enter('calling', 'Calling the server.');
    const began = performance.now();
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.pc = pc;
    this.remote = new MediaStream();
    pc.addEventListener('track', ({ track }) => {
      this.remote.addTrack(track);
      this.dispatchEvent(new Event('media'));
    });
    this.#prepare(pc);
    await pc.setLocalDescription();
    await gathered(pc, signal);
    const { answer, url } = await postOffer(this.#endpoint, pc.localDescription.sdp, signal);
    if (signal.aborted) {
      // Stopped while the answer was on its way: nobody else knows this address.
      deleteSession(url);
      throw signal.reason;
    }
    this.url = url;
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    signal.throwIfAborted();
    this.#enter('joining', 'The server answered. Opening the media path.');
    await connected(pc, answer, signal);
    const tookMs = Math.round(performance.now() - began);
    this.#enter('connected', `Connected in ${tookMs} ms.`);
    return performance.now();
  }

  /** Resolves with the reason once the connection is lost. */
  #watch(signal) {
    const pc = this.pc;
    const url = this.url;
    const sampler = new Sampler();
    const steady = this.words;
    const watching = new AbortController();
    let wasKnown = false;
    let askServer = true;
    const watch = new Promise((resolve, reject) => {
      let interrupted;
      const lost = (words) => resolve(new Error(words));
      const onState = () => {
        clearTimeout(interrupted);
        const state = pc.connectionState;
        if (state === 'failed' || state === 'closed') lost('The media path was lost.');
        if (state === 'disconnected') {
          this.#enter('interrupted', 'No media gets through. Waiting for the path to recover.');
          interrupted = setTimeout(() => lost('The media path was lost.'), INTERRUPTED_MAX_MS);
        }
        if (state === 'connected' && this.phase !== 'connected') this.#enter('connected', steady);
      };
      const take = async () => {
        this.sample = sampler.push(await pc.getStats());
        this.dispatchEvent(new Event('sample'));
      };
      const ask = async () => {
        try {
          this.serverStats = await sessionStats(url, watching.signal);
          wasKnown = true;
        } catch (error) {
          if (error.status === 404 && wasKnown) lost('The server no longer knows this session.');
          // Neither way reaches the server: waiting longer for the path would be in vain.
          if (error.status === 0 && pc.connectionState === 'disconnected') resolve(error);
          if (error.status === 401 || error.status === 403) askServer = false;
        }
      };
      const timer = setInterval(() => {
        take().catch(() => {});
        if (askServer) ask();
      }, WATCH_MS);
      const options = { signal: watching.signal };
      pc.addEventListener('connectionstatechange', onState, options);
      const dtls = (pc.getSenders()[0] ?? pc.getReceivers()[0])?.transport;
      dtls?.addEventListener('statechange', () => {
        if (dtls.state === 'closed') lost('The server ended the session.');
        if (dtls.state === 'failed') lost('The media path was lost.');
      }, options);
      signal.addEventListener('abort', () => reject(signal.reason), options);
      watching.signal.addEventListener('abort', () => {
        clearInterval(timer);
        clearTimeout(interrupted);
      });
      onState();
      take().catch(() => {});
      ask();
    });
    return watch.finally(() => watching.abort());
  }

  async #pause(cause, failures, signal) {
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures, 10));
    // Spread, so that the pages of a restarted server do not all return in the same instant.
    const ms = cause.retryAfterMs ?? backoff * (0.8 + 0.4 * Math.random());
    const waiting = cause instanceof Problem && (cause.status === 409 || cause.status === 404);
    this.#enter(waiting ? 'waiting' : 'retrying',
      `${explain(cause)} Trying again in ${seconds(ms)}.`);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#skipPause = () => {
        clearTimeout(timer);
        resolve();
      };
      window.addEventListener('online', this.#skipPause, { once: true });
      signal.addEventListener('abort', this.#skipPause, { once: true });
    });
    window.removeEventListener('online', this.#skipPause);
    this.#skipPause = null;
  }

  #close() {
    this.pc?.close();
    this.pc = null;
    if (this.url) deleteSession(this.url);
    this.url = null;
    this.sample = null;
    this.serverStats = null;
    this.dispatchEvent(new Event('sample'));
  }

  #enter(phase, words) {
    this.phase = phase;
    this.words = words;
    this.dispatchEvent(new Event('state'));
  }
}

/** Waits for the candidates, but not for an interface that never answers. */
function gathered(pc, signal) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, GATHER_MAX_MS);
    pc.addEventListener('icegatheringstatechange', () => {
      if (pc.iceGatheringState !== 'complete') return;
      clearTimeout(timer);
      resolve();
    });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

function connected(pc, answer, signal) {
  return new Promise((resolve, reject) => {
    const refuse = () => reject(new Error('The server answered, but no media got through. Check ' +
      `that UDP to ${candidateAddresses(answer)} is open between this device and the server.`));
    const timer = setTimeout(refuse, CONNECT_MAX_MS);
    const look = () => {
      if (pc.connectionState === 'connected') resolve();
      else if (pc.connectionState === 'failed') refuse();
      else return;
      clearTimeout(timer);
    };
    pc.addEventListener('connectionstatechange', look);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
    look();
  });
}

function candidateAddresses(sdp) {
  const found = new Set();
  for (const [, address, port] of sdp.matchAll(/^a=candidate:\S+ \d+ \S+ \d+ (\S+) (\d+)/gm)) {
    found.add(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
  }
  return [...found].slice(0, 4).join(' or ') || 'the server';
}
