// What /live.json says, checked. Names and label values come from files and guests: they are data, and end up as text
// nodes only.

/** More than this is not looked at: a page must stay usable whatever the process says. */
export const LIMITS = Object.freeze({families: 500, samples: 100_000, text: 400, buckets: 4096});

/**
 * @typedef {{upper: number, count: number}} Bucket  upper border in seconds, values in this bucket alone
 * @typedef {{count: number, sum: number, buckets: Bucket[]}} Distribution
 * @typedef {{key: string, labels: Map<string, string>, value: number, distribution: Distribution | null}} Sample
 *          value: of a histogram its count; key: the labels in one order, as JSON
 * @typedef {{name: string, type: 'counter' | 'gauge' | 'histogram', help: string, samples: Map<string, Sample>}} Family
 * @typedef {{time: number, uptime: number, command: string, families: Map<string, Family>, left_out: number}} Snapshot
 */

/** Thrown for an answer that is none. */
export class UnreadableAnswer extends Error {}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

function number(value, what) {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new UnreadableAnswer(`${what} is no number`);
  return value;
}

function text(value, what) {
  if (typeof value !== 'string') throw new UnreadableAnswer(`${what} is no text`);
  return value.length > LIMITS.text ? `${value.slice(0, LIMITS.text - 1)}…` : value;
}

/** Labels in one order, as JSON: the same for the same labels. @param {Iterable<[string, string]>} labels */
export function labelKey(labels) {
  const sorted = [...labels].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${sorted.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
}

/** @returns {Distribution} */
function distribution(raw, name) {
  const result = {count: number(raw.count, `${name}: count`), sum: number(raw.sum, `${name}: sum`), buckets: []};
  if (!Array.isArray(raw.buckets)) throw new UnreadableAnswer(`${name}: buckets are no list`);
  if (raw.buckets.length > LIMITS.buckets) throw new UnreadableAnswer(`${name}: more than ${LIMITS.buckets} buckets`);
  let before = 0;
  let border = -Infinity;
  for (const pair of raw.buckets) {
    if (!Array.isArray(pair) || pair.length !== 2) throw new UnreadableAnswer(`${name}: a bucket is no pair`);
    const upper = pair[0] === null || pair[0] === '+Inf' ? Infinity : number(pair[0], `${name}: border`);
    const cumulative = number(pair[1], `${name}: cumulative count`);
    if (upper <= border || cumulative < before) throw new UnreadableAnswer(`${name}: buckets are not ascending`);
    if (cumulative > before) result.buckets.push({upper, count: cumulative - before});
    before = cumulative;
    border = upper;
  }
  return result;
}

/**
 * @param {any} raw what JSON.parse made of the answer
 * @returns {Snapshot}
 */
export function parseSnapshot(raw) {
  if (!isObject(raw)) throw new UnreadableAnswer('the answer is no object');
  if (raw.schema !== 1) throw new UnreadableAnswer(`schema ${JSON.stringify(raw.schema)} instead of 1; reload the page`);
  if (!Array.isArray(raw.families)) throw new UnreadableAnswer('families are no list');
  /** @type {Snapshot} */
  const snapshot = {
    time: number(raw.time_unix_s, 'time_unix_s'),
    uptime: number(raw.uptime_s, 'uptime_s'),
    command: text(raw.command ?? '', 'command'),
    families: new Map(),
    left_out: 0,
  };
  let samples = 0;
  for (const family of raw.families) {
    if (!isObject(family)) throw new UnreadableAnswer('a family is no object');
    const name = text(family.name, 'the name of a family');
    if (!['counter', 'gauge', 'histogram'].includes(family.type)) throw new UnreadableAnswer(`${name}: type ${family.type}`);
    if (!Array.isArray(family.samples)) throw new UnreadableAnswer(`${name}: samples are no list`);
    if (snapshot.families.size === LIMITS.families) {
      snapshot.left_out += family.samples.length;
      continue;
    }
    const read = {name, type: family.type, help: text(family.help ?? '', `${name}: help`), samples: new Map()};
    for (const sample of family.samples) {
      if (++samples > LIMITS.samples) {
        ++snapshot.left_out;
        continue;
      }
      if (!isObject(sample)) throw new UnreadableAnswer(`${name}: a sample is no object`);
      const labels = new Map(Object.entries(sample.labels ?? {}).map(([key, value]) => [key, text(value, `${name}: ${key}`)]));
      const key = labelKey(labels);
      const values = family.type === 'histogram' ? distribution(sample, name) : null;
      read.samples.set(key, {key, labels, value: values ? values.count : number(sample.value, name), distribution: values});
    }
    snapshot.families.set(name, read);
  }
  return snapshot;
}
