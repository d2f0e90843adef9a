/** The microphone, or a test tone where there is none. */

import { testTone, TONE_HZ } from './meter.js';
import { deviceObstacle, explainDevice } from './words.js';

/**
 * Opens the microphone; without one, says why and gives the test tone.
 *
 * @param {AudioContext} context
 * @param {boolean} processing see `openMicrophone`
 * @param {import('./status.js').Status} status
 * @returns {Promise<MediaStream>}
 */
export async function openInput(context, processing, status) {
  status.rest('Waiting for the browser to give this page the microphone.');
  const { stream, obstacle } = await openMicrophone(processing);
  if (stream) return stream;
  status.notice(`${obstacle} Until then a ${TONE_HZ} Hz test tone is sent instead.`);
  return testTone(context);
}

/**
 * @param {boolean} processing whether the browser reduces echo and noise and evens out the level
 * @returns {Promise<{stream?: MediaStream, obstacle?: string}>} one of the two
 */
async function openMicrophone(processing) {
  const obstacle = deviceObstacle();
  if (obstacle) return { obstacle };
  const audio = {
    echoCancellation: processing,
    noiseSuppression: processing,
    autoGainControl: processing,
  };
  try {
    return { stream: await navigator.mediaDevices.getUserMedia({ audio }) };
  } catch (error) {
    return { obstacle: explainDevice(error, 'microphone') };
  }
}
