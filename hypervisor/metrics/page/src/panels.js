// Every panel: what it shows, what it says when there is nothing. A panel is {element, update(history, window), restyle()}.
import {Chart} from './chart.js';
import * as derive from './derive.js';
import {h, keyed, setAttribute, setQuantity, setRaw, setText, table} from './dom.js';
import * as units from './units.js';

/** Machines shown as cards; a search shows others. */
const MOST_CARDS = 240;
const LATENCY_LINES = [{name: 'p50', color: '--p50', width: 1.75}, {name: 'p99', color: '--p99', width: 1.5},
                       {name: 'p99.9', color: '--p999', width: 1}];

/** @param {{id: string, title: string, empty: string, span?: string, has: (history) => boolean}} options */
function panel({id, title, empty, span = 'third', has}, build) {
  const note = h('p.note');
  const tools = h('div.tools');
  const body = h('div.body');
  const nothing = h('p.nothing', {}, empty);
  const element = h(`section.panel.${span}.empty`, {id, 'aria-labelledby': `${id}-title`},
    h('header', {}, h('h2', {id: `${id}-title`}, title), note, tools), nothing, body);
  const inner = build({body, note, tools, title, id});
  return {
    element,
    update(history, window) {
      const shown = has(history);
      element.classList.toggle('empty', !shown);
      if (shown) inner.update(history, window);
    },
    restyle: () => inner.restyle?.(),
  };
}

/** A chart, and a button that shows the same numbers as a table instead. */
function charted({body, tools, title, id}, chart) {
  const host = h('div.scroll', {id: `${id}-table`, tabindex: '0', role: 'region', 'aria-label': `${title}, as a table`, hidden: true});
  const numbers = table({
    caption: `${title} over time, newest first`,
    columns: [
      {title: 'time', text: true, cell: (cell, {time}) => setText(cell, new Date(time * 1000).toLocaleTimeString('en-GB'))},
      ...chart.options.lines.map(({name}, i) => ({
        title: name,
        cell: (cell, {values}) => setText(cell, units.joined(chart.options.format(values[i]))),
      })),
    ],
    key: ({time}) => String(time),
  });
  host.append(numbers.element);
  const button = h('button.quiet', {type: 'button', 'aria-pressed': 'false', 'aria-controls': host.id, onclick: () => {
    host.hidden = !host.hidden;
    chart.element.hidden = !host.hidden;
    button.setAttribute('aria-pressed', String(!host.hidden));
    show();
  }}, 'Table');
  let latest = null;
  const show = () => {
    if (latest === null) return;
    if (host.hidden) chart.update(latest.data, latest.window);
    else numbers.update(latest.data.times.map((time, i) => ({time, values: latest.data.lines.map((line) => line[i])})).reverse());
  };
  tools.append(button);
  body.append(chart.element, host);
  return {
    update(data, window) {
      latest = {data, window};
      show();
    },
    restyle: () => chart.restyle(),
  };
}

/** Lines in the order of `names`; what else there is comes under its own name only in the table of all numbers. */
const ordered = ({times, lines}, names) => ({times, lines: names.map((name) => lines.get(name) ?? times.map(() => null))});

const rateCell = (cell, value) => setQuantity(cell, units.rate(value));
const durationCell = (cell, value) => setQuantity(cell, units.duration(value));
const countCell = (cell, metric, sample) => {
  setText(cell, sample === undefined ? '–' : units.exact(sample.value));
  setRaw(cell, metric, sample);
};

function requests() {
  const modes = ['vm', 'space', 'ring'];
  const name = 'warmfork_vmcalls_total';
  return panel({id: 'requests', title: 'Requests', span: 'full', empty: 'no call into a guest yet', has: (history) => derive.has(history, name)},
    (place) => {
      const chart = charted(place, new Chart({
        title: place.title,
        lines: modes.map((mode) => ({name: mode, color: `--${mode}`, width: 1.75})),
        format: units.rate,
      }));
      const results = h('ul.facts');
      place.body.append(results);
      setText(place.note, 'calls into guests per second, by mode');
      return {
        update(history, window) {
          chart.update(ordered(derive.rateLines(history, {name, label: 'mode', which: ({value}) => value > 0}, window), modes), window);
          const list = derive.samples(history, name).filter(({value}) => value > 0);
          keyed(results, list, ({key}) => key, () => h('li', {}, h('span.n'), h('span.u')), (item, sample) => {
            const result = sample.labels.get('result') ?? '';
            item.className = ['ok', 'budget'].includes(result) ? '' : 'bad';
            setText(item.children[0], units.exact(sample.value));
            setText(item.children[1], ` ${sample.labels.get('mode')} ${result}`);
            setRaw(item, name, sample);
          });
        },
        restyle: chart.restyle,
      };
    });
}

