/** The last 20 seconds of a call with an agent: what was heard, what was decided, what was said. */

import { label, line, prepare, rule } from './plot.js';

const SPAN_MS = 20_000;
const LEFT = 64;
const RIGHT = 6;
const LEVEL = { top: 8, height: 64, floor: -70 };
const YOU = { top: 84, height: 18 };
const AGENT = { top: 110, height: 18 };
const FOOT = 16;

export class Timeline {
  #canvas;
  #levels = [];
  #speech = [];
  #marks = [];
  #you = [];
  #agent = [];
  /** The call's clock when the last event came, and the page's clock then. */
  #clock = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
  }

  clear() {
    this.#levels = [];
    this.#speech = [];
    this.#marks = [];
    this.#you = [];
    this.#agent = [];
    this.#clock = null;
  }

  /** @param {number} at_ms on the call's clock: the newest there is */
  advance(at_ms) {
    if (this.#clock && at_ms < this.#clock.at_ms) return;
    this.#clock = { at_ms, now_ms: performance.now() };
  }

  /** @param {number} db  @param {number} speech 0 to 1 */
  level(at_ms, db, speech) {
    this.#levels.push({ at_ms, value: db });
    this.#speech.push({ at_ms, value: speech });
  }

  /** An event worth a line across, with a word or none. */
  mark(at_ms, text) {
    this.#marks.push({ at_ms, text });
  }

  /** The person speaks from then on. */
  youFrom(at_ms) {
    this.#you.push({ from_ms: at_ms, to_ms: null, ended_ms: null });
  }

  /** The person paused. */
  youUntil(at_ms) {
    const last = this.#you.at(-1);
    if (last && last.to_ms === null) last.to_ms = at_ms;
  }

  /** The turn was found to be over. */
  youEnded(at_ms) {
    const last = this.#you.at(-1);
    if (last) last.ended_ms = at_ms;
  }

  agentFrom(at_ms) {
    if (this.#agent.at(-1)?.to_ms !== null) this.#agent.push({ from_ms: at_ms, to_ms: null });
  }

  agentUntil(at_ms) {
    const last = this.#agent.at(-1);
    if (last && last.to_ms === null) last.to_ms = at_ms;
  }

  draw() {
    const pen = prepare(this.#canvas);
    if (!pen) return;
    const { context, width, height, style } = pen;
    const now_ms = this.#clock ? this.#clock.at_ms + performance.now() - this.#clock.now_ms : 0;
    this.#forget(now_ms - SPAN_MS - 2_000);
    const right = width - RIGHT;
    const x = (at_ms) => right - ((now_ms - at_ms) / SPAN_MS) * (right - LEFT);
    const colour = (name) => style.getPropertyValue(name);

    label(pen, 'Level', LEFT - 8, LEVEL.top + LEVEL.height / 2, 'right', 'middle');
    label(pen, 'You', LEFT - 8, YOU.top + YOU.height / 2, 'right', 'middle');
    label(pen, 'Agent', LEFT - 8, AGENT.top + AGENT.height / 2, 'right', 'middle');
    rule(pen, LEFT, LEVEL.top + LEVEL.height, right, LEVEL.top + LEVEL.height);
    for (const ago_s of [20, 15, 10, 5, 0]) {
      const text = ago_s ? `${ago_s} s ago` : 'now';
      const align = ago_s === 20 ? 'left' : ago_s ? 'center' : 'right';
      label(pen, text, x(now_ms - ago_s * 1_000), height - 1, align, 'bottom');
    }

    context.save();
    context.beginPath();
    context.rect(LEFT, 0, right - LEFT + 1, height - FOOT);
    context.clip();
    const up = (part) => LEVEL.top + LEVEL.height * (1 - Math.min(1, Math.max(0, part)));
    // Speech as an area behind the level: how sure the server is that this is a voice.
    context.fillStyle = colour('--rule');
    context.beginPath();
    this.#speech.forEach(({ at_ms }, index) => {
      if (index === 0) context.moveTo(x(at_ms), up(0));
    });
    for (const { at_ms, value } of this.#speech) context.lineTo(x(at_ms), up(value));
    if (this.#speech.length) context.lineTo(x(this.#speech.at(-1).at_ms), up(0));
    context.fill();
    context.strokeStyle = colour('--sent');
    line(context, this.#levels, (point) => x(point.at_ms),
      (point) => up(1 - point.value / LEVEL.floor));
    for (const { from_ms, to_ms, ended_ms } of this.#you) {
      const until = x(to_ms ?? now_ms);
      context.fillStyle = colour('--sent');
      context.fillRect(x(from_ms), YOU.top, until - x(from_ms), YOU.height);
      // The wait between the last word and the decision is hatched by its outline alone.
      if (ended_ms !== null && to_ms !== null) {
        context.strokeRect(until, YOU.top + 0.75, x(ended_ms) - until, YOU.height - 1.5);
      }
    }
    context.fillStyle = colour('--received');
    for (const { from_ms, to_ms } of this.#agent) {
      const from = x(from_ms);
      context.fillRect(from, AGENT.top, x(to_ms ?? now_ms) - from, AGENT.height);
    }
    context.setLineDash([2, 3]);
    context.strokeStyle = colour('--muted');
    for (const { at_ms, text } of this.#marks) {
      const at = Math.round(x(at_ms)) + 0.5;
      context.beginPath();
      context.moveTo(at, LEVEL.top);
      context.lineTo(at, AGENT.top + AGENT.height);
      context.stroke();
      label(pen, text, at + 3, LEVEL.top, 'left', 'top');
    }
    context.restore();
  }

  #forget(before_ms) {
    const old = (points) => points.length && points[0].at_ms < before_ms;
    while (old(this.#levels)) this.#levels.shift();
    while (old(this.#speech)) this.#speech.shift();
    while (old(this.#marks)) this.#marks.shift();
    const over = (bars) => bars.length && bars[0].to_ms !== null && bars[0].to_ms < before_ms;
    while (over(this.#you)) this.#you.shift();
    while (over(this.#agent)) this.#agent.shift();
  }
}
