// What the live page makes of /live.json, without a browser: node --test.
import assert from 'node:assert/strict';
import test from 'node:test';
import {difference, quantile, rows, rowUpper, sum, total} from '../../hypervisor/metrics/page/src/distribution.js';
import {History, MOST_SERIES} from '../../hypervisor/metrics/page/src/history.js';
import * as derive from '../../hypervisor/metrics/page/src/derive.js';
import {Poller} from '../../hypervisor/metrics/page/src/poll.js';
import {LIMITS, labelKey, parseSnapshot, UnreadableAnswer} from '../../hypervisor/metrics/page/src/snapshot.js';
import * as units from '../../hypervisor/metrics/page/src/units.js';
import {Process} from './fixture.mjs';

const answer = (time, families, more = {}) => ({schema: 1, time_unix_s: time, uptime_s: time - 1000, command: 'fleet', families, ...more});
const counter = (name, ...samples) => ({name, type: 'counter', help: '', samples: samples.map(([labels, value]) => ({labels, value}))});
const histogram = (name, labels, pairs) => ({name, type: 'histogram', help: '', samples: [{labels, count: pairs.at(-1)?.[1] ?? 0, sum: 1, buckets: pairs}]});
const historyOf = (...answers) => {
  const history = new History({kept: derive.KEPT});
  for (const each of answers) history.push(parseSnapshot(each));
  return history;
};

test('labels are the same in any order', () => {
  assert.equal(labelKey([['b', '1'], ['a', '"']]), labelKey([['a', '"'], ['b', '1']]));
  assert.equal(labelKey([['a', '"']]), '{"a":"\\""}');
});

test('an answer that is none is refused, and why', () => {
  const refused = (raw, why) => assert.throws(() => parseSnapshot(raw), (error) => error instanceof UnreadableAnswer && why.test(error.message));
  refused(null, /no object/);
  refused(answer(1, [], {schema: 2}), /schema 2/);
  refused(answer('1', []), /time_unix_s/);
  refused(answer(1, {}), /no list/);
  refused(answer(1, [counter('x', [{}, 'many'])]), /x is no number/);
  refused(answer(1, [{name: 'x', type: 'summary', samples: []}]), /type summary/);
  refused(answer(1, [histogram('x', {}, [[1, 3], [2, 2]])]), /ascending/);
  refused(answer(1, [histogram('x', {}, [[2, 1], [1, 2]])]), /ascending/);
  refused(answer(1, [counter('x', [{vm: 7}, 1])]), /vm is no text/);
});

test('names that are those of objects are names', () => {
  const history = historyOf(answer(1001, [counter('__proto__', [{constructor: 'x'}, 4])]));
  assert.equal(derive.value(history, '__proto__', {constructor: 'x'}), 4);
  assert.equal(derive.value(history, 'toString'), null);
});

test('too much is left out and counted', () => {
  const many = Array.from({length: LIMITS.families + 2}, (_, i) => counter(`m${i}`, [{}, 1]));
  const snapshot = parseSnapshot(answer(1, many));
  assert.equal(snapshot.families.size, LIMITS.families);
  assert.equal(snapshot.left_out, 2);
  assert.equal(parseSnapshot(answer(1, [counter('x', [{vm: 'v'.repeat(9999)}, 1])])).families.get('x').samples.values().next().value.labels.get('vm').length, LIMITS.text);
});

test('buckets: differences, sums, quantiles', () => {
  const before = [{upper: 1, count: 2}, {upper: 4, count: 1}];
  const after = [{upper: 1, count: 2}, {upper: 2, count: 5}, {upper: 4, count: 3}];
  assert.deepEqual(difference(before, after), [{upper: 2, count: 5}, {upper: 4, count: 2}]);
  assert.equal(difference(after, before), null, 'it lost values');
  assert.equal(difference([{upper: 1, count: 1}], [{upper: 2, count: 1}]), null, 'it lost a bucket');
  assert.deepEqual(sum([before, after]), [{upper: 1, count: 4}, {upper: 2, count: 5}, {upper: 4, count: 4}]);
  assert.equal(total(after), 10);
  assert.equal(quantile([], 0.5), null);
  const near = (actual, expected) => assert.ok(Math.abs(actual / expected - 1) < 0.012, `${actual} is not about ${expected}`);
  near(quantile(after, 0.2), 1);
  near(quantile(after, 0.21), 2);
  near(quantile(after, 0.7), 2);
  near(quantile(after, 1), 4);
});