/** A heat map with percentiles. */
function latencyPanel({id, title, note, empty, name, which}) {
  return panel({id, title, empty, has: (history) => derive.samples(history, name).some((sample) => which(sample) && sample.value > 0)},
    (place) => {
      const chart = charted(place, new Chart({title, lines: LATENCY_LINES, format: units.duration, logarithmic: true}));
      setText(place.note, note);
      return {
        update(history, window) {
          const data = derive.latency(history, {name, which}, window);
          chart.update({times: data.times, lines: [data.p50, data.p99, data.p999], heat: data}, window);
        },
        restyle: chart.restyle,
      };
    });
}

const latencyOf = (mode, what) => latencyPanel({
  id: `latency-${mode}`, title: `Latency, ${mode}`, note: what, empty: `no calls of this mode yet`,
  name: 'warmfork_vmcall_duration_seconds', which: ({labels}) => labels.get('mode') === mode,
});

function exits() {
  const name = 'warmfork_exits_total';
  return panel({id: 'exits', title: 'Exits', empty: 'no KVM_RUN has come back yet', has: (history) => derive.has(history, name)}, ({body, note}) => {
    const rows = table({
      caption: 'Exits by reason',
      columns: [
        {title: 'reason', text: true, cell: (cell, {name: reason, share}) => {
          setText(cell, reason);
          cell.classList.add('share');
          cell.style.setProperty('--share', String(share));
        }},
        {title: 'rate', cell: (cell, {rate}) => rateCell(cell, rate)},
        {title: 'share', cell: (cell, {share}) => setQuantity(cell, units.percent(share))},
        {title: 'total', cell: (cell, {sample}) => countCell(cell, name, sample)},
      ],
      key: ({name: reason}) => reason,
    });
    body.append(h('div.scroll', {}, rows.element));
    setText(note, 'returns of KVM_RUN, by reason');
    return {update: (history) => rows.update(derive.shares(history, name, 'reason'))};
  });
}

function resets() {
  const [name, durations, pages] = ['warmfork_resets_total', 'warmfork_reset_duration_seconds', 'warmfork_reset_pages_total'];
  return panel({id: 'resets', title: 'Resets', empty: 'no fork has been put back yet', has: (history) => derive.has(history, name)}, ({body, note}) => {
    const rows = table({
      caption: 'Resets by strategy',
      columns: [
        {title: 'strategy', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'rate', cell: (cell, row) => rateCell(cell, row.rates[name])},
        {title: 'p50', hint: 'of the last 10 s', cell: (cell, row) => durationCell(cell, row.durations[durations]?.p50)},
        {title: 'p99', hint: 'of the last 10 s', cell: (cell, row) => durationCell(cell, row.durations[durations]?.p99)},
        {title: 'pages each', wide: true, cell: (cell, row) => setQuantity(cell, units.count(derive.ratio(row.rates[pages], row.rates[name])))},
        {title: 'total', cell: (cell, row) => countCell(cell, name, row.samples[name])},
      ],
      key: (row) => row.name,
    });
    body.append(h('div.scroll', {}, rows.element));
    setText(note, 'forks put back, by strategy');
    return {update: (history) => rows.update(derive.byLabel(history, 'strategy', {counters: [name, pages], histograms: [durations]}))};
  });
}

