// A headless Chromium, driven over the DevTools protocol through a pipe: no port, no library.
import {spawn} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-pipe'];

export class Browser {
  #next = 1;
  #waiting = new Map();
  #listeners = new Map();

  /** @param {string} binary */
  static async start(binary) {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), 'warmfork-page-'));
    browser.child = spawn(binary, [...FLAGS, `--user-data-dir=${browser.profile}`, 'about:blank'],
                          {stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']});
    browser.said = '';
    browser.child.stderr.on('data', (text) => (browser.said = (browser.said + text).slice(-4000)));
    browser.child.on('exit', (code, signal) => {
      for (const {reject} of browser.#waiting.values()) reject(new Error(`Chromium ended (${code ?? signal}): ${browser.said}`));
      browser.#waiting.clear();
    });
    browser.child.stdio[3].on('error', () => {}); // it has ended; 'exit' tells
    let rest = '';
    browser.child.stdio[4].setEncoding('utf8').on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      for (const message of messages) browser.#receive(JSON.parse(message));
    });
    return browser;
  }

  #receive({id, sessionId, method, params, result, error}) {
    if (id === undefined) {
      for (const listener of this.#listeners.get(sessionId) ?? []) listener(method, params);
      return;
    }
    const {resolve, reject, what} = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error) reject?.(new Error(`${what}: ${error.message}`));
    else resolve?.(result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {resolve, reject, what: method});
      this.child.stdio[3].write(`${JSON.stringify({id, method, params, sessionId})}\0`);
    });
  }

  /** A page of a profile of its own. */
  async page({width = 1280, height = 900, scheme = 'light', motion = 'no-preference', mobile = false} = {}) {
    const {browserContextId} = await this.send('Target.createBrowserContext');
    const {targetId} = await this.send('Target.createTarget', {url: 'about:blank', browserContextId});
    const {sessionId} = await this.send('Target.attachToTarget', {targetId, flatten: true});
    const page = new Page(this, sessionId, browserContextId);
    this.#listeners.set(sessionId, [(method, params) => page.event(method, params)]);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'Accessibility']) await page.send(`${domain}.enable`);
    await page.send('Emulation.setDeviceMetricsOverride', {width, height, deviceScaleFactor: mobile ? 2 : 1, mobile});
    await page.media(scheme, motion);
    return page;
  }

  async close() {
    const ended = new Promise((done) => this.child.once('exit', done));
    this.send('Browser.close').catch(() => {}); // the pipe closes before the answer
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 3000);
    await ended;
    clearTimeout(timer);
    rmSync(this.profile, {recursive: true, force: true, maxRetries: 5});
  }
}

export class Page {
  /** What a person would see in the console, and every address asked for. */
  complaints = [];
  requests = [];

  constructor(browser, session, context) {
    Object.assign(this, {browser, session, context});
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  event(method, params) {
    if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
    if (method === 'Runtime.exceptionThrown') this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Runtime.consoleAPICalled' && ['error', 'warning', 'assert'].includes(params.type)) this.complaints.push(params.args.map(({value, description}) => value ?? description).join(' '));
    if (method === 'Log.entryAdded' && ['error', 'warning'].includes(params.entry.level)) this.complaints.push(params.entry.text);
  }

  media(scheme, motion = 'no-preference') {
    return this.send('Emulation.setEmulatedMedia', {features: [{name: 'prefers-color-scheme', value: scheme}, {name: 'prefers-reduced-motion', value: motion}]});
  }

  open(url) {
    return this.send('Page.navigate', {url});
  }

  /** @param {string} expression @returns {Promise<any>} its value; promises are awaited */
  async evaluate(expression) {
    const {result, exceptionDetails} = await this.send('Runtime.evaluate', {expression, returnByValue: true, awaitPromise: true});
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Until `expression` is true; while a page is being loaded it may fail. */
  async until(expression, milliseconds = 15_000) {
    const end = Date.now() + milliseconds;
    for (;;) {
      const value = await this.evaluate(expression).catch((error) => (Date.now() > end ? Promise.reject(error) : false));
      if (value) return value;
      if (Date.now() > end) throw new Error(`not within ${milliseconds} ms: ${expression}`);
      await new Promise((done) => setTimeout(done, 40));
    }
  }

  async press(key, modifiers = 0) {
    const text = {Enter: '\r', ' ': ' '}[key];
    const codes = {Tab: 9, Enter: 13, ' ': 32, Escape: 27, End: 35, Home: 36, ArrowLeft: 37, ArrowRight: 39};
    const common = {key, code: key === ' ' ? 'Space' : key, modifiers, windowsVirtualKeyCode: codes[key]};
    await this.send('Input.dispatchKeyEvent', {type: text ? 'keyDown' : 'rawKeyDown', text, ...common});
    await this.send('Input.dispatchKeyEvent', {type: 'keyUp', ...common});
  }

  /** The whole page as a PNG. @param {string} file */
  async screenshot(file) {
    const {data} = await this.send('Page.captureScreenshot', {format: 'png', captureBeyondViewport: true});
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  async close() {
    await this.browser.send('Target.disposeBrowserContext', {browserContextId: this.context});
  }
}