test('quantiles of many values are within half a bucket of the true ones', () => {
  const process = new Process();
  process.numbers.clear();
  const values = Array.from({length: 5000}, (_, i) => 1e-6 * 1.001 ** i);
  for (const value of values) process.durations('x', {}, value, 0, 1, 0);
  const buckets = parseSnapshot(process.live()).families.get('x').samples.get('{}').distribution.buckets;
  assert.equal(total(buckets), 5000);
  for (const fraction of [0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = values[Math.ceil(fraction * 5000) - 1];
    const error = quantile(buckets, fraction) / exact;
    assert.ok(error > 2 ** (-0.51 / 32) && error < 2 ** (0.51 / 32), `${fraction}: ${error}`);
  }
});

test('rows of the heat map hold every value once', () => {
  const buckets = [-40, -33, -32, -31, 0, 5].map((k) => ({upper: 2 ** (k / 32), count: 3}));
  const cells = rows([...buckets, {upper: Infinity, count: 1}]);
  assert.equal([...cells.values()].reduce((a, b) => a + b), 18);
  for (const row of cells.keys()) assert.ok(buckets.some(({upper}) => upper <= rowUpper(row) * 1.000001 && upper > rowUpper(row - 1)));
});

test('rates: over any time, not over gaps, not of counters that went back', () => {
  const calls = (time, value) => answer(time, [counter('warmfork_vmcalls_total', [{mode: 'vm', result: 'ok'}, value])]);
  const key = labelKey([['mode', 'vm'], ['result', 'ok']]);
  const history = historyOf(calls(1001, 100), calls(1002, 300), calls(1003, 350), calls(1013, 400), calls(1014, 300), calls(1015, 310));
  const rate = (from, to) => history.rate('warmfork_vmcalls_total', key, from, to);
  assert.equal(rate(0, 1), 200);
  assert.equal(rate(0, 2), 125);
  assert.equal(rate(2, 3), null, 'a gap');
  assert.equal(rate(1, 3), null, 'a gap inside');
  assert.equal(rate(3, 4), null, 'went back');
  assert.equal(rate(-1, 0), null);
  assert.equal(history.recentRate('warmfork_vmcalls_total', key, 1), 10);
  assert.equal(history.recent(60), 3, 'not beyond the gap');
});

test('a series that appears later began at nothing', () => {
  const history = historyOf(answer(1001, []), answer(1002, [counter('warmfork_exits_total', [{reason: 'return'}, 50])]));
  assert.equal(derive.recentRate(history, 'warmfork_exits_total'), 50);
});

test('a young history is shown as large as it can be', () => {
  const [minute, five, quarter] = derive.WINDOWS;
  const old = (age) => ({times: [1000, 1000 + age]});
  assert.equal(derive.fitting({times: []}, five), minute);
  assert.equal(derive.fitting(old(50), quarter), minute);
  assert.equal(derive.fitting(old(61), quarter), five);
  assert.equal(derive.fitting(old(301), quarter), quarter);
  assert.equal(derive.fitting(old(301), five), five);
  assert.equal(derive.fitting(old(301), minute), minute);
});

test('another process begins a new history; no time, no reading', () => {
  const history = new History({kept: derive.KEPT});
  const push = (raw) => history.push(parseSnapshot(raw));
  assert.equal(push(answer(1001, [])), 'first');
  assert.equal(push(answer(1002, [])), 'next');
  assert.equal(push(answer(1002, [])), 'same');
  assert.equal(push(answer(1030, [], {uptime_s: 0.5})), 'restarted');
  assert.equal(history.times.length, 1);
  assert.equal(push(answer(1090, [], {uptime_s: 3})), 'restarted');
});

test('a history forgets', () => {
  const history = new History({seconds: 100, kept: derive.KEPT});
  for (let i = 0; i < 1000; ++i) history.push(parseSnapshot(answer(1001 + i, [counter('warmfork_exits_total', [{reason: 'return'}, 5 * i])])));
  assert.ok(history.times.length >= 100 && history.times.length <= 170, String(history.times.length));
  assert.equal(history.rate('warmfork_exits_total', '{"reason":"return"}', 0, history.times.length - 1), 5);
});

test('a fleet beyond measure has its last values, and a history as far as there is room', () => {
  const machines = (time, value) => answer(time, [counter('warmfork_vm_instructions_total', ...Array.from({length: MOST_SERIES + 5}, (_, i) => [{vm: `v${i}`}, value]))]);
  const history = historyOf(machines(1001, 1), machines(1002, 3));
  assert.equal(history.values.get('warmfork_vm_instructions_total').size, MOST_SERIES);
  const fleet = derive.fleet(history);
  assert.equal(fleet.length, MOST_SERIES + 5);
  assert.deepEqual([fleet[0].rate, fleet.at(-1).rate, fleet.at(-1).total], [2, null, 3]);
  assert.deepEqual(fleet[0].trend(), [null, 2]);
});

test('bins are aligned, so that a chart moves and does not flicker', () => {
  const history = historyOf(...[1001, 1002, 1003, 1004, 1005].map((time) => answer(time, [])));
  assert.deepEqual(history.bins(300, 2), [{time: 1000, first: 0, last: 0}, {time: 1002, first: 1, last: 2}, {time: 1004, first: 3, last: 4}]);
  assert.deepEqual(history.bins(2, 1).map(({time}) => time), [1003, 1004, 1005]);
});

test('latency over time: what came in each bin, and nothing else', () => {
  const name = 'warmfork_vmcall_duration_seconds';
  const at = (time, pairs) => answer(time, [histogram(name, {mode: 'vm'}, pairs)]);
  const history = historyOf(at(1001, [[1, 1000]]), at(1002, [[1, 1004]]), at(1003, [[1, 1004], [8, 1005]]));
  const chart = derive.latency(history, {name}, {seconds: 60, step: 1});
  assert.deepEqual(chart.counts, [0, 4, 1]);
  assert.equal(chart.p50[0], null);
  assert.ok(Math.abs(chart.p50[1] - 1) < 0.02 && Math.abs(chart.p99[2] - 8) < 0.1);
  assert.deepEqual(chart.cells, [{column: 1, row: 0, count: 4}, {column: 2, row: 12, count: 1}]);
  assert.equal(chart.most, 4);
});

test('lines add up what their label does not part', () => {
  const calls = (time, ok, fault, space) => answer(time, [counter('warmfork_vmcalls_total', [{mode: 'vm', result: 'ok'}, ok], [{mode: 'vm', result: 'fault'}, fault], [{mode: 'space', result: 'ok'}, space])]);
  const history = historyOf(calls(1001, 0, 0, 0), calls(1002, 10, 1, 7));
  const {lines} = derive.rateLines(history, {name: 'warmfork_vmcalls_total', label: 'mode'}, {seconds: 60, step: 1});
  assert.deepEqual([...lines], [['vm', [null, 11]], ['space', [null, 7]]]);
  const top = derive.overview(history);
  assert.equal(top.requests, 18);
  assert.equal(top.failures, 1);
  assert.equal(top.packets, null);
});

test('shares are of what happens now', () => {
  const exits = (time, a, b) => answer(time, [counter('warmfork_exits_total', [{reason: 'a'}, a], [{reason: 'b'}, b], [{reason: 'never'}, 0])]);
  const history = historyOf(exits(1001, 1_000_000, 0), exits(1002, 1_000_001, 3));
  assert.deepEqual(derive.shares(history, 'warmfork_exits_total', 'reason').map(({name, share}) => [name, share]), [['b', 0.75], ['a', 0.25]]);
});

test('a fleet: those in trouble first, numbers in names as numbers', () => {
  const process = new Process({machines: 30});
  const history = historyOf(process.live());
  process.step(1);
  history.push(parseSnapshot(process.live()));
  const machines = derive.fleet(history);
  assert.equal(machines.length, 30);
  assert.deepEqual(machines.slice(0, 3).map(({state}) => state), ['faulted', 'faulted', 'running']);
  assert.match(machines[0].lastFault, /illegal opcode/);
  assert.equal(machines[0].faults, 1);
  const running = machines.filter(({state}) => state === 'running');
  assert.ok(running.every(({rate}) => rate > 1e8));
  assert.deepEqual(derive.states(machines).get('faulted'), 2);
  assert.deepEqual(machines[0].limits, {memory: 4 << 20, deadline: 2, budget: 1e9});
});

test('an idle process has nothing to draw', () => {
  const history = historyOf(new Process({quiet: true}).live());
  assert.equal(derive.has(history, 'warmfork_vmcalls_total'), false);
  assert.deepEqual(derive.byLabel(history, 'strategy', {counters: ['warmfork_resets_total']}), []);
  assert.equal(derive.overview(history).requests, null);
});

test('numbers as people read them', () => {
  const shown = (quantity) => units.joined(quantity);
  for (const [seconds, text] of [[2.7e-5, '27 µs'], [7.4e-7, '740 ns'], [9.9996e-7, '1.00 µs'], [0, '0 s'], [0.0123, '12.3 ms'], [1.5, '1.50 s'], [2.68e-5, '26.8 µs'], [90, '90 s'],
                                 [600, '10 min'], [7200, '2 h'], [4e-11, '0.04 ns'], [null, '–'], [Infinity, '> 36 h']]) assert.equal(shown(units.duration(seconds)), text);
  for (const [count, text] of [[0, '0'], [999, '999'], [1000, '1 k'], [12_345, '12.3 k'], [999_600, '1.00 M'], [7.2e9, '7.20 G'], [0.5, '0.50'], [undefined, '–']]) assert.equal(shown(units.count(count)), text);
  assert.equal(shown(units.rate(18_700)), '18.7 k/s');
  assert.equal(shown(units.bytes(4 << 20)), '4 MiB');
  assert.equal(shown(units.percent(0.817)), '81.7 %');
  assert.equal(units.exact(1234567), '1,234,567');
  assert.equal(units.elapsed(187), '3:07');
  assert.equal(units.elapsed(90_061), '1 d 1:01:01');
});

test('asks once a second, not while stopped, and less often when nobody answers', async () => {
  let broken = false;
  const waits = [];
  const seen = [];
  let wake = null;
  let time = 0;
  const poller = new Poller({
    ask: async () => {
      time += 100;
      if (broken) throw new Error('gone');
      return time;
    },
    answered: (value) => seen.push(value),
    failed: (error, times) => seen.push(`${error.message} ${times}`),
    setTimer: (f, ms) => {
      waits.push(ms);
      wake = f;
      return 1;
    },
    clearTimer: () => (wake = null),
    now: () => time,
  });
  const settle = () => new Promise((done) => setImmediate(done));
  const turn = async () => {
    wake();
    await settle();
  };
  poller.start();
  await settle();
  await turn();
  assert.deepEqual(seen, [100, 200]);
  assert.deepEqual(waits, [900, 900]);
  broken = true;
  for (let i = 0; i < 8; ++i) await turn();
  assert.equal(seen.at(-1), 'gone 8');
  assert.equal(waits.at(-1), 4900, 'every five seconds at least');
  poller.stop();
  assert.equal(wake, null);
  broken = false;
  poller.start();
  await settle();
  assert.equal(typeof seen.at(-1), 'number');
  assert.equal(waits.at(-1), 900, 'once a second again');
});
