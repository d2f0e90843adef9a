/**
 * Listening to a stream with WebAudio: its level and its spectrum, and the built-in test tone.
 */

export const TONE_HZ = 440;
const TONE_AMPLITUDE = 0.25;

const WINDOW = 8192;
/** How often `Meter.tick` is to be called. Each call looks at the sound since the last one. */
export const TICK_MS = 100;
const TICKS_PER_LEVEL = 10;
/**
 * An analyser shows a sine of amplitude 1 at -13.56 dB: its Blackman window has a mean of 0.42
 * and half of the energy is at the negative frequency. Added back, a tone reads as its level.
 */
const SPECTRUM_OFFSET_DB = 20 * Math.log10(1 / (0.42 * 0.5));

export class Meter {
  /** Largest sample of the last tick, 0 to 1. */
  peak = 0;
  /**
   * Level of the last second, 0 to 1: the root mean square of the peaks of short windows, which
   * is what `totalAudioEnergy` of `getStats()` sums up.
   */
  level = null;
  /** In dB of full scale, one value per `hertz_per_bin`. */
  spectrum;
  hertz_per_bin;

  #source;
  #analyser;
  #samples = new Float32Array(WINDOW);
  #squares = [];

  /**
   * @param {AudioContext} context
   * @param {MediaStream} stream a stream with an audio track; a remote one must also be attached
   *   to a playing element, or the browser does not decode it
   */
  constructor(context, stream) {
    this.#source = context.createMediaStreamSource(stream);
    this.#analyser = new AnalyserNode(context, { fftSize: WINDOW, smoothingTimeConstant: 0.5 });
    this.#source.connect(this.#analyser);
    this.spectrum = new Float32Array(this.#analyser.frequencyBinCount).fill(-Infinity);
    this.hertz_per_bin = context.sampleRate / WINDOW;
  }

  tick() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const rate = this.hertz_per_bin * WINDOW;
    const first = Math.max(0, WINDOW - Math.round((rate * TICK_MS) / 1000));
    let peak = 0;
    for (let i = first; i < WINDOW; i += 1) peak = Math.max(peak, Math.abs(this.#samples[i]));
    this.peak = peak;
    this.#squares.push(peak * peak);
    if (this.#squares.length > TICKS_PER_LEVEL) this.#squares.shift();
    if (this.#squares.length === TICKS_PER_LEVEL) {
      const sum = this.#squares.reduce((total, square) => total + square, 0);
      this.level = Math.sqrt(sum / TICKS_PER_LEVEL);
    }
    this.#analyser.getFloatFrequencyData(this.spectrum);
    for (let i = 0; i < this.spectrum.length; i += 1) this.spectrum[i] += SPECTRUM_OFFSET_DB;
  }

  /**
   * The strongest frequency, in hertz; null in silence. Between two bins it is found by a
   * parabola through the three values around the peak.
   */
  get dominant_hz() {
    const spectrum = this.spectrum;
    let best = 1;
    for (let i = 2; i < spectrum.length - 1; i += 1) if (spectrum[i] > spectrum[best]) best = i;
    if (!(spectrum[best] > -70)) return null;
    const [left, top, right] = [spectrum[best - 1], spectrum[best], spectrum[best + 1]];
    const bend = left - 2 * top + right;
    const shift = Number.isFinite(bend) && bend < 0 ? (left - right) / (2 * bend) : 0;
    return (best + shift) * this.hertz_per_bin;
  }

  close() {
    this.#source.disconnect();
    this.#analyser.disconnect();
  }
}

/**
 * A steady tone as a stream, for a device without a microphone.
 *
 * @param {AudioContext} context
 * @returns {MediaStream} ends when its track is stopped
 */
export function testTone(context) {
  const oscillator = new OscillatorNode(context, { frequency: TONE_HZ });
  const gain = new GainNode(context, { gain: TONE_AMPLITUDE });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  oscillator.connect(gain).connect(out);
  oscillator.start();
  const [track] = out.stream.getAudioTracks();
  const stop = track.stop.bind(track);
  track.stop = () => {
    oscillator.stop();
    gain.disconnect();
    stop();
  };
  return out.stream;
}

/** @param {number | null} level 0 to 1 */
export function decibels(level) {
  return level > 0 ? 20 * Math.log10(level) : -Infinity;
}