function forks() {
  const [name, durations] = ['warmfork_forks_total', 'warmfork_fork_duration_seconds'];
  return panel({id: 'forks', title: 'Forks made', empty: 'none yet', has: (history) => derive.has(history, name)}, ({body}) => {
    const rows = table({
      caption: 'Forks by kind',
      columns: [
        {title: 'kind', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'rate', cell: (cell, row) => rateCell(cell, row.rates[name])},
        {title: 'p50', hint: 'of the last 10 s', cell: (cell, row) => durationCell(cell, row.durations[durations]?.p50)},
        {title: 'p99', hint: 'of the last 10 s', cell: (cell, row) => durationCell(cell, row.durations[durations]?.p99)},
        {title: 'total', cell: (cell, row) => countCell(cell, name, row.samples[name])},
      ],
      key: (row) => row.name,
    });
    body.append(h('div.scroll', {}, rows.element));
    return {update: (history) => rows.update(derive.byLabel(history, 'kind', {counters: [name], histograms: [durations]}))};
  });
}

function pool() {
  const names = ['busy', 'ready', 'broken'];
  return panel({id: 'pool', title: 'Pool', empty: 'no pool of forks',
                has: (history) => derive.has(history, 'warmfork_pool_forks') || derive.has(history, 'warmfork_pool_limit_forks')},
    (place) => {
      const chart = charted(place, new Chart({
        title: 'Pool occupancy', stacked: true, format: units.count, height: 120,
        lines: names.map((state) => ({name: state, color: `--pool-${state}`, fill: true, width: 1})),
      }));
      const facts = h('dl.pairs');
      const fact = (label) => {
        const value = h('dd');
        facts.append(h('div', {}, h('dt', {}, label), value));
        return value;
      };
      const [limit, waiting, replaced, p50, p99] = ['limit', 'waiting', 'replaced', 'acquire p50', 'acquire p99'].map(fact);
      place.body.append(facts);
      setText(place.note, 'forks by state');
      return {
        update(history, window) {
          const one = (name) => derive.samples(history, name)[0];
          chart.update({...ordered(derive.gaugeLines(history, {name: 'warmfork_pool_forks', label: 'state'}, window), names),
                        ceiling: one('warmfork_pool_limit_forks')?.value}, window);
          countCell(limit, 'warmfork_pool_limit_forks', one('warmfork_pool_limit_forks'));
          countCell(waiting, 'warmfork_pool_waiting', one('warmfork_pool_waiting'));
          countCell(replaced, 'warmfork_pool_replaced_forks_total', one('warmfork_pool_replaced_forks_total'));
          const acquire = derive.percentiles(derive.recentDistribution(history, 'warmfork_pool_acquire_duration_seconds'));
          setQuantity(p50, units.duration(acquire.p50));
          setQuantity(p99, units.duration(acquire.p99));
        },
        restyle: chart.restyle,
      };
    });
}

function jit() {
  const [blocks, compiles, durations, bytes] = ['warmfork_jit_blocks', 'warmfork_jit_compiles_total',
    'warmfork_jit_compile_duration_seconds', 'warmfork_jit_code_bytes'];
  const [engines, cache] = ['warmfork_lc3_instructions_total', 'warmfork_jit_cache_total'];
  return panel({id: 'lc3', title: 'LC-3', empty: 'no LC-3 instruction executed yet',
                has: (history) => derive.has(history, engines) || derive.has(history, compiles)}, ({body, note}) => {
    const byEngine = table({
      caption: 'LC-3 instructions by engine',
      columns: [
        {title: 'engine', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'instructions/s', cell: (cell, row) => rateCell(cell, row.rates[engines])},
        {title: 'total', cell: (cell, row) => countCell(cell, engines, row.samples[engines])},
      ],
      key: (row) => row.name,
    });
    const byTier = table({
      caption: 'Compiled code by tier',
      columns: [
        {title: 'tier', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'blocks', cell: (cell, row) => countCell(cell, blocks, row.samples[blocks])},
        {title: 'code', cell: (cell, row) => {
          setQuantity(cell, units.bytes(row.totals[bytes]));
          setRaw(cell, bytes, row.samples[bytes]);
        }},
        {title: 'compiles', cell: (cell, row) => countCell(cell, compiles, row.samples[compiles])},
        {title: 'p50', hint: 'of the last 10 s', cell: (cell, row) => durationCell(cell, row.durations[durations]?.p50)},
        {title: 'p99', hint: 'of the last 10 s', wide: true, cell: (cell, row) => durationCell(cell, row.durations[durations]?.p99)},
      ],
      key: (row) => row.name,
    });
    const files = h('p.facts');
    body.append(h('div.scroll', {}, byEngine.element), h('div.scroll', {}, byTier.element), files);
    setText(note, 'instructions by engine, compiled code by tier');
    return {
      update(history) {
        byEngine.update(derive.byLabel(history, 'engine', {counters: [engines]}));
        const tiers = derive.byLabel(history, 'tier', {counters: [compiles], gauges: [blocks, bytes], histograms: [durations]});
        byTier.update(tiers);
        byTier.element.parentElement.hidden = tiers.length === 0;
        const found = derive.samples(history, cache).filter(({value}) => value > 0);
        setText(files, found.length === 0 ? '' : `Code on the disk: ${found.map(({labels, value}) => `${units.exact(value)} ${labels.get('result')}`).join(', ')}`);
      },
    };
  });
}

