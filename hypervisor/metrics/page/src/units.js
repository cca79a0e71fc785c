// Numbers as people read them: three significant digits, the unit chosen, digits of one width (by the style sheet).

/** @typedef {{number: string, unit: string}} Quantity */

const MISSING = Object.freeze({number: '–', unit: ''});
const usable = (value) => typeof value === 'number' && !Number.isNaN(value);

/** Three significant digits, or all of a whole number below 1,000. @param {number} value */
function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95 || value === 0 || (Number.isInteger(value) && size < 1000)) return String(Math.round(value));
  return size >= 9.995 ? value.toFixed(1) : size >= 0.0995 ? value.toFixed(2) : Number(value.toPrecision(2)).toString();
}

function scaled(value, steps) {
  const size = Math.abs(value);
  for (const [factor, unit] of steps) {
    if (size >= factor * 0.9995 || factor === steps[steps.length - 1][0]) return {number: digits(value / factor), unit};
  }
  return MISSING;
}

const DURATIONS = [[86400, 'd'], [3600, 'h'], [1, 's'], [1e-3, 'ms'], [1e-6, 'µs'], [1e-9, 'ns']];
const MINUTE = 60;
/** Seconds as ns … d. @param {number | null | undefined} seconds @returns {Quantity} */
export function duration(seconds) {
  if (!usable(seconds)) return MISSING;
  if (seconds === Infinity) return {number: '> 36', unit: 'h'};
  if (seconds === 0) return {number: '0', unit: 's'};
  if (seconds >= 120 && seconds < 3600) return {number: digits(seconds / MINUTE), unit: 'min'};
  return scaled(seconds, DURATIONS);
}

const COUNTS = [[1e15, 'P'], [1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k'], [1, '']];
/** @param {number | null | undefined} value @returns {Quantity} */
export function count(value) {
  return usable(value) ? scaled(value, COUNTS) : MISSING;
}

/** Per second. @param {number | null | undefined} value @returns {Quantity} */
export function rate(value) {
  if (!usable(value)) return MISSING;
  const {number, unit} = scaled(value, COUNTS);
  return {number, unit: `${unit}/s`};
}

const BYTES = [[2 ** 40, 'TiB'], [2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB'], [1, 'B']];
/** @param {number | null | undefined} value @returns {Quantity} */
export function bytes(value) {
  return usable(value) ? scaled(value, BYTES) : MISSING;
}

/** @param {number | null | undefined} fraction @returns {Quantity} */
export function percent(fraction) {
  return usable(fraction) ? {number: digits(fraction * 100), unit: '%'} : MISSING;
}

/** Every digit, in groups of three. @param {number} value */
export function exact(value) {
  return Number.isInteger(value) ? value.toLocaleString('en-GB') : String(value);
}

/** Without zeros behind the point: for numbers that somebody has chosen. @param {Quantity} quantity @returns {Quantity} */
export const tidy = ({number, unit}) => ({number: number.includes('.') ? String(Number(number)) : number, unit});

/** @param {Quantity} quantity */
export const joined = ({number, unit}) => (unit === '' ? number : `${number} ${unit}`);

/** As a clock does: 3:07, 1:03:07, 2 d 1:03:07. @param {number} seconds */
export function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, '0');
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const clock = days + hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  return days > 0 ? `${days} d ${clock}` : clock;
}
