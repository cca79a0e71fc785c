// node browser_test.mjs PAGE.html PAGE.policy CHROMIUM SCREENSHOTS WARMFORK PROGRAMS
// The live page in a real browser: against a process whose numbers are known, then against warmfork itself.
// Exit: 0 all well, 1 not, 77 cannot be tried (why is printed).
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {accessSync, constants, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {Browser} from './chromium.mjs';
import {Process, serve} from './fixture.mjs';

const [pageFile, policyFile, chromium, screenshots, warmfork, programs] = process.argv.slice(2);
function skip(why) {
  console.log(`page: skipped, ${why}`);
  process.exit(77);
}
if (!existsSync(chromium ?? '')) skip('there is no chromium');
const html = readFileSync(pageFile, 'utf8');
if (html === '') skip('this build has the plain page only');
const policy = readFileSync(policyFile, 'utf8');
mkdirSync(screenshots, {recursive: true});

let failures = 0;
async function check(name, body) {
  const begin = Date.now();
  try {
    await body();
    console.log(`ok ${name} (${Date.now() - begin} ms)`);
  } catch (error) {
    ++failures;
    console.log(`NOT OK ${name}: ${error.stack}`);
  }
}

/** Prometheus text as name{labels as the page has them} -> value. */
function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split('\n')) {
    const match = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match || match[1].endsWith('_bucket')) continue;
    const labels = [...(match[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, key, value]) => [key, value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c))]).sort(([a], [b]) => (a < b ? -1 : 1));
    values.set(`${match[1]} {${labels.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`, Number(match[3]));
  }
  return values;
}
const shownNumbers = (page) => page.evaluate(`[...document.querySelectorAll('[data-metric]')].filter((e) => e.checkVisibility())
  .map((e) => [e.dataset.metric + ' ' + e.dataset.labels, Number(e.dataset.value), e.textContent])`);
const readings = (page, count) => page.until(`Number(document.documentElement.dataset.readings) >= ${count}`);
const openAll = (page) => page.evaluate(`document.getElementById('everything').open = true`);
function clean(page, url) {
  assert.deepEqual(page.complaints, [], 'the console is not empty');
  assert.ok(page.requests.length > 0);
  for (const request of page.requests) assert.ok(request.startsWith(url) || request.startsWith('data:') || request === 'about:blank', `asked for ${request}`);
}
/** Nothing wider than the screen, nothing cut that cannot be scrolled to. */
const fits = (page) => page.evaluate(`document.documentElement.scrollWidth <= innerWidth`);

const browser = await Browser.start(chromium);
/** A page that has a minute of history already: its first readings come as fast as it can ask. */
async function opened(options, server) {
  const page = await browser.page(options);
  await page.send('Page.addScriptToEvaluateOnNewDocument', {source: `{
    const timer = setTimeout;
    window.setTimeout = (f, ms, ...more) => timer(f, ms > 200 && !(Number(document.documentElement.dataset.readings) > 60) ? 0 : ms, ...more); }`});
  server.process = new Process({start: Date.now() / 1000 - 70});
  await page.open(server.url);
  await readings(page, 61);
  await page.evaluate(`[...document.querySelectorAll('#window button')][0].click()`);
  return page;
}
const server = await serve({page: html, policy, process: new Process()});

const begun = Date.now();
const page = await opened({width: 1440, height: 1000}, server);
console.log(`a page with a minute of history (${Date.now() - begun} ms)`);
const metrics = (width, height, mobile = false) => page.send('Emulation.setDeviceMetricsOverride', {width, height, deviceScaleFactor: 1, mobile});
await check('renders, is quiet, asks for nothing else', async () => {
  await page.until(`document.documentElement.dataset.state === 'live'`);
  assert.equal(await page.evaluate(`document.querySelectorAll('.panel:not(.empty) canvas').length`), 6);
  assert.ok(await page.evaluate(`[...document.querySelectorAll('canvas')].every((c) => {
    const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    return data.some((value) => value !== 0); })`), 'an empty chart');
  assert.equal(await page.evaluate(`document.querySelectorAll('#fleet .card').length`), 12);
  assert.match(await page.evaluate(`document.querySelector('#fleet .card[data-state=faulted] .fault').textContent`), /illegal opcode/);
  assert.ok(await fits(page));
  clean(page, server.url);
});