function feed() {
  const lateness = 'warmfork_feed_lateness_seconds';
  const [read, dropped] = ['warmfork_feed_read_packets_total', 'warmfork_feed_dropped_packets_total'];
  const [packets, bytes] = ['warmfork_feed_packets_total', 'warmfork_feed_bytes_total'];
  return panel({id: 'feed', title: 'Feed', empty: 'no packet replayed yet',
                has: (history) => derive.has(history, packets) || derive.has(history, lateness)}, (place) => {
    const chart = charted(place, new Chart({title: 'Feed lateness', lines: LATENCY_LINES, format: units.duration, logarithmic: true}));
    const unpaced = h('p.nothing', {}, 'not paced: nothing can be late');
    const readers = table({
      caption: 'Readers of the feed',
      columns: [
        {title: 'reader', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'read', cell: (cell, row) => rateCell(cell, row.rates[read])},
        {title: 'packets', cell: (cell, row) => countCell(cell, read, row.samples[read])},
        {title: 'dropped', cell: (cell, row) => {
          countCell(cell, dropped, row.samples[dropped]);
          cell.classList.toggle('bad', (row.totals[dropped] ?? 0) > 0);
        }},
        {title: 'dropping', wide: true, cell: (cell, row) => rateCell(cell, row.rates[dropped])},
      ],
      key: (row) => row.name,
    });
    place.body.prepend(unpaced);
    place.body.append(h('div.scroll', {}, readers.element));
    return {
      update(history, window) {
        const data = derive.latency(history, {name: lateness}, window);
        unpaced.hidden = derive.has(history, lateness);
        chart.update({times: data.times, lines: [data.p50, data.p99, data.p999], heat: data}, window);
        const sent = units.rate(derive.recentRate(history, packets));
        const volume = derive.recentRate(history, bytes);
        setText(place.note, `lateness of packets · ${sent.number} ${sent.unit.replace('/s', '')}packets/s${volume === null ? '' : ` · ${units.joined(units.bytes(volume))}/s`}`);
        readers.update(derive.byLabel(history, 'reader', {counters: [read, dropped]}));
      },
      restyle: chart.restyle,
    };
  });
}

function links() {
  const [messages, fill] = ['warmfork_link_messages_total', 'warmfork_link_fill_bytes'];
  return panel({id: 'links', title: 'Links', empty: 'no links between machines', has: (history) => derive.samples(history, messages).length > 0}, ({body, note}) => {
    const rows = table({
      caption: 'Links between machines',
      columns: [
        {title: 'link', text: true, cell: (cell, row) => setText(cell, row.name)},
        {title: 'rate', cell: (cell, row) => rateCell(cell, row.rates[messages])},
        {title: 'in the ring', cell: (cell, row) => {
          setQuantity(cell, units.bytes(row.totals[fill]));
          setRaw(cell, fill, row.samples[fill]);
        }},
        {title: 'messages', cell: (cell, row) => countCell(cell, messages, row.samples[messages])},
      ],
      key: (row) => row.name,
    });
    body.append(h('div.scroll', {}, rows.element));
    setText(note, 'messages between machines');
    return {update: (history) => rows.update(derive.byLabel(history, 'link', {counters: [messages], gauges: [fill]}))};
  });
}

