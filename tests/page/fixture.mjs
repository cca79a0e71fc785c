// A process that is none: answers like warmfork, with numbers that grow as a busy fleet's do. For tests of the page that
// need to know what it is told: `node fixture.mjs PAGE.html [PORT]` serves it to a person as well.
import {createServer} from 'node:http';
import {readFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';

const PER_OCTAVE = 32;

/** A histogram like the process's: 32 buckets for each power of two. */
class Durations {
  constructor() {
    this.buckets = new Map();
    this.count = 0;
    this.sum = 0;
  }
  add(seconds, count = 1) {
    const upper = 2 ** (Math.ceil(Math.log2(seconds) * PER_OCTAVE) / PER_OCTAVE);
    this.buckets.set(upper, (this.buckets.get(upper) ?? 0) + count);
    this.count += count;
    this.sum += seconds * count;
  }
  toJSON() {
    let cumulative = 0;
    const buckets = [...this.buckets].sort(([a], [b]) => a - b).map(([upper, count]) => [upper, (cumulative += count)]);
    return {count: this.count, sum: this.sum, buckets};
  }
}

/** The same numbers in every run. */
function randomNumbers(seed) {
  let state = seed;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {uniform, normal};
}

export class Process {
  /** @param {{machines?: number, quiet?: boolean, start?: number}} options quiet: nothing but the process itself */
  constructor({machines = 12, quiet = false, start = Date.now() / 1000, command = 'fleet exchange.toml --listen'} = {}) {
    Object.assign(this, {machines, quiet, start, command, time: start, random: randomNumbers(7), numbers: new Map()});
    this.names = ['pipeline', 'matcher', 'sieve', 'snake', 'sort', 'feed_trigger', 'crc', 'echo'];
    this.faulted = new Set([5, 9]);
    this.step(0.001);
  }

  bump(name, labels, by) {
    const key = `${name}${JSON.stringify(labels)}`;
    const sample = this.numbers.get(key) ?? {name, type: 'counter', labels, value: 0};
    sample.value += Math.max(0, Math.round(by));
    this.numbers.set(key, sample);
  }
  set(name, labels, value) {
    this.numbers.set(`${name}${JSON.stringify(labels)}`, {name, type: 'gauge', labels, value});
  }
  durations(name, labels, middle, spread, count, tail = 0.012) {
    const key = `${name}${JSON.stringify(labels)}`;
    const sample = this.numbers.get(key) ?? {name, type: 'histogram', labels, durations: new Durations()};
    const draws = Math.min(300, Math.round(count));
    for (let i = 0; i < draws; ++i) {
      const late = this.random.uniform() < tail ? 3 + 30 * this.random.uniform() ** 3 : 1;
      sample.durations.add(middle * Math.exp(spread * this.random.normal()) * late, Math.max(1, Math.round(count / draws)));
    }
    this.numbers.set(key, sample);
  }

  /** @param {number} seconds */
  step(seconds) {
    this.time += seconds;
    const {normal} = this.random;
    const wave = 1 + 0.25 * Math.sin((this.time - this.start) / 17) + 0.04 * normal();
    this.set('warmfork_build_info', {version: '0.1.0', backend: 'pvm'}, 1);
    this.set('warmfork_start_time_seconds', {}, this.start);
    this.set('process_start_time_seconds', {}, this.start - 0.2);
    this.set('process_open_fds', {}, 61);
    this.set('process_resident_memory_bytes', {}, 187_432_960 + 4096 * Math.round(40 * wave));
    const cpu = this.numbers.get('process_cpu_seconds_total{}') ?? {name: 'process_cpu_seconds_total', type: 'counter', labels: {}, value: 0};
    cpu.value += 1.63 * seconds * wave;
    this.numbers.set('process_cpu_seconds_total{}', cpu);
    if (this.quiet) return;
    for (const [mode, speed, middle] of [['vm', 9400, 27e-6], ['space', 14_200, 28.4e-6], ['ring', 61_000, 1.4e-7]]) {
      const calls = speed * wave * seconds;
      this.bump('warmfork_vmcalls_total', {mode, result: 'ok'}, calls);
      if (mode !== 'ring') this.bump('warmfork_vmcalls_total', {mode, result: 'fault'}, mode === 'vm' && wave > 1.2 ? 2 * seconds : 0);
      this.durations('warmfork_vmcall_duration_seconds', {mode}, middle * (1 + 0.1 * Math.sin(this.time / 11)), 0.09, calls);
    }
    for (const [strategy, share, middle, pages] of [['dirty_ring', 0.7, 7.4e-7, 8], ['cow_remap', 0.25, 6.8e-6, 5], ['full_copy', 0.05, 4.1e-5, 64]]) {
      const resets = 23_000 * share * wave * seconds;
      this.bump('warmfork_resets_total', {strategy}, resets);
      this.bump('warmfork_reset_pages_total', {strategy}, resets * pages);
      this.durations('warmfork_reset_duration_seconds', {strategy}, middle, 0.15, resets);
    }
    for (const [kind, middle] of [['vm', 5.3e-4], ['space', 1.15e-4]]) {
      this.bump('warmfork_forks_total', {kind}, 3 * seconds + 0.4);
      this.durations('warmfork_fork_duration_seconds', {kind}, middle, 0.2, 3 * seconds + 0.4);
    }
    for (const [reason, speed] of [['return', 23_500], ['doorbell', 4100], ['interrupted', 260], ['fault', 3], ['system_call', 890]]) {
      this.bump('warmfork_exits_total', {reason}, speed * wave * seconds);
    }
    const busy = Math.max(0, Math.min(16, Math.round(8 * wave + 2 * normal())));
    this.set('warmfork_pool_forks', {state: 'busy'}, busy);
    this.set('warmfork_pool_forks', {state: 'ready'}, 18 - busy);
    this.set('warmfork_pool_forks', {state: 'broken'}, wave > 1.22 ? 1 : 0);
    this.set('warmfork_pool_waiting', {}, busy > 14 ? 3 : 0);
    this.set('warmfork_pool_limit_forks', {}, 24);
    this.bump('warmfork_pool_replaced_forks_total', {}, 0);
    this.durations('warmfork_pool_acquire_duration_seconds', {}, 9e-7, 0.4, 23_000 * seconds);
    for (const [engine, speed] of [['auto', 8.1e9], ['interp', 3.2e8]]) this.bump('warmfork_lc3_instructions_total', {engine}, speed * wave * seconds);
    for (const [tier, blocks, bytes, middle] of [['xbyak', 1840, 402_000, 3.1e-5], ['orc', 212, 148_000, 2.3e-2]]) {
      this.set('warmfork_jit_blocks', {tier}, blocks);
      this.set('warmfork_jit_code_bytes', {tier}, bytes);
      this.bump('warmfork_jit_compiles_total', {tier}, 2 * seconds + 0.5);
      this.durations('warmfork_jit_compile_duration_seconds', {tier}, middle, 0.3, 2 * seconds + 0.5);
    }
    for (const [result, count] of [['hit', 1], ['miss', 0.3], ['refused', 0]]) this.bump('warmfork_jit_cache_total', {result}, count * seconds);
    for (let i = 0; i < this.machines; ++i) {
      const vm = `${this.names[i % 8]}-${Math.floor(i / 8) + 1}`;
      const state = this.faulted.has(i) ? 'faulted' : i % 7 === 6 ? 'done' : i % 5 === 3 ? 'waiting' : 'running';
      this.set('warmfork_vm_info', {vm, program: `programs/bus/${this.names[i % 8]}.asm`, kind: i % 3 ? 'space' : 'vm', engine: 'auto'}, 1);
      for (const each of ['waiting', 'running', 'done', 'faulted', 'stopped']) this.set('warmfork_vm_state', {vm, state: each}, each === state ? 1 : 0);
      this.bump('warmfork_vm_instructions_total', {vm}, state === 'running' ? 6.5e8 * wave * seconds * (1 + 0.1 * normal()) : seconds < 0.1 ? 48_213_377 : 0);
      this.bump('warmfork_vm_faults_total', {vm}, state === 'faulted' && seconds < 0.1 ? 1 : 0);
      if (state === 'faulted') this.set('warmfork_vm_last_fault_info', {vm, fault: i === 5 ? 'unhandled exception 1 (illegal opcode) at x3012' : 'privilege violation at x0200'}, 1);
      this.set('warmfork_guest_memory_limit_bytes', {vm}, 4 << 20);
      if (i % 2) this.set('warmfork_guest_deadline_seconds', {vm}, 2);
      this.set('warmfork_guest_instruction_budget', {vm}, 1e9);
    }
    const packets = 184_000 * wave * seconds;
    this.bump('warmfork_feed_packets_total', {}, packets);
    this.bump('warmfork_feed_bytes_total', {}, packets * 86);
    for (const [reader, lost] of [['feed_count', 0], ['feed_trigger', 0.0004]]) {
      this.bump('warmfork_feed_read_packets_total', {reader}, packets * (1 - lost));
      this.bump('warmfork_feed_dropped_packets_total', {reader}, packets * lost);
    }
    this.durations('warmfork_feed_lateness_seconds', {}, 2.4e-7, 0.5, packets, 0.03);
    for (const link of ['pipeline-1 → matcher-1', 'matcher-1 → sieve-1']) {
      this.bump('warmfork_link_messages_total', {link}, 21_000 * wave * seconds);
      this.set('warmfork_link_fill_bytes', {link}, Math.round(900 * wave));
    }
  }

  families() {
    const families = new Map();
    for (const {name, type, labels, value, durations} of this.numbers.values()) {
      if (!families.has(name)) families.set(name, {name, type, help: `What ${name} counts.`, samples: []});
      families.get(name).samples.push(type === 'histogram' ? {labels, ...durations.toJSON()} : {labels, value});
    }
    return [...families.values()];
  }

  live() {
    return {schema: 1, time_unix_s: this.time, uptime_s: this.time - this.start, command: this.command, families: this.families()};
  }

  /** Prometheus text, of the same numbers. */
  metrics() {
    let text = '';
    const escape = (value) => value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
    for (const {name, type, help, samples} of this.families()) {
      text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
      for (const sample of samples) {
        const pairs = Object.entries(sample.labels).map(([key, value]) => `${key}="${escape(value)}"`);
        const labels = (more = []) => (pairs.length + more.length > 0 ? `{${[...pairs, ...more].join(',')}}` : '');
        if (type !== 'histogram') {
          text += `${name}${labels()} ${sample.value}\n`;
          continue;
        }
        for (const [upper, cumulative] of sample.buckets) text += `${name}_bucket${labels([`le="${upper}"`])} ${cumulative}\n`;
        text += `${name}_bucket${labels(['le="+Inf"'])} ${sample.count}\n${name}_sum${labels()} ${sample.sum}\n${name}_count${labels()} ${sample.count}\n`;
      }
    }
    return text;
  }
}

/**
 * Serves a page and a process's numbers.
 * @param {{page: string, policy?: string, process: Process, port?: number}} options
 * @returns {Promise<{url: string, asked: string[], times: number[], frozen: boolean, broken: boolean, close: () => Promise<void>}>}
 *          asked: every path; times: when it was asked for live.json, in ms; frozen: time stands still; broken: answers 500
 */
export async function serve({page, policy = '', process, port = 0}) {
  const state = {asked: [], times: [], frozen: false, broken: false, process};
  const server = createServer((request, response) => {
    state.asked.push(request.url);
    const answer = (type, body) => {
      response.writeHead(200, {'Content-Type': type, 'Cache-Control': 'no-store', ...(policy ? {'Content-Security-Policy': policy} : {})});
      response.end(body);
    };
    if (state.broken) response.writeHead(500).end();
    else if (request.url === '/') answer('text/html; charset=utf-8', page);
    else if (request.url === '/metrics') answer('text/plain; version=0.0.4; charset=utf-8', state.process.metrics());
    else if (request.url === '/live.json') {
      state.times.push(performance.now());
      const now = Date.now() / 1000;
      // Far behind it catches up by a second for each question: that makes a history in no time.
      if (!state.frozen && state.process.time < now) state.process.step(Math.min(1, now - state.process.time));
      answer('application/json', JSON.stringify(state.process.live()));
    } else response.writeHead(404).end();
  });
  await new Promise((done) => server.listen(port, '127.0.0.1', done));
  return Object.assign(state, {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((done) => {
      server.close(done);
      server.closeAllConnections();
    }),
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve({page: readFileSync(process.argv[2]), process: new Process(), port: Number(process.argv[3] ?? 0)});
  console.log(server.url);
}
