/** The state of a session in words, with a button when there is something to press. */

export class Status {
  #place;
  #words;
  #retry;
  #notice;

  /**
   * @param {HTMLElement} place holds `.state-words`, `.state-retry` and `.notice`
   * @param {() => void} onRetry
   */
  constructor(place, onRetry) {
    this.#place = place;
    this.#words = place.querySelector('.state-words');
    this.#retry = place.querySelector('.state-retry');
    this.#notice = place.querySelector('.notice');
    this.#retry.addEventListener('click', onRetry);
  }

  /**
   * @param {import('./session.js').Phase} phase
   * @param {string} words
   */
  show(phase, words) {
    this.#place.dataset.phase = phase;
    // Written only when it changes: a screen reader speaks each write.
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#retry.hidden = phase !== 'retrying' && phase !== 'waiting';
  }

  /** Shows that nothing is going on. */
  rest(words) {
    this.show('idle', words);
  }

  /** Something a person should do; empty takes it away. */
  notice(words) {
    this.#notice.textContent = words;
    this.#notice.hidden = !words;
  }
}