await check('wide and a phone of 360 px, light and dark', async () => {
  for (const [file, width, height, scheme] of [['wide-light', 1440, 1720, 'light'], ['wide-dark', 1440, 1720, 'dark'],
                                               ['phone-dark', 360, 4200, 'dark'], ['phone-light', 360, 4200, 'light']]) {
    const mobile = width < 500;
    await metrics(width, mobile ? 740 : 1000, mobile);
    await page.media(scheme);
    await page.until(`document.documentElement.dataset.theme === '${scheme}' && innerWidth === ${width}`);
    assert.ok(await fits(page), `${file}: wider than the screen`);
    const ratio = await page.evaluate(`(${contrast})()`);
    assert.ok(ratio.least >= 4.5, `${file}: contrast ${ratio.least} of "${ratio.text}"`);
    if (mobile) {
      assert.deepEqual(await page.evaluate(`[...document.querySelectorAll('.how button, .chip')].filter((b) => b.checkVisibility() && b.getBoundingClientRect().height < 34).map((b) => b.textContent)`), [], 'too small to touch');
    }
    await metrics(width, height, mobile); // all of it, for the picture
    await page.until(`document.querySelector('#feed .u-wrap')?.clientWidth <= document.querySelector('#feed .plot')?.clientWidth`);
    await page.screenshot(join(screenshots, `${file}.png`));
  }
  clean(page, server.url);
});

await check('keys reach everything; charts have tables', async () => {
  await metrics(1280, 900);
  await page.media('light', 'reduce');
  assert.deepEqual(await page.evaluate(`document.getAnimations().length`), 0, 'something moves');
  const reached = [];
  for (let i = 0; i < 80; ++i) {
    await page.press('Tab');
    const name = await page.evaluate(`(() => { const e = document.activeElement;
      return e === document.body ? '' : (e.closest('section, details')?.id || e.closest('.bar')?.className || '') + ' ' + e.tagName + ' ' + (e.id || e.getAttribute('aria-label') || e.textContent.trim()).slice(0, 30); })()`);
    if (name === '' || reached.includes(name)) break;
    reached.push(name);
    assert.ok(await page.evaluate(`document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none' || document.activeElement.matches('.skip')`), `focus cannot be seen: ${name}`);
  }
  for (const wanted of ['bar BUTTON 1 min', 'bar BUTTON pause', 'bar BUTTON theme', 'requests BUTTON Table', 'requests DIV Requests: chart', 'latency-ring DIV', 'pool DIV', 'fleet BUTTON', 'fleet INPUT', 'feed DIV', 'everything SUMMARY']) {
    assert.ok(reached.some((name) => name.startsWith(wanted)), `${wanted} is not among ${reached.join(' | ')}`);
  }
  // A chart is read by arrow keys.
  await page.evaluate(`document.querySelector('#latency-vm .plot').focus()`);
  for (const key of ['ArrowLeft', 'ArrowLeft', 'ArrowLeft']) await page.press(key);
  assert.match(await page.evaluate(`document.querySelector('#latency-vm [aria-live]').textContent`), /\d\d:\d\d:\d\d: p50 \d.* µs, p99 .*, p99.9 /);
  await page.press('Escape');
  // Its table has the same numbers.
  await page.evaluate(`document.querySelector('#requests .quiet').focus()`);
  await page.press('Enter');
  assert.ok(await page.evaluate(`document.querySelectorAll('#requests-table tbody tr').length > 20 && document.querySelector('#requests .chart').hidden`));
  assert.deepEqual(await page.evaluate(`[...document.querySelectorAll('#requests-table thead th')].map((e) => e.textContent)`), ['time', 'vm', 'space', 'ring']);
  // The theme by its button, from a key; it is remembered.
  await page.evaluate(`document.getElementById('theme').focus()`);
  await page.press(' ');
  await page.press(' ');
  assert.equal(await page.evaluate('document.documentElement.dataset.theme'), 'dark');
  await page.open(server.url);
  await readings(page, 1);
  assert.equal(await page.evaluate('document.documentElement.dataset.theme'), 'dark');
  // Everything that can be pressed has a name.
  const {nodes} = await page.send('Accessibility.getFullAXTree');
  const nameless = nodes.filter(({role, name, ignored}) => !ignored && ['button', 'link', 'searchbox', 'table', 'group', 'region'].includes(role?.value) && !name?.value);
  assert.deepEqual(nameless.map(({role}) => role.value), []);
  clean(page, server.url);
});
await page.close();


