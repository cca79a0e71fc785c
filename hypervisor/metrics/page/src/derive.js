// From the history to what panels show. Knows no document: everything here is tested without a browser.
import {quantile, rows, sum, total} from './distribution.js';
import {labelKey} from './snapshot.js';

/** @typedef {import('./history.js').History} History @typedef {import('./snapshot.js').Sample} Sample */

/** "Now" in numbers: the mean, or all durations, of so many seconds. */
export const RECENT_SECONDS = 10;
/** Bins of charts by how much they show. */
export const WINDOWS = Object.freeze([{seconds: 60, step: 1, name: '1 min'}, {seconds: 300, step: 2, name: '5 min'},
                                      {seconds: 900, step: 5, name: '15 min'}]);

/** The least of them, up to the one that is wanted, that shows all there is: a young history is not squeezed into a corner. */
export function fitting(history, wanted) {
  const age = (history.times.at(-1) ?? 0) - (history.times[0] ?? 0);
  return WINDOWS.find((window) => window === wanted || (window.seconds < wanted.seconds && window.seconds >= age)) ?? wanted;
}

const KEPT_COUNTERS = ['warmfork_vmcalls_total', 'warmfork_resets_total', 'warmfork_reset_pages_total', 'warmfork_forks_total',
  'warmfork_exits_total', 'warmfork_lc3_instructions_total', 'warmfork_jit_compiles_total', 'warmfork_vm_instructions_total',
  'warmfork_feed_packets_total', 'warmfork_feed_bytes_total', 'warmfork_feed_dropped_packets_total',
  'warmfork_feed_read_packets_total', 'warmfork_link_messages_total', 'process_cpu_seconds_total'];
const KEPT_HISTOGRAMS = ['warmfork_vmcall_duration_seconds', 'warmfork_reset_duration_seconds', 'warmfork_fork_duration_seconds',
  'warmfork_pool_acquire_duration_seconds', 'warmfork_jit_compile_duration_seconds', 'warmfork_feed_lateness_seconds'];
const KEPT_GAUGES = ['warmfork_pool_forks', 'warmfork_pool_waiting'];
/** Families with a history. */
export const KEPT = Object.freeze([...KEPT_COUNTERS, ...KEPT_HISTOGRAMS, ...KEPT_GAUGES]);

/** @param {History} history @param {string} name @returns {Sample[]} */
export const samples = (history, name) => [...(history.last?.families.get(name)?.samples.values() ?? [])];

/** The value of one sample. @returns {number | null} */
export function value(history, name, labels = {}) {
  return history.last?.families.get(name)?.samples.get(labelKey(Object.entries(labels)))?.value ?? null;
}

/** Whether a family has anything but zeros. */
export const has = (history, name) => samples(history, name).some((sample) => sample.value !== 0);

const add = (a, b) => (b === null ? a : (a ?? 0) + b);

/** @typedef {(sample: Sample) => boolean} Which */
/** @type {Which} */
const all = () => true;

/** Sum of recent rates of all samples that `which` wants. @returns {number | null} */
export function recentRate(history, name, which = all) {
  return samples(history, name).filter(which)
    .reduce((sofar, {key}) => add(sofar, history.recentRate(name, key, RECENT_SECONDS)), null);
}

/** Durations of the last seconds, of all samples that `which` wants. */
export function recentDistribution(history, name, which = all) {
  const from = history.recent(RECENT_SECONDS);
  if (from < 0) return [];
  const to = history.times.length - 1;
  return sum(samples(history, name).filter(which).flatMap(({key}) => history.addedBetween(name, key, from, to)));
}

/** @returns {{p50: number | null, p99: number | null, p999: number | null, count: number}} */
export function percentiles(buckets) {
  return {p50: quantile(buckets, 0.5), p99: quantile(buckets, 0.99), p999: quantile(buckets, 0.999), count: total(buckets)};
}

/**
 * Rates of several series over time.
 * @param {History} history
 * @param {{name: string, which?: Which, label?: string}} source label: whose values make one line each; samples that differ in
 *        other labels are added up
 * @param {{seconds: number, step: number}} window
 * @returns {{times: number[], lines: Map<string, (number | null)[]>}} lines in the order of first appearance
 */
