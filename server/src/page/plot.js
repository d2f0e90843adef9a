/** Small live plots on a canvas. Colours come from the style sheet, so both themes hold. */

const SPAN_MS = 60_000;
const MARGIN = { left: 34, right: 6, top: 6, bottom: 16 };
const LOWEST_HZ = 50;
const HIGHEST_HZ = 16_000;

/** A value over the last minute, newest at the right. */
export class TimePlot {
  #canvas;
  #scale;
  #series;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} scale
   * @param {string[]} scale.series a CSS variable for the colour of each line
   * @param {number} scale.floor the lowest value shown
   * @param {number} scale.top the highest value shown at first; grows with the values
   * @param {boolean} [scale.fixed] `top` never grows
   * @param {(value: number) => string} scale.tick writes a value at the axis
   */
  constructor(canvas, scale) {
    this.#canvas = canvas;
    this.#scale = scale;
    this.clear();
  }

  clear() {
    this.#series = this.#scale.series.map(() => []);
  }

  /** @param {number | null} value null leaves a gap */
  push(index, at_ms, value) {
    const points = this.#series[index];
    points.push({ at_ms, value });
    while (points.length && points[0].at_ms < at_ms - SPAN_MS - 2_000) points.shift();
  }

  draw(now_ms) {
    const pen = prepare(this.#canvas);
    if (!pen) return;
    const { context, width, height, style } = pen;
    const { floor, tick } = this.#scale;
    const top = this.#top();
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const x = (at_ms) => right - ((now_ms - at_ms) / SPAN_MS) * (right - MARGIN.left);
    const y = (value) => bottom - ((value - floor) / (top - floor)) * (bottom - MARGIN.top);

    for (const part of [0, 0.5, 1]) {
      const value = floor + part * (top - floor);
      rule(pen, MARGIN.left, y(value), right, y(value));
      label(pen, tick(value), MARGIN.left - 6, y(value), 'right', 'middle');
    }
    for (const ago_s of [60, 30, 0]) {
      const align = ago_s === 60 ? 'left' : ago_s === 0 ? 'right' : 'center';
      const text = ago_s === 0 ? 'now' : `${ago_s} s ago`;
      label(pen, text, x(now_ms - ago_s * 1000), height - 1, align, 'bottom');
    }

    context.save();
    context.beginPath();
    context.rect(MARGIN.left, 0, right - MARGIN.left + 2, height);
    context.clip();
    this.#series.forEach((points, index) => {
      context.strokeStyle = style.getPropertyValue(this.#scale.series[index]);
      line(context, points, (point) => x(point.at_ms),
        (point) => y(Math.min(top, Math.max(floor, point.value))));
    });
    context.restore();
  }

  #top() {
    const { top, fixed } = this.#scale;
    if (fixed) return top;
    let highest = top;
    for (const points of this.#series) {
      for (const { value } of points) highest = Math.max(highest, value ?? 0);
    }
    return highest === top ? top : niceAbove(highest * 1.05);
  }
}

/** Level over frequency, both logarithmic. */
export class SpectrumPlot {
  #canvas;
  #lines = [];

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** @param {Array<{colour: string, meter: import('./meter.js').Meter}>} lines */
  show(lines) {
    this.#lines = lines;
  }

  draw() {
    const pen = prepare(this.#canvas);
    if (!pen) return;
    const { context, width, height, style } = pen;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const octaves = Math.log(HIGHEST_HZ / LOWEST_HZ);
    const span = right - MARGIN.left;
    const x = (hertz) => MARGIN.left + (Math.log(hertz / LOWEST_HZ) / octaves) * span;
    const y = (db) => bottom - ((db + 100) / 100) * (bottom - MARGIN.top);

    for (const db of [0, -50, -100]) {
      rule(pen, MARGIN.left, y(db), right, y(db));
      label(pen, minus(db), MARGIN.left - 6, y(db), 'right', 'middle');
    }
    for (const [hertz, text] of [[100, '100 Hz'], [1_000, '1 kHz'], [10_000, '10 kHz']]) {
      rule(pen, x(hertz), MARGIN.top, x(hertz), bottom);
      label(pen, text, x(hertz), height - 1, 'center', 'bottom');
    }
    for (const { colour, meter } of this.#lines) {
      context.strokeStyle = style.getPropertyValue(colour);
      line(context, columns(meter, x, width), (point) => point.x,
        (point) => y(Math.min(0, Math.max(-100, point.value))));
    }
  }
}

/** U+2212 for a negative number, as in print. */
export function minus(value) {
  return String(value).replace('-', '\u2212');
}

/** The loudest bin under each pixel column, so that a narrow tone never falls between two. */
function columns(meter, x, width) {
  const points = [];
  for (let bin = 1; bin < meter.spectrum.length; bin += 1) {
    const hertz = bin * meter.hertz_per_bin;
    if (hertz < LOWEST_HZ) continue;
    if (hertz > HIGHEST_HZ) break;
    const at = x(hertz);
    const last = points[points.length - 1];
    const value = meter.spectrum[bin];
    if (last && Math.floor(last.x) === Math.floor(at) && at < width) {
      last.value = Math.max(last.value, value);
    } else {
      points.push({ x: at, value });
    }
  }
  return points;
}

export function prepare(canvas) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return null;
  const density = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
  const context = canvas.getContext('2d');
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineWidth = 1.5;
  context.lineJoin = 'round';
  const style = getComputedStyle(canvas);
  context.font = `11px ${style.fontFamily}`;
  return { context, width, height, style };
}

export function rule({ context, style }, x0, y0, x1, y1) {
  context.save();
  context.strokeStyle = style.getPropertyValue('--rule');
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
  context.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.stroke();
  context.restore();
}

export function label({ context, style }, text, x, y, align, baseline) {
  context.fillStyle = style.getPropertyValue('--muted');
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(text, x, y);
}

export function line(context, points, x, y) {
  let drawing = false;
  context.beginPath();
  for (const point of points) {
    if (point.value === null) {
      drawing = false;
      continue;
    }
    if (drawing) context.lineTo(x(point), y(point));
    else context.moveTo(x(point), y(point));
    drawing = true;
  }
  context.stroke();
}

/** The next of 1, 2, 5, 10, 20, 50 ... */
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}