const SVG = 'http://www.w3.org/2000/svg';
/** A line without axes; the number beside it says what it ends at. */
function trend(path, values) {
  const most = Math.max(...values.map((value) => value ?? 0), 1e-9);
  let line = '';
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) {
      pen = false;
      return;
    }
    line += `${pen ? 'L' : 'M'}${((100 * (i + 1)) / values.length).toFixed(1)} ${(19 - (17 * value) / most).toFixed(1)}`;
    pen = true;
  });
  setAttribute(path, 'd', line);
}

const SIGNS = Object.freeze({faulted: '✕', running: '▶', waiting: '○', stopped: '■', done: '✓'});

function fleet() {
  const has = (history) => derive.samples(history, 'warmfork_vm_info').length > 0 || derive.samples(history, 'warmfork_vm_state').length > 0;
  return panel({id: 'fleet', title: 'Fleet', span: 'full', empty: 'no machines of a fleet', has}, ({body, note, tools}) => {
    let wanted = '';
    let machines = [];
    const filters = h('div.chips', {role: 'group', 'aria-label': 'Show machines in one state'});
    const search = h('input', {type: 'search', placeholder: 'Find a machine or program', 'aria-label': 'Find a machine or program', oninput: () => show()});
    const cards = h('ul.cards');
    const rest = h('p.note', {'aria-live': 'polite'});
    tools.append(search);
    body.append(filters, cards, rest);

    function card() {
      const svg = document.createElementNS(SVG, 'svg');
      svg.setAttribute('viewBox', '0 0 100 20');
      svg.setAttribute('preserveAspectRatio', 'none');
      svg.setAttribute('aria-hidden', 'true');
      svg.append(document.createElementNS(SVG, 'path'));
      return h('li.card', {},
        h('div.top', {}, h('span.sign', {'aria-hidden': 'true'}), h('strong'), h('span.state')),
        h('div.program'), h('div.speed', {}, h('span.rate'), svg), h('div.fault'), h('div.about'));
    }
    function fill(element, machine) {
      const [top, program, speed, fault, about] = element.children;
      const [speedValue, line] = speed.children;
      setAttribute(element, 'data-state', machine.state);
      setAttribute(element, 'data-vm', machine.vm);
      setText(top.children[0], SIGNS[machine.state] ?? '?');
      setText(top.children[1], machine.vm);
      setText(top.children[2], machine.state || 'unknown');
      setText(program, machine.program.slice(machine.program.lastIndexOf('/') + 1));
      setAttribute(program, 'title', machine.program);
      const running = machine.state === 'running' && machine.rate !== null;
      const {number, unit} = units.count(running ? machine.rate : machine.total);
      setQuantity(speedValue, machine.total === null ? {number: '', unit: ''} : {number, unit: `${unit} instr${running ? '/s' : ''}`});
      setAttribute(speedValue, 'title', machine.total === null ? null : `${units.exact(machine.total)} instructions in all`);
      setRaw(speedValue, 'warmfork_vm_instructions_total', machine.total === null ? undefined
        : {key: JSON.stringify({vm: machine.vm}), value: machine.total});
      setAttribute(line, 'visibility', running ? null : 'hidden');
      if (running) trend(line.firstChild, machine.trend());
      setText(fault, machine.lastFault === '' ? '' : `${machine.lastFault}${machine.faults > 1 ? ` (${units.exact(machine.faults)} faults)` : ''}`);
      const {memory, deadline, budget} = machine.limits;
      setText(about, [machine.engine, machine.kind, memory === null ? '' : units.joined(units.tidy(units.bytes(memory))),
                      deadline === null ? '' : units.joined(units.tidy(units.duration(deadline))),
                      budget === null ? '' : `${units.joined(units.tidy(units.count(budget)))} instr`].filter((part) => part !== '').join(' · '));
      setAttribute(about, 'title', 'engine, kind of fork, limits');
    }
    function show() {
      const text = search.value.trim().toLowerCase();
      const found = machines.filter(({vm, program, state}) => (wanted === '' || state === wanted) &&
        (text === '' || vm.toLowerCase().includes(text) || program.toLowerCase().includes(text)));
      keyed(cards, found.slice(0, MOST_CARDS), ({vm}) => vm, card, fill);
      setText(rest, found.length === 0 ? 'No machine is like that.'
        : found.length > MOST_CARDS ? `${units.exact(found.length - MOST_CARDS)} more; search for them.` : '');
    }
    return {
      update(history) {
        machines = derive.fleet(history);
        const states = derive.states(machines);
        if (wanted !== '' && !states.has(wanted)) wanted = '';
        setText(note, `${units.exact(machines.length)} ${machines.length === 1 ? 'machine' : 'machines'}`);
        search.hidden = machines.length < 9;
        keyed(filters, /** @type {[string, number][]} */ ([['', machines.length], ...states]), ([state]) => state,
              ([state]) => h('button.chip', {type: 'button', 'data-state': state, onclick: () => {
                wanted = state;
                for (const chip of filters.children) chip.setAttribute('aria-pressed', String(chip.dataset.state === wanted));
                show();
              }}, ''),
              (chip, [state, count]) => {
                setText(chip, `${state === '' ? 'all' : `${SIGNS[state] ?? '?'} ${state}`} ${count}`);
                setAttribute(chip, 'aria-pressed', String(state === wanted));
              });
        filters.hidden = states.size < 2;
        show();
      },
    };
  });
}

