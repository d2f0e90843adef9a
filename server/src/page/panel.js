/** The six plots of one session: level, spectrum, round trip, jitter, loss and bitrate. */

import { decibels, Meter, TICK_MS } from './meter.js';
import { minus, SpectrumPlot, TimePlot } from './plot.js';

const RECEIVED = '--received';
const SENT = '--sent';
const BOTH = [RECEIVED, SENT];
const NEITHER = '--ink';
const LEVEL_FLOOR_DB = -60;

/** What each plot is; `read` takes the value of a sample, `write` gives its text with unit. */
const MEASURES = [
  {
    key: 'level',
    title: 'Level',
    unit: 'dB of full scale',
    series: BOTH,
    scale: { floor: LEVEL_FLOOR_DB, top: 0, fixed: true, tick: (value) => minus(value) },
    write: (level) => (level > 0 ? `${minus(decibels(level).toFixed(1))} dB` : 'silent'),
  },
  {
    key: 'spectrum',
    title: 'Spectrum',
    unit: 'dB of full scale',
    series: BOTH,
    write: (hertz) => `${significant(hertz)} Hz`,
  },
  {
    key: 'round_trip',
    title: 'Round trip',
    unit: 'ms',
    series: [NEITHER],
    scale: { floor: 0, top: 2, tick: significant },
    read: (sample) => [sample.round_trip_ms],
    write: (ms) => `${significant(ms)} ms`,
  },
  {
    key: 'jitter',
    title: 'Jitter',
    unit: 'ms',
    series: BOTH,
    scale: { floor: 0, top: 5, tick: significant },
    read: (sample) => [sample.received.jitter_ms, sample.sent.jitter_ms],
    write: (ms) => `${significant(ms)} ms`,
  },
  {
    key: 'loss',
    title: 'Loss',
    unit: 'per cent',
    series: BOTH,
    scale: { floor: 0, top: 2, tick: significant },
    read: (sample) => [sample.received.loss_percent, sample.sent.loss_percent],
    write: (percent) => `${significant(percent)} %`,
  },
  {
    key: 'bitrate',
    title: 'Bitrate',
    unit: 'kbit/s',
    series: BOTH,
    scale: { floor: 0, top: 50_000, tick: (bps) => significant(bps / 1000) },
    read: (sample) => [sample.received.bitrate_bps, sample.sent.bitrate_bps],
    write: bitrate,
  },
];

export class Panel {
  /**
   * The values last written, by measure: `[received, sent]`. Tests compare them with
   * `getStats()` and with the server's figures.
   *
   * @type {Object<string, Array<number | null>>}
   */
  plotted = {};

  #cards;
  #place;
  #session = null;
  #unfollow = null;
  #meters = [null, null];