await check('its numbers are those of /metrics at the same instant', async () => {
  server.frozen = true;
  const page = await browser.page();
  await page.open(server.url);
  await readings(page, 1);
  await openAll(page);
  const said = parseMetrics(await (await fetch(`${server.url}metrics`)).text());
  const shown = await shownNumbers(page);
  assert.ok(shown.length > said.size / 2, `${shown.length} numbers shown, ${said.size} said`);
  const names = new Set();
  for (const [name, value] of shown) {
    assert.equal(value, said.get(name), name);
    names.add(name);
  }
  for (const name of said.keys()) assert.ok(names.has(name) || / /.test(name) && /_sum /.test(name), `${name} is nowhere on the page`);
  // What people read is that number, too.
  const total = shown.find(([name]) => name === 'warmfork_resets_total {"strategy":"dirty_ring"}');
  assert.equal(Number(total[2].replaceAll(',', '')), total[1]);
  server.frozen = false;
  await page.close();
});

// What follows waits more than it works: all at once.
const waiting = [];
waiting.push(check('a new reading each second; none while hidden or paused', async () => {
  const page = await browser.page();
  const before = server.times.length;
  await page.open(server.url);
  await readings(page, 4);
  const [first, , , fourth] = server.times.slice(before);
  assert.ok(fourth - first > 2200, `three more questions within ${fourth - first} ms`);
  const stopped = async (how) => {
    await new Promise((done) => setTimeout(done, 100));
    const count = server.asked.length;
    await new Promise((done) => setTimeout(done, 1300));
    assert.equal(server.asked.length, count, `asked while ${how}`);
  };
  await page.evaluate(`document.getElementById('pause').click()`);
  await stopped('paused');
  assert.equal(await page.evaluate(`document.getElementById('state').textContent`), 'paused');
  await page.evaluate(`document.getElementById('pause').click()`);
  await page.evaluate(`Object.defineProperty(document, 'hidden', {value: true, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))`);
  await stopped('hidden');
  const count = server.asked.length;
  await page.evaluate(`delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))`);
  const begin = Date.now();
  while (server.asked.length === count && Date.now() - begin < 900) await new Promise((done) => setTimeout(done, 10));
  assert.equal(server.asked.length, count + 1, 'at once when seen again');
  clean(page, server.url);
  await page.close();
}));

waiting.push(check('nothing to show is one line each; an end is seen; what is hostile stays text', async () => {
  const quiet = await serve({page: html, policy, process: new Process({quiet: true, command: '<img src=x onerror=alert(1)>'})});
  const page = await browser.page({width: 1280, height: 700});
  await page.open(quiet.url);
  await readings(page, 1);
  const lines = await page.evaluate(`[...document.querySelectorAll('.panel.empty')].map((e) => [e.getBoundingClientRect().height, e.innerText.replace(/\\s+/g, ' ')])`);
  assert.equal(lines.length, 12);
  for (const [height, text] of lines) {
    assert.ok(height < 40, `${text}: ${height} px`);
    assert.match(text, / (yet|no|none)\b|^.* no /);
  }
  assert.equal(await page.evaluate(`document.querySelectorAll('img').length`), 0);
  assert.equal(await page.evaluate(`document.getElementById('command').textContent`), '<img src=x onerror=alert(1)>');
  await page.screenshot(join(screenshots, 'nothing.png'));
  quiet.process.set('warmfork_vm_info', {vm: '"><script>alert(1)</script>', program: 'p'.repeat(5000), kind: '', engine: ''}, 1);
  await page.until(`document.querySelectorAll('#fleet .card').length === 1`);
  assert.ok(await fits(page));
  assert.equal(await page.evaluate(`document.querySelectorAll('#fleet script').length`), 0);
  clean(page, quiet.url);
  await quiet.close();
  await page.until(`document.documentElement.dataset.state === 'gone'`);
  assert.ok(await page.evaluate(`document.getElementById('gone').checkVisibility() && /does not answer any more/.test(document.getElementById('gone').textContent)`));
  assert.match(await page.evaluate(`document.getElementById('state').textContent`), /^gone for 0:0\d$/);
  await page.screenshot(join(screenshots, 'gone.png'));
  const again = await serve({page: html, policy, process: new Process({start: Date.now() / 1000 - 1, quiet: true, command: 'another'}), port: Number(new URL(quiet.url).port)});
  await page.until(`document.documentElement.dataset.state === 'live' && document.documentElement.dataset.readings === '1'`);
  assert.equal(await page.evaluate(`document.getElementById('command').textContent`), 'another');
  await again.close();
  await page.close();
}));