/** Every sample, by name: what the charts are made of. Filled while it is open. */
function everything() {
  const element = h('details.panel.full', {id: 'everything', 'aria-label': 'All numbers'});
  const search = h('input', {type: 'search', placeholder: 'Part of a name or label', 'aria-label': 'Part of a name or label', oninput: () => show()});
  const summary = h('summary', {}, h('h2', {}, 'All numbers'), h('span.note'));
  let history = null;
  const rows = table({
    caption: 'Every metric as the process said it',
    columns: [
      {title: 'metric', text: true, cell: (cell, {family}) => {
        setText(cell, family.name);
        setAttribute(cell, 'title', family.help);
      }},
      {title: 'labels', text: true, cell: (cell, {sample}) => setText(cell, [...sample.labels].map(([key, value]) => `${key}=${value}`).join(' '))},
      {title: 'value', cell: (cell, {family, sample}) => countCell(cell, family.type === 'histogram' ? `${family.name}_count` : family.name, sample)},
      {title: 'per second', wide: true, cell: (cell, {rate}) => setText(cell, rate === null ? '' : units.joined(units.count(rate)))},
    ],
    key: ({family, sample}) => family.name + sample.key,
  });
  element.append(summary, h('div.tools', {}, search), h('div.scroll', {tabindex: '0', role: 'region', 'aria-label': 'All numbers'}, rows.element));
  function show() {
    if (history?.last == null) return;
    const {last, previous} = history;
    let count = 0;
    for (const family of last.families.values()) count += family.samples.size;
    setText(summary.lastChild, `${units.exact(count)} samples of ${units.exact(last.families.size)} metrics${last.left_out > 0 ? `, ${units.exact(last.left_out)} left out` : ''}`);
    if (!element.open) return;
    const text = search.value.trim().toLowerCase();
    const list = [];
    for (const family of last.families.values()) {
      for (const sample of family.samples.values()) {
        if (text !== '' && !family.name.includes(text) && !sample.key.toLowerCase().includes(text)) continue;
        if (list.length === 2000) break;
        const before = previous?.families.get(family.name)?.samples.get(sample.key)?.value;
        const rate = family.type === 'gauge' || before === undefined || sample.value < before ? null
          : (sample.value - before) / (last.time - previous.time);
        list.push({family, sample, rate});
      }
    }
    rows.update(list);
  }
  element.addEventListener('toggle', show);
  return {element, update: (now) => {
    history = now;
    show();
  }};
}

/** In the order of the page. */
export const panels = () => [
  requests(), latencyOf('vm', 'a KVM VM of its own'), latencyOf('space', 'one VM shared'), latencyOf('ring', 'without exits'),
  exits(), resets(), forks(), pool(), fleet(), feed(), jit(), links(), everything(),
];

/** Short panels that share a place. */
const STACKED = Object.freeze([['resets', 'forks']]);
export function arranged(all) {
  const elements = all.map(({element}) => element);
  for (const ids of STACKED) {
    const members = elements.filter(({id}) => ids.includes(id));
    elements.splice(elements.indexOf(members[0]), members.length, h('div.stack.third', {}, ...members));
  }
  return elements;
}