  /**
   * @param {HTMLElement} place filled with the plots
   * @param {HTMLTemplateElement} template one plot
   */
  constructor(place, template) {
    this.#place = place;
    this.#cards = MEASURES.map((measure) => new Card(measure, place, template));
    setInterval(() => this.#tick(), TICK_MS);
    this.#blank();
  }

  /**
   * Shows a session, in place of the one before.
   *
   * @param {import('./session.js').Session} session
   * @param {AudioContext} context to listen with
   * @param {'received' | 'sent' | 'both'} way which direction it has, and so which values show
   * @param {MediaStream | null} [sent] the stream the session sends, if any
   */
  follow(session, context, way, sent = null) {
    this.rest();
    this.#place.dataset.way = way;
    this.#session = session;
    this.#unfollow = new AbortController();
    const { signal } = this.#unfollow;
    session.addEventListener('sample', () => this.#takeSample(), { signal });
    // Each connection brings a new stream.
    const listen = () => this.#listen(context, [session.remote, sent]);
    session.addEventListener('media', listen, { signal });
    listen();
  }

  /** Shows no session. */
  rest() {
    this.#unfollow?.abort();
    this.#session = null;
    this.#listen(null, [null, null]);
    for (const card of this.#cards) card.clear();
    this.#blank();
  }

  #listen(context, streams) {
    for (const meter of this.#meters) meter?.close();
    this.#meters = streams.map((stream) =>
      stream?.getAudioTracks().length ? new Meter(context, stream) : null);
    this.#card('spectrum').show(this.#meters);
  }

  #tick() {
    const now_ms = Date.now();
    for (const meter of this.#meters) meter?.tick();
    const levels = this.#meters.map((meter) => meter?.level ?? null);
    const peaks = this.#meters.map((meter) => (meter ? decibels(meter.peak) : null));
    this.#write('level', levels);
    this.#write('spectrum', this.#meters.map((meter) => meter?.dominant_hz ?? null));
    if (this.#session) this.#card('level').push(now_ms, peaks);
    // Ten pictures a second move a minute smoothly over any screen, and leave the processor to
    // the call. A hidden panel has no width and draws nothing.
    requestAnimationFrame(() => {
      for (const card of this.#cards) card.draw(now_ms);
    });
  }

  #takeSample() {
    const sample = this.#session.sample;
    for (const measure of MEASURES) {
      if (!measure.read) continue;
      const values = sample ? measure.read(sample) : measure.series.map(() => null);
      this.#card(measure.key).push(sample?.at_ms ?? Date.now(), values);
      this.#write(measure.key, values);
    }
  }

  #write(key, values) {
    this.plotted[key] = values;
    this.#card(key).write(values);
  }

  #blank() {
    for (const measure of MEASURES) this.#write(measure.key, measure.series.map(() => null));
  }

  #card(key) {
    return this.#cards[MEASURES.findIndex((measure) => measure.key === key)];
  }
}

/** One plot with its title and the latest values in words. */
class Card {
  #measure;
  #plot;
  #outputs;
  #written = [];

  constructor(measure, place, template) {
    this.#measure = measure;
    const card = template.content.firstElementChild.cloneNode(true);
    card.dataset.measure = measure.key;
    card.querySelector('.plot-name').textContent = measure.title;
    card.querySelector('.plot-unit').textContent = measure.unit;
    const list = card.querySelector('.plot-values');
    this.#outputs = measure.series.map((colour) => {
      const item = list.appendChild(document.createElement('li'));
      const name = { [RECEIVED]: 'received', [SENT]: 'sent', [NEITHER]: 'there and back' }[colour];
      item.dataset.series = name;
      const value = item.appendChild(document.createElement('span'));
      value.className = 'plot-value';
      item.append(` ${name}`);
      return value;
    });
    const canvas = card.querySelector('canvas');
    canvas.setAttribute('aria-label', `${measure.title}; the latest values are written above.`);
    this.#plot = measure.scale
      ? new TimePlot(canvas, { ...measure.scale, series: measure.series })
      : new SpectrumPlot(canvas);
    place.append(card);
  }

  push(at_ms, values) {
    values.forEach((value, index) => this.#plot.push(index, at_ms, value));
  }

  show(meters) {
    // What is received lies above what is sent.
    this.#plot.show([[SENT, meters[1]], [RECEIVED, meters[0]]]
      .filter(([, meter]) => meter)
      .map(([colour, meter]) => ({ colour, meter })));
  }

  write(values) {
    values.forEach((value, index) => {
      const text = value === null ? '\u2013' : this.#measure.write(value);
      if (this.#written[index] === text) return;
      this.#written[index] = text;
      this.#outputs[index].textContent = text;
    });
  }

  draw(now_ms) {
    this.#plot.draw(now_ms);
  }

  clear() {
    this.#plot.clear?.();
    this.#plot.show?.([]);
  }
}

/** @param {number} bps bits per second */
export function bitrate(bps) {
  return bps >= 999_500 ? `${significant(bps / 1e6)} Mbit/s` : `${significant(bps / 1e3)} kbit/s`;
}

/** Three significant digits: rounding never hides more than half a percent. */
function significant(value) {
  if (value === 0) return '0';
  if (value >= 1000) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}
