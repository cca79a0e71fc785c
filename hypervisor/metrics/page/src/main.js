// Wiring: polls, keeps, shows; the state of the connection; the theme and the window of time.
import * as derive from './derive.js';
import {h, setAttribute, setQuantity, setRaw, setText} from './dom.js';
import {History} from './history.js';
import {arranged, panels} from './panels.js';
import {Poller} from './poll.js';
import {parseSnapshot} from './snapshot.js';
import * as units from './units.js';

const TIMEOUT_MS = 4000;
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const remembered = {
  get: (key) => {
    try {
      return localStorage.getItem(`warmfork.${key}`);
    } catch {
      return null; // no storage: nothing is remembered
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(`warmfork.${key}`, value);
    } catch {
      // as above
    }
  },
};

const history = new History({kept: derive.KEPT});
const all = panels();
let window_ = derive.WINDOWS.find(({name}) => name === remembered.get('window')) ?? derive.WINDOWS[1];
let answeredAt = 0;
let gone = '';
let paused = false;

// --- Numbers on top ---------------------------------------------------------------------------------------------------

const modeStat = (mode) => ({
  title: `${mode} p50`,
  show: (now) => (now.latency.get(mode).count === 0 ? null : units.duration(now.latency.get(mode).p50)),
  more: (now) => `p99 ${units.joined(units.duration(now.latency.get(mode).p99))}`,
});
const some = (value, unit) => (value === null ? null : unit(value));
const STATS = [
  {title: 'requests', show: (now) => some(now.requests, units.rate), more: (now) => `${now.failures > 0 ? units.joined(units.rate(now.failures)) : 'none'} failed`, bad: (now) => now.failures > 0},
  modeStat('vm'), modeStat('space'), modeStat('ring'),
  {title: 'resets', show: (now) => some(now.resets, units.rate), more: (now) => `${units.joined(units.count(now.pages))} pages/s`},
  {title: 'LC-3 instructions', show: (now) => some(now.instructions, units.rate)},
  {title: 'packets', show: (now) => some(now.packets, units.rate), more: (now) => `${now.dropped > 0 ? units.joined(units.rate(now.dropped)) : 'none'} dropped`, bad: (now) => now.dropped > 0},
  {title: 'processors', show: (now) => some(now.cpu, (cpu) => units.count(Math.round(cpu * 100) / 100)), more: () => 'in use'},
  {title: 'memory', show: (now) => some(now.memory, units.bytes), more: (now) => (now.descriptors === null ? '' : `${units.exact(now.descriptors)} descriptors`),
   metric: 'process_resident_memory_bytes'},
];
for (const stat of STATS) {
  stat.value = h('dd');
  stat.less = h('dd.more');
  stat.element = h('div', {hidden: true}, h('dt', {}, stat.title), stat.value, stat.less);
  byId('stats').append(stat.element);
}

function showStats() {
  const now = derive.overview(history);
  for (const {value, less, element, show, more, bad, metric} of STATS) {
    const quantity = show(now);
    element.hidden = quantity === null;
    if (quantity === null) continue;
    setQuantity(value, quantity);
    setText(less, more?.(now) ?? '');
    less.classList.toggle('bad', bad?.(now) ?? false);
    if (metric !== undefined) setRaw(value, metric, derive.samples(history, metric)[0]);
  }
}

// --- State ------------------------------------------------------------------------------------------------------------

function showState() {
  const state = gone !== '' ? 'gone' : paused ? 'paused' : history.last === null ? 'starting' : 'live';
  setAttribute(document.documentElement, 'data-state', state);
  const ago = units.elapsed((performance.now() - answeredAt) / 1000);
  setText(byId('state'), {live: 'live', paused: 'paused', starting: 'asking', gone: answeredAt === 0 ? 'no answer' : `gone for ${ago}`}[state]);
  byId('gone').hidden = state !== 'gone';
  if (state === 'gone') {
    setText(byId('gone-text'), answeredAt === 0 ? `The process does not answer: ${gone}.`
      : `The process does not answer any more: ${gone}. What you see is from ${new Date(history.last.time * 1000).toLocaleTimeString('en-GB')}.`);
  }
}

function showAll() {
  const {last} = history;
  if (last === null) return;
  setText(byId('command'), last.command);
  setAttribute(byId('command'), 'title', last.command);
  setText(byId('uptime'), `up ${units.elapsed(last.uptime)}`);
  const build = derive.samples(history, 'warmfork_build_info')[0]?.labels;
  setText(byId('build'), build === undefined ? '' : `${build.get('version') ?? ''} · ${build.get('backend') ?? ''}`);
  document.title = last.command === '' ? 'warmfork' : `${last.command} – warmfork`;
  setAttribute(document.documentElement, 'data-time', String(last.time));
  setAttribute(document.documentElement, 'data-readings', String(history.times.length));
  showStats();
  const window = derive.fitting(history, window_);
  for (const panel of all) panel.update(history, window);
}

// --- Asking -----------------------------------------------------------------------------------------------------------

const poller = new Poller({
  async ask() {
    const answer = await fetch('live.json', {cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS)});
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    return parseSnapshot(await answer.json());
  },
  answered(snapshot) {
    gone = '';
    answeredAt = performance.now();
    if (history.push(snapshot) === 'restarted') byId('said').textContent = 'Another process answers now.';
    showState();
    showAll();
  },
  failed(error, times) {
    // One lost answer is not yet an end.
    if (times >= 2 || history.last === null) {
      gone = error.name === 'TimeoutError' ? 'no answer within 4 s' : error.name === 'TypeError' ? 'the connection failed' : error.message;
    }
    showState();
  },
});

function follow() {
  if (document.hidden || paused) poller.stop();
  else poller.start();
  showState();
}
document.addEventListener('visibilitychange', follow);
setInterval(() => {
  if (gone !== '' && !document.hidden) showState();
}, 1000);

// --- Controls ---------------------------------------------------------------------------------------------------------

const pause = byId('pause');
pause.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  follow();
});

for (const choice of derive.WINDOWS) {
  const button = h('button', {type: 'button', 'aria-pressed': String(choice === window_), onclick: () => {
    window_ = choice;
    remembered.set('window', choice.name);
    for (const other of byId('window').children) other.setAttribute('aria-pressed', String(other === button));
    showAll();
  }}, choice.name);
  byId('window').append(button);
}

const THEMES = ['auto', 'light', 'dark'];
let theme = THEMES.find((name) => name === remembered.get('theme')) ?? 'auto';
const dark = window.matchMedia('(prefers-color-scheme: dark)');
function restyle() {
  setAttribute(document.documentElement, 'data-theme', theme !== 'auto' ? theme : dark.matches ? 'dark' : 'light');
  setText(byId('theme-name'), theme);
  for (const panel of all) panel.restyle?.();
}
byId('theme').addEventListener('click', () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  remembered.set('theme', theme);
  restyle();
});
dark.addEventListener('change', restyle);

byId('panels').append(...arranged(all));
restyle();
follow();
