/** The microphone, or why there is none. */

import { deviceObstacle, explainDevice } from './words.js';

/**
 * @param {boolean} processing whether the browser reduces echo and noise and evens out the level
 * @returns {Promise<{stream?: MediaStream, obstacle?: string}>} one of the two
 */
export async function openMicrophone(processing) {
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
