/** The Echo tab: speak to the server and hear what it sends back. */

import { openInput } from './input.js';
import { testTone } from './meter.js';
import { Panel } from './panel.js';
import { Session } from './session.js';
import { Status } from './status.js';
import { deviceObstacle } from './words.js';

export class Echo {
  /** @type {Session | null} */
  session = null;
  panel;

  #form;
  #audio;
  #status;
  #context = null;
  #input = null;

  /** @param {HTMLElement} root the tab's panel */
  constructor(root) {
    this.#form = root.querySelector('form');
    this.#audio = root.querySelector('audio');
    this.#status = new Status(root.querySelector('.state'), () => this.session?.retryNow());
    this.panel = new Panel(root.querySelector('.plots'), document.getElementById('plot'));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.session) this.stop();
      else this.start();
    });
    this.#form.elements.hear.addEventListener('change', () => this.#applyHearing());
    this.#status.rest('Nothing is being sent.');
    if (deviceObstacle()) this.#form.elements.source.value = 'tone';
  }

  async start() {
    this.#busy(true);
    this.#status.notice('');
    this.#context ??= new AudioContext();
    // Without a gesture of the person the context stays suspended; the tone would be silence.
    await this.#context.resume();
    this.#input = await this.#openSource();
    const [track] = this.#input.getAudioTracks();
    track.addEventListener('ended', () => this.#onSourceEnded());
    const session = new Session('/whip', (pc) => {
      pc.addTransceiver(track, { direction: 'sendrecv', streams: [this.#input] });
    });
    this.session = session;
    session.addEventListener('state', () => this.#onState(session));
    session.addEventListener('media', () => this.#onMedia(session));
    this.panel.follow(session, this.#context, 'both', this.#input);
    session.start();
    this.#busy(false);
  }

  stop() {
    const session = this.session;
    this.session = null;
    session?.stop();
    for (const track of this.#input?.getTracks() ?? []) track.stop();
    this.#input = null;
    this.#audio.srcObject = null;
    this.panel.rest();
    this.#status.rest('Nothing is being sent.');
    this.#busy(false);
  }

  /** The microphone, or the test tone when it is chosen or there is no microphone to be had. */
  async #openSource() {
    const { source, processing } = this.#form.elements;
    if (source.value === 'tone') return testTone(this.#context);
    return openInput(this.#context, processing.checked, this.#status);
  }

  #onState(session) {
    if (session !== this.session) return;
    this.#status.show(session.phase, session.words);
    if (session.phase !== 'failed') return;
    const words = session.words;
    this.stop();
    this.#status.show('failed', words);
  }

  #onMedia(session) {
    this.#audio.srcObject = session.remote;
    this.#applyHearing();
    // An element that is not allowed to play is told so by the browser; the gesture was Start.
    this.#audio.play().catch(() => {});
  }

  /** Silent by volume: a muted or paused element would stop the browser from measuring. */
  #applyHearing() {
    this.#audio.volume = this.#form.elements.hear.checked ? 1 : 0;
  }

  #onSourceEnded() {
    if (!this.session) return;
    this.stop();
    this.#status.notice('The microphone was disconnected. Connect it and start again.');
  }

  #busy(opening) {
    const button = this.#form.elements.go;
    const running = this.session !== null;
    button.disabled = opening;
    button.textContent = running ? 'Stop' : 'Start';
    for (const name of ['source', 'processing']) {
      const field = this.#form.elements[name];
      for (const input of field instanceof RadioNodeList ? field : [field]) {
        input.disabled = opening || running;
      }
    }
  }
}
