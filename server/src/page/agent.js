/** The Agent tab: a call with a program, and what the server hears and decides in it. */

import { voiceEvents } from './api.js';
import { openInput } from './input.js';
import { Panel } from './panel.js';
import { Session } from './session.js';
import { Status } from './status.js';
import { Timeline } from './timeline.js';

const EVENTS_SHOWN = 40;
const DRAW_MS = 50;
/** The stream of events is opened again after this, should it end before the call. */
const AGAIN_MS = 1_000;

export class Agent {
  /** @type {Session | null} */
  session = null;
  panel;
  /** For tests: every event of the call, levels left out. */
  events = [];
  /** The delays last shown, in milliseconds. */
  delays = { decided: null, answered: null, interrupted: null };

  #root;
  #form;
  #audio;
  #status;
  #timeline;
  #context = null;
  #input = null;
  #listening = null;
  #ended_ms = null;

  /** @param {HTMLElement} root the tab's panel */
  constructor(root) {
    this.#root = root;
    this.#form = root.querySelector('form');
    this.#audio = root.querySelector('audio');
    this.#status = new Status(root.querySelector('.state'), () => this.session?.retryNow());
    this.#timeline = new Timeline(root.querySelector('.timeline'));
    this.panel = new Panel(root.querySelector('.plots'), document.getElementById('plot'));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.session) this.stop();
      else this.start();
    });
    this.#status.rest('No call.');
    setInterval(() => requestAnimationFrame(() => this.#timeline.draw()), DRAW_MS);
  }

  /** @param {string[]} names the agents there are */
  offer(names) {
    const select = this.#form.elements.agent;
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(chosen)) select.value = chosen;
    this.#form.elements.go.disabled = names.length === 0;
    if (names.length === 0) this.#status.rest('This server has no agents.');
  }

  async start() {
    this.#busy(true);
    this.#status.notice('');
    this.#context ??= new AudioContext();
    await this.#context.resume();
    const processing = this.#form.elements.processing.checked;
    this.#input = await openInput(this.#context, processing, this.#status);
    const [track] = this.#input.getAudioTracks();
    const { agent, eagerness } = this.#form.elements;
    const query = new URLSearchParams({ agent: agent.value, eagerness: eagerness.value });
    const session = new Session(`/whip?${query}`, (pc) => {
      pc.addTransceiver(track, { direction: 'sendrecv', streams: [this.#input] });
    });
    this.session = session;
    session.addEventListener('state', () => this.#onState(session));
    session.addEventListener('media', () => {
      this.#audio.srcObject = session.remote;
      this.#audio.play().catch(() => {});
    });
    this.panel.follow(session, this.#context, 'both', this.#input);
    session.start();
    this.#busy(false);
  }

  stop() {
    const session = this.session;
    this.session = null;
    session?.stop();
    this.#listening?.abort();
    this.#listening = null;
    for (const track of this.#input?.getTracks() ?? []) track.stop();
    this.#input = null;
    this.#audio.srcObject = null;
    this.panel.rest();
    this.#status.rest('No call.');
    this.#busy(false);
  }

  #onState(session) {
    if (session !== this.session) return;
    this.#status.show(session.phase, session.words);
    if (session.phase === 'connected') {
      if (!this.#listening) this.#listen(session.url);
      return;
    }
    // Another connection is another call.
    this.#listening?.abort();
    this.#listening = null;
    if (session.phase !== 'failed') return;
    const words = session.words;
    this.stop();
    this.#status.show('failed', words);
  }

  async #listen(url) {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    this.#clear();
    while (!signal.aborted) {
      try {
        for await (const { name, value } of voiceEvents(url, signal, () => {})) {
          this.#take(name, value);
        }
      } catch (error) {
        // Without this permission the call goes on, only unseen.
        if (error.status === 401 || error.status === 403) return;
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  #clear() {
    this.events = [];
    this.#timeline.clear();
    this.#ended_ms = null;
    for (const key of Object.keys(this.delays)) this.#delay(key, null);
    this.#root.querySelector('.voice-events').replaceChildren();
    this.#root.querySelector('.no-events').hidden = false;
  }

  #take(name, value) {
    this.#timeline.advance(value.at);
    if (name === 'level') {
      this.#timeline.level(value.at, value.level, value.speech);
      return;
    }
    this.events.push({ name, ...value });
    const words = this.#understand(name, value);
    if (words) this.#list(value.at, words);
  }

  /** Draws an event and says what it was; empty for what is not worth a line. */
  #understand(name, value) {
    const at_ms = value.at;
    switch (name) {
      case 'speech_started':
        this.#timeline.youFrom(value.start);
        return 'You began to speak.';
      case 'speech_ended':
        this.#timeline.youUntil(value.end);
        return 'You paused.';
      case 'eager_end':
        this.#timeline.mark(at_ms, '');
        return `Your turn is likely over (${percent(value.probability)}).`;
      case 'resumed':
        return 'You went on: it was not.';
      case 'ended': {
        const waited_ms = Math.round(at_ms - value.end);
        this.#timeline.youUntil(value.end);
        this.#timeline.youEnded(at_ms);
        this.#timeline.mark(at_ms, 'over');
        this.#ended_ms = at_ms;
        this.#delay('decided', waited_ms);
        return `Your turn is over: ${waited_ms} ms after your last word, ` +
          `by ${value.reason} (${percent(value.probability)}).`;
      }
      case 'barge_candidate':
        this.#timeline.mark(at_ms, 'ducked');
        return 'Somebody speaks while the agent does: it lowers its voice.';
      case 'barge_in': {
        const took_ms = Math.round(at_ms - value.start);
        this.#timeline.mark(at_ms, 'interrupted');
        this.#delay('interrupted', took_ms);
        return `You interrupted: the agent stopped ${took_ms} ms after you began.`;
      }
      case 'backchannel':
        return 'It was nothing: the agent speaks on.';
      case 'false_interruption':
        return 'The agent was stopped for nothing.';
      case 'dtmf':
        this.#timeline.mark(at_ms, value.digit);
        return `You pressed ${value.digit} for ${Math.round(value.duration)} ms.`;
      case 'idle':
        return 'Neither has spoken for a while.';
      case 'playout':
        return this.#understandPlayout(value);
      default:
        return '';
    }
  }

  #understandPlayout({ at: at_ms, state, played: played_ms }) {
    if (state === 'started') {
      this.#timeline.agentFrom(at_ms);
      if (this.#ended_ms !== null) this.#delay('answered', Math.max(0, at_ms - this.#ended_ms));
      this.#ended_ms = null;
      return 'The agent began to speak.';
    }
    this.#timeline.agentUntil(at_ms);
    const said = `after ${(played_ms / 1000).toFixed(1)} s`;
    return {
      finished: `The agent has finished, ${said}.`,
      interrupted: `The agent was interrupted ${said}.`,
      cleared: `The agent stopped itself ${said}.`,
      starved: 'The agent has nothing more to say yet.',
    }[state] ?? '';
  }

  #delay(key, ms) {
    this.delays[key] = ms;
    const output = this.#root.querySelector(`[data-delay=${key}] .plot-value`);
    output.textContent = ms === null ? '–' : `${Math.round(ms)} ms`;
  }

  #list(at_ms, words) {
    const list = this.#root.querySelector('.voice-events');
    const item = document.createElement('li');
    const time = item.appendChild(document.createElement('span'));
    time.className = 'voice-time';
    time.textContent = `${(at_ms / 1000).toFixed(2)} s`;
    item.append(` ${words}`);
    list.prepend(item);
    while (list.children.length > EVENTS_SHOWN) list.lastElementChild.remove();
    this.#root.querySelector('.no-events').hidden = true;
  }

  #busy(opening) {
    const { go, agent, eagerness, processing } = this.#form.elements;
    const running = this.session !== null;
    go.disabled = opening;
    go.textContent = running ? 'Hang up' : 'Call';
    for (const field of [agent, eagerness, processing]) field.disabled = opening || running;
  }
}

/** @param {number} probability 0 to 1 */
function percent(probability) {
  return `${Math.round(probability * 100)} %`;
}
