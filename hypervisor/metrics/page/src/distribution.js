// Distributions of durations: differences, sums, quantiles, rows of a heat map.

/** @typedef {import('./snapshot.js').Bucket} Bucket */

/** Buckets of the process: 32 for each power of two. A quantile is the middle of its bucket. */
const BUCKETS_PER_OCTAVE = 32;
const HALF_BUCKET = 2 ** (-0.5 / BUCKETS_PER_OCTAVE);

/**
 * What was added between two readings of one histogram.
 * @param {Bucket[]} before @param {Bucket[]} after both ascending
 * @returns {Bucket[] | null} null: `after` is not a later reading of it
 */
export function difference(before, after) {
  const result = [];
  let i = 0;
  for (const {upper, count} of after) {
    if (i < before.length && before[i].upper < upper) return null;
    const earlier = i < before.length && before[i].upper === upper ? before[i++].count : 0;
    if (count < earlier) return null;
    if (count > earlier) result.push({upper, count: count - earlier});
  }
  return i === before.length ? result : null;
}

/** @param {Iterable<Bucket[]>} lists @returns {Bucket[]} ascending */
export function sum(lists) {
  const counts = new Map();
  for (const list of lists) for (const {upper, count} of list) counts.set(upper, (counts.get(upper) ?? 0) + count);
  return [...counts].map(([upper, count]) => ({upper, count})).sort((a, b) => a.upper - b.upper);
}

/** @param {Bucket[]} buckets */
export const total = (buckets) => buckets.reduce((all, {count}) => all + count, 0);

/**
 * The nearest-rank quantile, to within half a bucket (1.1 %).
 * @param {Bucket[]} buckets ascending @param {number} fraction in (0, 1]
 * @returns {number | null} seconds; null without values. Infinity if beyond the last border.
 */
export function quantile(buckets, fraction) {
  const all = total(buckets);
  if (all === 0) return null;
  const rank = Math.max(1, Math.ceil(fraction * all));
  let seen = 0;
  for (const {upper, count} of buckets) {
    seen += count;
    if (seen >= rank) return upper * HALF_BUCKET;
  }
  return buckets[buckets.length - 1].upper * HALF_BUCKET;
}

/** Rows of a heat map for each power of two. */
export const ROWS_PER_OCTAVE = 4;

/** The row of a bucket, counted from 1 s. @param {number} upper seconds */
export const rowOf = (upper) => Math.ceil(Math.log2(upper) * ROWS_PER_OCTAVE - 1e-6);
/** Upper border of a row in seconds. @param {number} row */
export const rowUpper = (row) => 2 ** (row / ROWS_PER_OCTAVE);

/**
 * @param {Bucket[]} buckets
 * @returns {Map<number, number>} count by row; what is beyond the last border is left out
 */
export function rows(buckets) {
  const result = new Map();
  for (const {upper, count} of buckets) {
    if (!(upper > 0) || upper === Infinity) continue;
    const row = rowOf(upper);
    result.set(row, (result.get(row) ?? 0) + count);
  }
  return result;
}
