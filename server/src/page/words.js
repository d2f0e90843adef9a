/** Errors as sentences that say what to do. */

import { Problem } from './api.js';

/** Why this page can have no camera or microphone at all; null when it can. */
export function deviceObstacle() {
  if (navigator.mediaDevices?.getUserMedia) return null;
  if (window.isSecureContext) return 'This browser has no way to capture sound or pictures.';
  const local = `http://localhost:${location.port || 80}/`;
  return 'Browsers give a microphone or camera only to https pages and to localhost. ' +
    `On the server's own machine open ${local}; elsewhere start the server with --tls-cert ` +
    'and --tls-key, or with --tls-self-signed for a trial.';
}

/**
 * @param {unknown} error what `getUserMedia` threw
 * @param {string} device "microphone", "camera" or both, as a noun phrase
 */
export function explainDevice(error, device) {
  switch (error?.name) {
    case 'NotAllowedError':
      return `The browser keeps the ${device} from this page. Open the site settings beside ` +
        'the address, allow it, and start again.';
    case 'NotFoundError':
      return `No ${device} was found. Connect one and start again.`;
    case 'NotReadableError':
    case 'AbortError':
      return `The ${device} could not be opened; another program may be using it. Close that ` +
        'program and start again.';
    default:
      return `The ${device} could not be opened (${error?.message ?? error}).`;
  }
}

/** @param {unknown} error what a request or a session threw */
export function explain(error) {
  if (error?.name === 'TimeoutError') {
    return 'The server took longer than 10 seconds to answer.';
  }
  if (!(error instanceof Problem)) return sentence(error?.message ?? String(error));
  const said = sentence(error.detail || error.title);
  switch (error.status) {
    case 401:
      return `${said} Enter an access token at the foot of this page, or open the page with ` +
        '#token=… at the end of its address.';
    case 403:
      return `${said} Ask for a token that covers this room and this use.`;
    case 429:
      return `${said} Too many requests came from here.`;
    case 503:
      return error.detail ? said : 'The server is full or is stopping.';
    default:
      return said;
  }
}

/** @param {number} ms a delay, in words: "1 second", "4 seconds" */
export function seconds(ms) {
  const count = Math.max(1, Math.round(ms / 1000));
  return count === 1 ? '1 second' : `${count} seconds`;
}

function sentence(text) {
  const trimmed = String(text).trim();
  if (!trimmed) return 'Something went wrong.';
  const first = trimmed[0].toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}