export function rateLines(history, {name, which = all, label}, {seconds, step}) {
  const bins = history.bins(seconds, step);
  const lines = new Map();
  for (const {key, labels} of samples(history, name).filter(which)) {
    const line = label === undefined ? '' : labels.get(label) ?? '';
    if (!lines.has(line)) lines.set(line, bins.map(() => null));
    const values = lines.get(line);
    bins.forEach(({first, last}, i) => {
      values[i] = add(values[i], history.rate(name, key, first - 1, last));
    });
  }
  return {times: bins.map(({time}) => time), lines};
}

/** Values of gauges over time, the last one of each bin. */
export function gaugeLines(history, {name, label}, {seconds, step}) {
  const bins = history.bins(seconds, step);
  const lines = new Map();
  for (const {key, labels} of samples(history, name)) {
    const list = history.values.get(name)?.get(key) ?? [];
    lines.set(label === undefined ? '' : labels.get(label) ?? '', bins.map(({last}) => list[last] ?? null));
  }
  return {times: bins.map(({time}) => time), lines};
}

/**
 * Percentiles and the heat map of one histogram over time.
 * @returns {{times: number[], p50: (number | null)[], p99: (number | null)[], p999: (number | null)[], counts: number[],
 *            cells: {column: number, row: number, count: number}[], most: number, low: number, high: number}}
 *          low, high: rows that are used; most: of any cell
 */
export function latency(history, {name, which = all}, {seconds, step}) {
  const bins = history.bins(seconds, step);
  const result = {times: [], p50: [], p99: [], p999: [], counts: [], cells: [], most: 0, low: Infinity, high: -Infinity};
  const keys = samples(history, name).filter(which).map(({key}) => key);
  bins.forEach(({time, first, last}, column) => {
    const buckets = sum(keys.flatMap((key) => history.addedBetween(name, key, first - 1, last)));
    const {p50, p99, p999, count} = percentiles(buckets);
    result.times.push(time);
    result.p50.push(p50);
    result.p99.push(p99);
    result.p999.push(p999);
    result.counts.push(count);
    for (const [row, cell] of rows(buckets)) {
      result.cells.push({column, row, count: cell});
      result.most = Math.max(result.most, cell);
      result.low = Math.min(result.low, row);
      result.high = Math.max(result.high, row);
    }
  });
  return result;
}

/** Shares of a whole by recent rate, largest first. */
export function shares(history, name, label) {
  const list = samples(history, name).filter((sample) => sample.value > 0).map((sample) => ({
    sample,
    name: sample.labels.get(label) ?? '',
    total: sample.value,
    rate: history.recentRate(name, sample.key, RECENT_SECONDS),
  }));
  const now = list.reduce((s, {rate}) => s + (rate ?? 0), 0);
  const totals = list.reduce((s, entry) => s + entry.total, 0);
  return list.map((entry) => ({...entry, share: now > 0 ? (entry.rate ?? 0) / now : entry.total / totals}))
    .sort((a, b) => b.share - a.share || b.total - a.total || (a.name < b.name ? -1 : 1));
}

const MODES = Object.freeze(['vm', 'space', 'ring']);
/** A call that its instruction budget ended has done what was asked. @param {Sample} sample */
const failed = ({labels}) => !['ok', 'budget'].includes(labels.get('result'));

/** The numbers on top; null: nothing to say. */
export function overview(history) {
  const calls = 'warmfork_vmcalls_total';
  const modes = MODES.map((mode) => percentiles(recentDistribution(history, 'warmfork_vmcall_duration_seconds', ({labels}) => labels.get('mode') === mode)));
  return {
    requests: has(history, calls) ? recentRate(history, calls) : null,
    failures: recentRate(history, calls, failed),
    latency: new Map(MODES.map((mode, i) => [mode, modes[i]])),
    resets: has(history, 'warmfork_resets_total') ? recentRate(history, 'warmfork_resets_total') : null,
    pages: recentRate(history, 'warmfork_reset_pages_total'),
    instructions: has(history, 'warmfork_lc3_instructions_total') ? recentRate(history, 'warmfork_lc3_instructions_total') : null,
    packets: has(history, 'warmfork_feed_packets_total') ? recentRate(history, 'warmfork_feed_packets_total') : null,
    dropped: recentRate(history, 'warmfork_feed_dropped_packets_total'),
    cpu: recentRate(history, 'process_cpu_seconds_total'),
    memory: value(history, 'process_resident_memory_bytes'),
    descriptors: value(history, 'process_open_fds'),
  };
}

