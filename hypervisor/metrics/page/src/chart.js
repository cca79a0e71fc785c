// uPlot, set up once for all charts: colours from the style sheet, a reading line instead of a legend, keys, a heat map.
import uPlot from 'uplot';
import {h, setAttribute, setText} from './dom.js';
import {duration, joined, tidy} from './units.js';
import {rowUpper} from './distribution.js';

const sync = uPlot.sync('time');
const narrow = () => window.matchMedia('(max-width: 560px)').matches;

/** A colour of the style sheet. @param {string} name */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Borders at 1, 2, 5 (or 1 only) times powers of ten. */
function logSplits(min, max) {
  const result = [];
  const decades = Math.log10(max / min);
  const factors = decades > 3 ? [1] : decades > 1.3 ? [1, 3] : [1, 2, 5];
  for (let exponent = Math.floor(Math.log10(min)); exponent <= Math.ceil(Math.log10(max)); ++exponent) {
    for (const factor of factors) {
      const value = factor * 10 ** exponent;
      if (value >= min * 0.999 && value <= max * 1.001) result.push(value);
    }
  }
  return result;
}

const clock = (seconds, withSeconds) => new Date(seconds * 1000).toLocaleTimeString('en-GB',
  withSeconds ? {} : {hour: '2-digit', minute: '2-digit'});

/** Five stops of one hue, from hardly anything to full. */
function heatColors() {
  const stops = [0, 1, 2, 3, 4].map((i) => color(`--heat-${i}`).match(/[\da-f]{2}/gi).map((pair) => parseInt(pair, 16)));
  return Array.from({length: 64}, (_, i) => {
    const at = (i / 63) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mix = stops[low].map((from, channel) => Math.round(from + (stops[low + 1][channel] - from) * (at - low)));
    return `rgb(${mix.join(' ')})`;
  });
}

/**
 * A chart over time, with its reading line.
 * @param {{title: string, lines: {name: string, color: string, dash?: number[], width?: number, fill?: boolean}[],
 *          format: (value: number | null) => import('./units.js').Quantity, height?: number, logarithmic?: boolean,
 *          stacked?: boolean}} options color: a custom property; logarithmic: durations, with a heat map
 */
export class Chart {
  #plot = null;
  #data = null;
  #heat = null;
  #ceiling = 0;
  #window = {seconds: 300, step: 2};
  #cursor = null;

