/** One participant's picture, name and figures. */

import { bitrate } from './panel.js';

export class Tile {
  /** Whether a picture shows. */
  pictured = false;
  /** When the present picture first showed, on the clock of `performance.now()`. */
  pictured_at = 0;

  #figure;
  #video;
  #words;
  #figures;

  /**
   * @param {HTMLElement} place
   * @param {string} name
   * @param {boolean} own our own picture: mirrored, and silent
   */
  constructor(place, name, own) {
    const template = document.getElementById('tile');
    this.#figure = template.content.firstElementChild.cloneNode(true);
    this.#figure.classList.toggle('own', own);
    this.#figure.dataset.name = name;
    this.#video = this.#figure.querySelector('video');
    this.#video.muted = own;
    this.#video.setAttribute('aria-label', own ? 'Your own picture' : `Picture of ${name}`);
    this.#words = this.#figure.querySelector('.tile-words');
    this.#figures = this.#figure.querySelector('.tile-figures');
    this.#figure.querySelector('.tile-initial').textContent = [...name][0]?.toUpperCase() ?? '';
    this.#figure.querySelector('.tile-name').textContent = own ? `${name} (you)` : name;
    // The initial stands in until there is a picture, and again when it is taken away.
    const look = () => {
      const pictured = this.#video.videoWidth > 0;
      if (pictured && !this.pictured) this.pictured_at = performance.now();
      this.pictured = pictured;
      this.#figure.classList.toggle('pictured', pictured);
    };
    for (const event of ['resize', 'loadedmetadata', 'emptied']) {
      this.#video.addEventListener(event, look);
    }
    place.append(this.#figure);
  }

  /** @param {MediaStream} stream */
  play(stream) {
    if (this.#video.srcObject !== stream) this.#video.srcObject = stream;
    // Joining was a gesture, so it may play; a newer stream interrupts this promise.
    this.#video.play().catch(() => {});
  }

  /** What stands in the way of the picture; empty when nothing does. */
  say(words) {
    if (this.#words.textContent !== words) this.#words.textContent = words;
  }

  /**
   * @param {import('./sampler.js').Sample | null} sample
   * @param {'sent' | 'received'} way
   */
  caption(sample, way) {
    const parts = [];
    if (sample?.picture) {
      const { width, height, frames_per_second } = sample.picture;
      parts.push(`${width}\u00d7${height}`, `${Math.round(frames_per_second)} fps`);
    }
    const rate = sample?.[way].bitrate_bps;
    if (rate) parts.push(bitrate(rate));
    this.#figures.textContent = parts.join(' \u00b7 ');
  }

  speaks(speaking) {
    this.#figure.classList.toggle('speaking', speaking);
  }

  remove() {
    this.#video.srcObject = null;
    this.#figure.remove();
  }
}