/** In the order in which people look for trouble. */
export const VM_STATES = Object.freeze(['faulted', 'running', 'waiting', 'stopped', 'done']);

const byName = new Intl.Collator('en', {numeric: true});

/**
 * @typedef {{vm: string, program: string, kind: string, engine: string, state: string, total: number | null,
 *            rate: number | null, faults: number, lastFault: string, trend: () => (number | null)[],
 *            limits: {memory: number | null, deadline: number | null, budget: number | null}}} Machine
 * @returns {Machine[]} by state as in VM_STATES, then by name with numbers as numbers
 */
export function fleet(history) {
  const machines = new Map();
  const of = (sample) => {
    const vm = sample.labels.get('vm') ?? '';
    if (!machines.has(vm)) {
      machines.set(vm, {vm, program: '', kind: '', engine: '', state: '', total: null, rate: null, faults: 0, lastFault: '',
                        trend: () => [], limits: {memory: null, deadline: null, budget: null}});
    }
    return machines.get(vm);
  };
  for (const sample of samples(history, 'warmfork_vm_info')) {
    const machine = of(sample);
    for (const key of ['program', 'kind', 'engine']) machine[key] = sample.labels.get(key) ?? '';
  }
  for (const sample of samples(history, 'warmfork_vm_state')) if (sample.value === 1) of(sample).state = sample.labels.get('state') ?? '';
  const bins = history.bins(60, 2);
  for (const sample of samples(history, 'warmfork_vm_instructions_total')) {
    const machine = of(sample);
    machine.total = sample.value;
    machine.rate = history.recentRate('warmfork_vm_instructions_total', sample.key, 3);
    machine.trend = () => bins.map(({first, last}) => history.rate('warmfork_vm_instructions_total', sample.key, first - 1, last));
  }
  for (const sample of samples(history, 'warmfork_vm_faults_total')) of(sample).faults = sample.value;
  for (const sample of samples(history, 'warmfork_vm_last_fault_info')) if (sample.value === 1) of(sample).lastFault = sample.labels.get('fault') ?? '';
  for (const [name, limit] of [['warmfork_guest_memory_limit_bytes', 'memory'], ['warmfork_guest_deadline_seconds', 'deadline'],
                               ['warmfork_guest_instruction_budget', 'budget']]) {
    for (const sample of samples(history, name)) if (machines.has(sample.labels.get('vm') ?? '')) of(sample).limits[limit] = sample.value;
  }
  const rank = ({state}) => (VM_STATES.includes(state) ? VM_STATES.indexOf(state) : VM_STATES.length);
  return [...machines.values()].sort((a, b) => rank(a) - rank(b) || byName.compare(a.vm, b.vm));
}

/** How many machines are in which state, without those nobody is in. @param {Machine[]} machines */
export function states(machines) {
  const counts = new Map(VM_STATES.map((state) => [state, 0]));
  for (const {state} of machines) counts.set(state, (counts.get(state) ?? 0) + 1);
  return new Map([...counts].filter(([, count]) => count > 0));
}

/** One row per label value, with numbers from several families. */
export function byLabel(history, label, {counters = [], gauges = [], histograms = []}) {
  const table = new Map();
  const row = (name, sample) => {
    const key = sample.labels.get(label) ?? '';
    if (!table.has(key)) table.set(key, {name: key, samples: {}, totals: {}, rates: {}, durations: {}});
    table.get(key).samples[name] = sample;
    return table.get(key);
  };
  for (const name of [...counters, ...gauges]) {
    for (const sample of samples(history, name)) {
      const entry = row(name, sample);
      entry.totals[name] = sample.value;
      if (counters.includes(name)) entry.rates[name] = history.recentRate(name, sample.key, RECENT_SECONDS);
    }
  }
  for (const name of histograms) {
    for (const sample of samples(history, name)) {
      const entry = row(name, sample);
      entry.totals[name] = sample.value;
      entry.durations[name] = percentiles(recentDistribution(history, name, ({key}) => key === sample.key));
    }
  }
  return [...table.values()].filter(({totals}) => Object.values(totals).some((count) => count !== 0))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Ratio of two rates. @returns {number | null} */
export const ratio = (a, b) => (a == null || b == null || b === 0 ? null : a / b);
