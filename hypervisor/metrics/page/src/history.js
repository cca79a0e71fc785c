// The last minutes of every number that is drawn over time. Counters are kept as they were read, so that a rate over any
// time is one subtraction; of histograms what was added between two readings.
import {difference} from './distribution.js';

/** @typedef {import('./snapshot.js').Snapshot} Snapshot @typedef {import('./snapshot.js').Bucket} Bucket */

/** A longer time between two readings is a gap: nothing is drawn there. */
export const GAP_SECONDS = 3.5;
/** Series of one family that have a history; those beyond have only their last value. */
export const MOST_SERIES = 1000;

export class History {
  /** @param {{seconds?: number, kept: Iterable<string>}} options kept: names of the families with a history */
  constructor({seconds = 900, kept}) {
    this.seconds = seconds;
    this.kept = new Set(kept);
    this.clear();
  }

  clear() {
    /** @type {number[]} when, unix seconds */ this.times = [];
    /** @type {Map<string, Map<string, (number | undefined)[]>>} family, labels -> values by time */
    this.values = new Map();
    /** @type {Map<string, Map<string, (Bucket[] | undefined)[]>>} added since the time before; undefined: not known */
    this.added = new Map();
    /** @type {Snapshot | null} */ this.last = null;
    /** @type {Snapshot | null} */ this.previous = null;
  }

  /**
   * @param {Snapshot} snapshot
   * @returns {'first' | 'next' | 'restarted' | 'same'} restarted: another process, what was known of the one before is gone;
   *          same: no time has passed, nothing was kept
   */
  push(snapshot) {
    /** @type {'first' | 'next' | 'restarted'} */
    let result = this.last === null ? 'first' : 'next';
    if (this.last !== null) {
      const born = (of) => of.time - of.uptime;
      if (snapshot.uptime < this.last.uptime || Math.abs(born(snapshot) - born(this.last)) > 2) {
        this.clear();
        result = 'restarted';
      } else if (snapshot.time <= this.last.time) {
        return 'same';
      }
    }
    const at = this.times.length;
    this.times.push(snapshot.time);
    for (const name of this.kept) this.#keep(name, at, snapshot.families.get(name), this.last?.families.get(name));
    this.previous = this.last;
    this.last = snapshot;
    const old = this.times.findIndex((time) => time >= snapshot.time - this.seconds - 1);
    if (old > 60) this.#forget(old);
    return result;
  }

  #keep(name, at, family, before) {
    if (family === undefined) return;
    const of = (all, key) => {
      if (!all.has(name)) all.set(name, new Map());
      const series = all.get(name);
      if (!series.has(key)) {
        if (series.size >= MOST_SERIES) return null;
        series.set(key, []);
      }
      return series.get(key);
    };
    for (const [key, sample] of family.samples) {
      const values = of(this.values, key);
      if (values === null) continue;
      values[at] = sample.value;
      if (sample.distribution === null || at === 0) continue;
      const earlier = before?.samples.get(key)?.distribution?.buckets ?? [];
      of(this.added, key)[at] = difference(earlier, sample.distribution.buckets) ?? undefined;
    }
  }

  #forget(count) {
    this.times.splice(0, count);
    for (const all of [this.values, this.added]) {
      for (const series of all.values()) {
        for (const [key, list] of series) {
          list.splice(0, count);
          if (list.length === 0) series.delete(key);
        }
      }
    }
  }

  /** Whether nothing is known between the reading `i` and the one before. */
  gap(i) {
    return i === 0 || this.times[i] - this.times[i - 1] > GAP_SECONDS;
  }

  /**
   * Readings in bins of `step` seconds, aligned to multiples of it, over the last `seconds`.
   * @returns {{time: number, first: number, last: number}[]} readings first … last belong to the bin that begins at time
   */
  bins(seconds, step) {
    const result = [];
    const end = this.times.length;
    if (end === 0) return result;
    const from = this.times[end - 1] - seconds;
    for (let i = this.times.findIndex((time) => time >= from); i < end; ++i) {
      const time = Math.floor(this.times[i] / step) * step;
      const bin = result[result.length - 1];
      if (bin !== undefined && bin.time === time) bin.last = i;
      else result.push({time, first: i, last: i});
    }
    return result;
  }

  /**
   * What a counter has gained per second from one reading to another.
   * @returns {number | null} null: not known (a gap, a counter that went back)
   */
  rate(name, key, from, to) {
    if (from < 0 || to <= from) return null;
    const list = this.values.get(name)?.get(key);
    const end = list?.[to];
    if (end === undefined) return null;
    for (let i = from + 1; i <= to; ++i) if (this.gap(i)) return null;
    const gained = end - (list[from] ?? 0);
    return gained < 0 ? null : gained / (this.times[to] - this.times[from]);
  }

  /** The reading that lies `seconds` before the last one, or the oldest behind the last gap; -1 without two readings. */
  recent(seconds) {
    const last = this.times.length - 1;
    let i = last;
    while (i > 0 && !this.gap(i) && this.times[last] - this.times[i] < seconds - 0.5) --i;
    return i === last ? -1 : i;
  }

  /** A counter's gain per second over the last `seconds`. @returns {number | null} */
  recentRate(name, key, seconds) {
    return this.rate(name, key, this.recent(seconds), this.times.length - 1);
  }

  /** What was added to a histogram from one reading to another. @returns {Bucket[][]} */
  addedBetween(name, key, from, to) {
    const list = this.added.get(name)?.get(key) ?? [];
    const result = [];
    for (let i = Math.max(from + 1, 0); i <= to; ++i) if (list[i] !== undefined && !this.gap(i)) result.push(list[i]);
    return result;
  }

  /** Labels of a family's series, as they come. @returns {string[]} keys */
  keys(name) {
    return [...(this.last?.families.get(name)?.samples.keys() ?? [])];
  }
}