/** warmfork itself, until its address is known. */
async function start(options, directory) {
  const child = spawn(warmfork, options, {cwd: directory, stdio: ['ignore', 'ignore', 'pipe']});
  let said = '';
  const url = await new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text) => {
      said += text;
      const match = /metrics: (http:\/\/127\.0\.0\.1:\d+\/)/.exec(said);
      if (match) resolve(match[1]);
    });
    child.on('exit', (code) => reject(new Error(`warmfork ended (${code}): ${said}`)));
  });
  return {child, url};
}

function haveKvm() {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

if (!haveKvm()) {
  console.log('not against warmfork itself: no /dev/kvm that may be opened');
} else {
  waiting.push(check('warmfork itself: a fleet while it runs, and its end; the same numbers as /metrics', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'warmfork-page-fleet-'));
    writeFileSync(join(directory, 'endless.asm'), '.ORIG x3000\nLOOP ADD R0,R0,#1\nBRnzp LOOP\n.END\n');
    writeFileSync(join(directory, 'fault.asm'), '.ORIG x3000\n.FILL xD000\n.END\n');
    writeFileSync(join(directory, 'fleet.toml'), `[[machine]]\nname = "hello"\nprogram = "${programs}/hello.asm"\ncount = 3\n` +
      '[[machine]]\nname = "endless"\nprogram = "endless.asm"\nbudget = "3G"\n[[machine]]\nname = "fault"\nprogram = "fault.asm"\nfork = "vm"\n');
    const {child, url} = await start(['fleet', 'fleet.toml', '--metrics', '127.0.0.1:0', '--metrics-linger', '100s'], directory);
    const page = await browser.page({width: 1280, height: 1300});
    try {
      const answer = await fetch(url);
      assert.equal(await answer.text(), html);
      assert.equal(answer.headers.get('content-security-policy'), policy);
      await page.open(url);
      await page.until(`document.querySelectorAll('#fleet .card').length === 5 && document.querySelector('#fleet .card[data-vm="endless"]').dataset.state === 'stopped'`, 60_000);
      assert.match(await page.evaluate(`document.getElementById('command').textContent`), /^fleet fleet\.toml/);
      assert.equal(await page.evaluate(`document.querySelector('#fleet .card[data-vm="fault"]').dataset.state`), 'faulted');
      // It is over and lingers: what it counted stands still. What the process itself uses does not.
      await openAll(page);
      await readings(page, 4);
      const moves = (name) => /^(process_|warmfork_metrics_)/.test(name);
      const said = parseMetrics(await (await fetch(`${url}metrics`)).text());
      const shown = await shownNumbers(page);
      assert.equal(said.get('warmfork_vm_instructions_total {"vm":"endless"}'), 3e9);
      const names = new Set(shown.map(([name]) => name));
      for (const [name, value] of shown) if (!moves(name)) assert.equal(value, said.get(name), name);
      for (const name of said.keys()) if (!/_sum /.test(name)) assert.ok(names.has(name), `${name} is nowhere on the page`);
      assert.ok(names.has('warmfork_vm_faults_total {"vm":"fault"}'));
      await page.screenshot(join(screenshots, 'warmfork-fleet.png'));
      clean(page, url);
      child.kill('SIGINT');
      await page.until(`document.documentElement.dataset.state === 'gone'`);
    } finally {
      child.kill('SIGKILL');
      await page.close();
      rmSync(directory, {recursive: true});
    }
  }));
}

await Promise.all(waiting);

/** The least contrast of text to what lies behind it (WCAG 2); runs in the page. */
function contrast() {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((all, c, i) => all + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e !== null; e = e.parentElement) {
      const color = channels(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let result = {least: 21, text: ''};
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || ![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== '') || element.closest('.skip, .hidden, script, .sign')) continue;
    const [a, b] = [luminance(channels(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < result.least) result = {least: ratio, text: element.textContent.slice(0, 40)};
  }
  return result;
}

await browser.close();
await server.close();
process.exit(failures === 0 ? 0 : 1);
