/** The Room tab: publish camera and microphone, and see and hear everyone else. */

import { isTaken, roomEvents, rooms } from './api.js';
import { Member } from './member.js';
import { Panel } from './panel.js';
import { Session } from './session.js';
import { Status } from './status.js';
import { Tile } from './tile.js';
import { deviceObstacle, explain, explainDevice, seconds } from './words.js';

const EVENTS_RETRY_FIRST_MS = 500;
const EVENTS_RETRY_MAX_MS = 8_000;
const OPEN_ROOMS_EVERY_MS = 5_000;
const PICTURES = {
  360: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } },
  720: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
};

export class Room {
  /** What we publish; null when we only listen. @type {Session | null} */
  session = null;
  /** Everyone else, by name, in order of arrival. @type {Map<string, Member>} */
  members = new Map();
  panel;

  #root;
  #form;
  #status;
  #context = null;
  #stream = null;
  #tile = null;
  #leaving = null;
  #room = '';
  #name = '';

  /** @param {HTMLElement} root the tab's panel */
  constructor(root) {
    this.#root = root;
    this.#form = root.querySelector('form');
    this.#status = new Status(root.querySelector('.state'), () => this.session?.retryNow());
    this.panel = new Panel(root.querySelector('.plots'), document.getElementById('plot'));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#leaving) this.leave();
      else this.join();
    });
    for (const kind of ['camera', 'microphone']) {
      this.#form.elements[kind].addEventListener('change', () => this.#applyDevices());
    }
    root.querySelector('.plots-of').addEventListener('change', () => this.#followChosen());
    root.querySelector('.copy').addEventListener('click', () => this.#copyAddress());
    this.#status.rest('You are not in a room.');
    this.#show();
    setInterval(() => this.#listOpenRooms(), OPEN_ROOMS_EVERY_MS);
  }

  /** Fills in the room's name, from the page's address. */
  propose(room) {
    this.#form.elements.room.value = room;
  }

  async join() {
    const fields = this.#form.elements;
    this.#room = fields.room.value.trim();
    this.#name = fields.name.value.trim();
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    this.#status.notice('');
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#show();
    const stream = await this.#openDevices();
    if (signal.aborted) {
      for (const track of stream?.getTracks() ?? []) track.stop();
      return;
    }
    this.#stream = stream;
    if (stream && await isTaken(this.#room, this.#name, signal)) {
      this.leave();
      this.#status.show('failed', `Somebody called ${this.#name} is in this room already. Choose ` +
        'another name, or wait half a minute if it is you from before.');
      return;
    }
    if (signal.aborted) return;
    this.#rememberAddress();
    if (stream) this.#publish(stream);
    else this.#status.show('connected', 'You are listening. The others do not see or hear you.');
    this.#show();
    this.#followEvents(signal);
  }

  leave(words = 'You left the room.') {
    this.#leaving?.abort();
    this.#leaving = null;
    const session = this.session;
    this.session = null;
    session?.stop();
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#tile?.remove();
    this.#tile = null;
    for (const name of [...this.members.keys()]) this.#onLeft(name);
    this.#status.rest(words);
    this.#show();
  }

  #publish(stream) {
    const query = new URLSearchParams({ name: this.#name });
    const session = new Session(`/whip/${encodeURIComponent(this.#room)}?${query}`, (pc) => {
      for (const track of stream.getTracks()) {
        const { sender } = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
        if (track.kind === 'video') keepSize(sender);
      }
    });
    this.session = session;
    this.#tile = new Tile(this.#root.querySelector('.tiles'), this.#name, true);
    this.#tile.play(stream);
    session.addEventListener('state', () => {
      if (session !== this.session) return;
      this.#status.show(session.phase, session.words);
      this.#tile.say(session.phase === 'connected' ? '' : session.words);
      if (session.phase !== 'failed') return;
      const words = session.words;
      this.leave();
      this.#status.show('failed', words);
    });
    session.addEventListener('sample', () => this.#tile?.caption(session.sample, 'sent'));
    session.start();
  }

  /** Camera and microphone as asked for, or as much of them as there is; null for neither. */
  async #openDevices() {
    const { camera, microphone, picture } = this.#form.elements;
    if (!camera.checked && !microphone.checked) return null;
    const obstacle = deviceObstacle();
    if (obstacle) {
      this.#status.notice(`${obstacle} Until then you can only listen.`);
      return null;
    }
    this.#status.show('calling', 'Waiting for the browser to give this page your devices.');
    const video = camera.checked && PICTURES[picture.value];
    const audio = microphone.checked;
    try {
      return await navigator.mediaDevices.getUserMedia({ audio, video });
    } catch (error) {
      const device = audio && video ? 'camera or microphone' : video ? 'camera' : 'microphone';
      const words = explainDevice(error, device);
      const stream = audio && video ? await this.#openEither(video) : null;
      const kept = !stream ? 'You are only listening'
        : stream.getVideoTracks().length ? 'You are sending pictures only'
          : 'You are sending sound only';
      this.#status.notice(`${words} ${kept}.`);
      return stream;
    }
  }

  async #openEither(video) {
    for (const wanted of [{ audio: true }, { video }]) {
      try {
        return await navigator.mediaDevices.getUserMedia(wanted);
      } catch {
        // The first failure has been explained; this one is the same or the other device's.
      }
    }
    return null;
  }

  async #followEvents(signal) {
    let failures = 0;
    const notice = this.#root.querySelector('.events');
    while (!signal.aborted) {
      let words = 'The list of who is here stopped.';
      let passes = true;
      try {
        const onOpen = () => {
          failures = 0;
          notice.textContent = '';
        };
        for await (const event of roomEvents(this.#room, signal, onOpen)) this.#onEvent(event);
      } catch (error) {
        if (signal.aborted) return;
        words = explain(error);
        passes = error.passes ?? true;
      }
      if (signal.aborted) return;
      if (!passes) {
        this.leave();
        this.#status.show('failed', words);
        return;
      }
      const ms = Math.min(EVENTS_RETRY_MAX_MS, EVENTS_RETRY_FIRST_MS * 2 ** failures);
      failures += 1;
      notice.textContent = `${words} Asking again in ${seconds(ms)}.`;
      await new Promise((resolve) => {
        setTimeout(resolve, ms);
        signal.addEventListener('abort', resolve, { once: true });
      });
    }
  }

  #onEvent({ name, value }) {
    const who = value.participant;
    switch (name) {
      case 'snapshot':
        this.#onSnapshot(value.participants ?? []);
        this.#onSpeaker(value.active_speaker);
        break;
      case 'joined':
        this.#onJoined(who, value.tracks ?? []);
        break;
      case 'left':
        this.#onLeft(who);
        break;
      case 'track_added':
        this.members.get(who)?.addTrack(value.track ?? value);
        break;
      case 'track_removed':
        this.members.get(who)?.removeTrack(value.track ?? value);
        break;
      case 'active_speaker':
        this.#onSpeaker(who);
        break;
    }
    this.#show();
  }

  #onSnapshot(participants) {
    const present = new Set(participants.map((participant) => participant.name));
    for (const name of [...this.members.keys()]) if (!present.has(name)) this.#onLeft(name);
    for (const { name, tracks } of participants) this.#onJoined(name, tracks ?? []);
  }

  #onJoined(name, tracks) {
    if (!name || (name === this.#name && this.session)) return;
    const known = this.members.get(name);
    if (known) {
      known.updateTracks(tracks);
      return;
    }
    const place = this.#root.querySelector('.tiles');
    const member = new Member(this.#room, name, tracks, place, () => this.#show());
    this.members.set(name, member);
  }

  #onSpeaker(name) {
    this.#tile?.speaks(name === this.#name);
    for (const member of this.members.values()) member.tile.speaks(member.name === name);
  }

  #onLeft(name) {
    this.members.get(name)?.close();
    this.members.delete(name);
  }

  #applyDevices() {
    const { camera, microphone } = this.#form.elements;
    for (const track of this.#stream?.getTracks() ?? []) {
      track.enabled = (track.kind === 'video' ? camera : microphone).checked;
    }
    this.#show();
  }

  #show() {
    const inside = this.#leaving !== null;
    const fields = this.#form.elements;
    fields.go.textContent = inside ? 'Leave' : 'Join';
    // A device that was not opened at the start has no track to switch on.
    fields.camera.disabled = inside && !this.#stream?.getVideoTracks().length;
    fields.microphone.disabled = inside && !this.#stream?.getAudioTracks().length;
    for (const part of this.#root.querySelectorAll('.inside')) part.hidden = !inside;
    for (const part of this.#root.querySelectorAll('.outside')) part.hidden = inside;
    this.#root.querySelector('.room-name').textContent = this.#room;
    this.#root.querySelector('.alone').hidden = !inside || this.members.size > 0;
    this.#root.querySelector('.address').textContent = this.#address();
    this.#showPeople();
    this.#showChoices();
  }

  #showPeople() {
    const lines = [...this.members.values()].map((member) => [member.name, member.words]);
    if (this.session) lines.unshift([this.#name, this.#ownWords()]);
    const list = this.#root.querySelector('.people');
    list.replaceChildren(...lines.map(([name, words]) => {
      const item = document.createElement('li');
      const strong = item.appendChild(document.createElement('strong'));
      strong.textContent = name;
      item.append(` ${words}`);
      return item;
    }));
    this.#root.querySelector('.people-count').textContent = String(lines.length);
  }

  #ownWords() {
    const on = (this.#stream?.getTracks() ?? []).filter((track) => track.enabled);
    const sent = on.map((track) => (track.kind === 'video' ? 'camera' : 'microphone'));
    return `you, ${sent.sort().join(' and ') || 'sending nothing'}`;
  }

  /** Keeps the list of whose plots can be shown, and the choice in it. */
  #showChoices() {
    const select = this.#root.querySelector('.plots-of');
    const names = [...this.members.keys()];
    const wanted = [...(this.session ? [['you', 'what you send']] : []),
      ...names.map((name) => [`from ${name}`, `what ${name} sends`])];
    const same = wanted.length === select.options.length &&
      wanted.every(([value], index) => select.options[index].value === value);
    if (same) return;
    const before = select.value;
    select.replaceChildren(...wanted.map(([value, text]) => new Option(text, value)));
    if (wanted.some(([value]) => value === before)) select.value = before;
    select.disabled = wanted.length === 0;
    if (select.value !== before) this.#followChosen();
  }

  #followChosen() {
    const { value } = this.#root.querySelector('.plots-of');
    const member = this.members.get(value.replace(/^from /, ''));
    if (value === 'you' && this.session) {
      this.panel.follow(this.session, this.#context, 'sent', this.#stream);
    } else if (member && value !== 'you') {
      this.panel.follow(member.session, this.#context, 'received');
    } else {
      this.panel.rest();
    }
  }

  #address() {
    return `${location.origin}${location.pathname}#room=${encodeURIComponent(this.#room)}`;
  }

  /** So that a reload, or the address sent to someone, leads to the same room. */
  #rememberAddress() {
    const hash = new URLSearchParams(location.hash.slice(1));
    hash.set('room', this.#room);
    history.replaceState(null, '', `#${hash}`);
  }

  async #copyAddress() {
    const button = this.#root.querySelector('.copy');
    try {
      await navigator.clipboard.writeText(this.#address());
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(this.#root.querySelector('.address'));
      button.textContent = 'Selected';
    }
    setTimeout(() => {
      button.textContent = 'Copy';
    }, 2_000);
  }

  async #listOpenRooms() {
    const place = this.#root.querySelector('.open-rooms');
    if (this.#leaving || this.#root.hidden || document.hidden) return;
    let open = [];
    try {
      open = await rooms();
    } catch {
      // Asking for the list may need a token; joining says so when it matters.
    }
    const lines = open.map(({ room, participants }) => {
      const item = document.createElement('li');
      const button = item.appendChild(document.createElement('button'));
      button.type = 'button';
      button.className = 'plain';
      button.textContent = room;
      button.addEventListener('click', () => {
        this.propose(room);
        this.#form.elements.name.focus();
      });
      const count = Array.isArray(participants) ? participants.length : participants;
      if (count !== undefined) item.append(` ${count} here`);
      return item;
    });
    place.replaceChildren(...lines);
    this.#root.querySelector('.no-rooms').hidden = lines.length > 0;
  }

  /** Looks for open rooms at once, when the tab comes into view. */
  look() {
    this.#listOpenRooms();
  }
}

/** These pictures are small already: a busy device is to drop frames rather than sharpness. */
function keepSize(sender) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = 'maintain-resolution';
  sender.setParameters(parameters).catch(() => {
    // A browser without this choice makes its own.
  });
}
