/** Someone else in the room: the WHEP session that receives them, and their tile. */

import { Session } from './session.js';
import { Tile } from './tile.js';

/** Tracks are announced one by one; asking after the last saves asking twice. */
const SETTLE_MS = 40;
const KIND_WORDS = { audio: 'microphone', video: 'camera' };

export class Member {
  name;
  tile;
  /** @type {Session} */
  session;

  #tracks;
  #onChange;
  #settling;

  /**
   * @param {string} room
   * @param {string} name
   * @param {Array<{mid: string, kind: string}>} tracks
   * @param {HTMLElement} place where the tile goes
   * @param {() => void} onChange called when `words` may have changed
   */
  constructor(room, name, tracks, place, onChange) {
    this.name = name;
    this.#tracks = tracks;
    this.#onChange = onChange;
    this.tile = new Tile(place, name, false);
    const path = `/whep/${encodeURIComponent(room)}/${encodeURIComponent(name)}`;
    this.session = new Session(path, (pc) => {
      pc.addTransceiver('audio', { direction: 'recvonly' });
      pc.addTransceiver('video', { direction: 'recvonly' });
    });
    this.session.addEventListener('state', () => this.#onState());
    this.session.addEventListener('media', () => this.tile.play(this.session.remote));
    this.session.addEventListener('sample', () => {
      this.tile.caption(this.session.sample, 'received');
    });
    this.#settle();
  }

  /** What this participant sends, and how receiving it goes. */
  get words() {
    const kinds = [...new Set(this.#tracks.map((track) => KIND_WORDS[track.kind] ?? track.kind))];
    return kinds.sort().join(' and ') || 'sends nothing yet';
  }

  updateTracks(tracks) {
    this.#tracks = tracks;
    this.#settle();
  }

  addTrack(track) {
    this.#tracks = [...this.#tracks.filter(({ mid }) => mid !== track.mid), track];
    this.#settle();
  }

  removeTrack(track) {
    this.#tracks = this.#tracks.filter(({ mid }) => mid !== track.mid);
    this.#onChange();
  }

  close() {
    clearTimeout(this.#settling);
    this.session.stop();
    this.tile.remove();
  }

  /** Starts the session, or starts it anew when it was negotiated before a kind was published. */
  #settle() {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      const { session } = this;
      if (session.phase === 'idle' || session.phase === 'failed') {
        session.start();
      } else if (session.phase === 'calling' || session.phase === 'joining') {
        this.#settle();
      } else if (session.phase === 'connected' && !this.#receivesAll()) {
        session.stop();
        session.start();
      }
      this.#onChange();
    }, SETTLE_MS);
  }

  #receivesAll() {
    const received = this.session.remote.getTracks().map((track) => track.kind);
    return this.#tracks.every(({ kind }) => !(kind in KIND_WORDS) || received.includes(kind));
  }

  #onState() {
    const { phase, words } = this.session;
    this.tile.say(phase === 'connected' ? '' : words);
  }
}