  constructor(options) {
    this.options = options;
    this.host = h('div.plot', {tabindex: '0', role: 'group',
                               'aria-label': `${options.title}: chart. Left and right arrow keys read it, Escape ends that; the table has the same numbers.`,
                               onkeydown: (event) => this.#key(event), onblur: () => this.#read(null)});
    this.reading = h('dl.reading');
    this.when = h('span.when');
    this.said = h('span.hidden', {'aria-live': 'polite'});
    this.element = h('div.chart', {}, h('div.readings', {}, this.reading, this.when), this.host, this.said);
    this.#entries = options.lines.map(({name, color: property, dash}) => {
      const value = h('dd');
      const swatch = h(`i.swatch${dash ? '.dashed' : ''}`, {'aria-hidden': 'true'});
      swatch.style.setProperty('--swatch', `var(${property})`);
      const entry = h('div', {}, h('dt', {}, swatch, name), value);
      this.reading.append(entry);
      return {entry, value};
    });
    new ResizeObserver(() => this.#resize()).observe(this.host);
  }

  #entries;

  /**
   * @param {{times: number[], lines: (number | null)[][], heat?: object, ceiling?: number}} data lines as in the options;
   *        ceiling: always in sight
   * @param {{seconds: number, step: number}} window
   */
  update(data, window) {
    if (window !== this.#window) this.#drop();
    this.#window = window;
    this.#heat = data.heat ?? null;
    this.#ceiling = data.ceiling ?? 0;
    const series = this.options.stacked ? stack(data.lines) : data.lines;
    this.#data = [data.times, ...series];
    this.raw = data.lines;
    setAttribute(this.host, 'data-nothing', data.lines.every((line) => line.every((value) => value == null)) ? '' : null);
    if (this.#plot === null) this.#make();
    else this.#plot.setData(this.#data);
    this.#show();
  }

  /** After a change of colours. */
  restyle() {
    this.#drop();
    if (this.#data !== null) this.#make();
  }

  #drop() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #height() {
    return this.options.height ?? (narrow() ? 150 : 176);
  }

  #resize() {
    if (this.#plot !== null && this.host.clientWidth > 0) this.#plot.setSize({width: this.host.clientWidth, height: this.#height()});
  }

  #make() {
    if (this.host.clientWidth === 0) return;
    const [ink, grid] = [color('--ink-2'), color('--grid')];
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const {lines, format, logarithmic} = this.options;
    const colors = logarithmic ? heatColors() : [];
    this.#plot = new uPlot({
      width: this.host.clientWidth,
      height: this.#height(),
      legend: {show: false},
      padding: [8, 2, 0, 0],
      cursor: {y: false, drag: {x: false, y: false}, points: {size: 6}, sync: {key: sync.key, scales: ['x', null]}},
      scales: {
        x: {time: true, range: () => {
          const end = this.#data[0][this.#data[0].length - 1] + this.#window.step;
          return [end - this.#window.seconds, end];
        }},
        y: logarithmic
          ? {distr: 3, range: () => this.#durations()}
          : {range: (_, __, max) => [0, Math.max((max ?? 0) * 1.08, this.#ceiling * 1.02, 1e-9)]},
      },
      axes: [
        {stroke: ink, font, size: 22, gap: 3, space: 70, grid: {show: false}, ticks: {stroke: grid, width: 1, size: 4},
         incrs: [10, 15, 30, 60, 120, 300].filter((each) => this.#window.seconds <= 60 || each >= 60),
         values: (_, ticks) => ticks.map((time) => clock(time, this.#window.seconds <= 60))},
        {stroke: ink, font, size: 52, gap: 6, space: 28, grid: {stroke: grid, width: 1}, ticks: {show: false},
         ...(logarithmic ? {splits: (_, __, min, max) => logSplits(min, max), filter: (_, splits) => splits} : {}),
         values: (_, ticks) => ticks.map((tick) => (tick === 0 ? '0' : joined(tidy((logarithmic ? duration : format)(tick)))))},
      ],
      series: [{}, ...lines.map(({color: property, dash, width = 1.5, fill}) => ({
        stroke: color(property),
        width,
        dash,
        ...(fill ? {fill: `${color(property)}${this.options.stacked ? 'b0' : '33'}`} : {}),
        points: {show: (plot, index) => logarithmic !== true && lonely(plot.data[index]), size: 4},
        spanGaps: false,
        // A bin's value is that of its whole width.
        ...(this.options.stacked ? {paths: uPlot.paths.stepped({align: 1})} : {}),
      }))],
      ...(this.options.stacked ? {bands: lines.slice(1).map((_, i) => ({series: [i + 2, i + 1]}))} : {}),
      hooks: {
        drawAxes: [(plot) => this.#drawHeat(plot, colors)],
        setCursor: [(plot) => this.#read(plot.cursor.left >= 0 ? plot.cursor.idx ?? null : null)],
      },
    }, this.#data, this.host);
    for (const canvas of this.host.querySelectorAll('canvas')) canvas.setAttribute('aria-hidden', 'true');
  }

  /** @returns {[number, number]} */
  #durations() {
    if (this.#heat === null || this.#heat.low > this.#heat.high) return [1e-6, 1e-3];
    const low = rowUpper(this.#heat.low - 2);
    const high = rowUpper(this.#heat.high + 1);
    return high / low < 8 ? [low / 2, high * 2] : [low, high];
  }

  #drawHeat(plot, colors) {
    const heat = this.#heat;
    if (heat === null || heat.most === 0) return;
    const {ctx} = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    const scale = 63 / Math.log1p(heat.most);
    for (const {column, row, count} of heat.cells) {
      const left = Math.round(plot.valToPos(heat.times[column], 'x', true));
      const right = Math.round(plot.valToPos(heat.times[column] + this.#window.step, 'x', true));
      const top = Math.round(plot.valToPos(rowUpper(row), 'y', true));
      const bottom = Math.round(plot.valToPos(rowUpper(row - 1), 'y', true));
      ctx.fillStyle = colors[Math.round(Math.log1p(count) * scale)];
      ctx.fillRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
    }
    ctx.restore();
  }

  #key(event) {
    const length = this.#data?.[0].length ?? 0;
    if (this.#plot === null || length === 0) return;
    const step = {ArrowLeft: -1, ArrowRight: 1, Home: -length, End: length}[event.key];
    if (event.key === 'Escape') this.#plot.setCursor({left: -10, top: -10});
    if (step === undefined) return;
    event.preventDefault();
    const at = Math.min(length - 1, Math.max(0, (this.#cursor ?? length) + step));
    this.#plot.setCursor({left: this.#plot.valToPos(this.#data[0][at], 'x'), top: 10});
    this.#read(at);
    setText(this.said, `${this.when.textContent}: ${this.options.lines.map(({name}, i) => `${name} ${joined(this.options.format(this.raw[i][at]))}`).join(', ')}`);
  }

  #read(index) {
    this.#cursor = index;
    this.#show();
  }

  #show() {
    if (this.#data === null) return;
    const times = this.#data[0];
    const at = this.#cursor ?? times.length - 1;
    // The last bin has just begun; the one before tells more.
    const shown = this.#cursor === null && at > 0 ? at - 1 : at;
    this.#entries.forEach(({value}, i) => setText(value, joined(this.options.format(this.raw[i]?.[shown] ?? null))));
    setText(this.when, this.#cursor === null || times[at] === undefined ? '' : clock(times[at], true));
  }
}

/** Whether a line would be invisible: no value has a neighbour. */
function lonely(values) {
  return values.every((value, i) => value == null || (values[i - 1] == null && values[i + 1] == null));
}

/** Each line on top of those before. */
function stack(lines) {
  let below = [];
  return lines.map((line) => (below = line.map((value, i) => (value == null && below[i] == null ? null : (value ?? 0) + (below[i] ?? 0)))));
}
