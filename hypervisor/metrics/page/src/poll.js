// Asks for the numbers once a second; not while nobody looks, and less often when nobody answers.

export const INTERVAL_MS = 1000;
const SLOWEST_MS = 5000;

export class Poller {
  #timer = null;
  #asking = false;
  #failures = 0;
  #stopped = true;
  #io;

  /**
   * @param {{ask: () => Promise<unknown>, answered: (answer: any) => void, failed: (error: Error, times: number) => void,
   *          setTimer?: (f: () => void, ms: number) => unknown, clearTimer?: (timer: any) => void, now?: () => number}} io
   */
  constructor({ask, answered, failed, setTimer = (f, ms) => setTimeout(f, ms), clearTimer = (t) => clearTimeout(t),
               now = () => performance.now()}) {
    this.#io = {ask, answered, failed, setTimer, clearTimer, now};
  }

  start() {
    if (!this.#stopped) return;
    this.#stopped = false;
    if (!this.#asking) void this.#turn();
  }

  stop() {
    this.#stopped = true;
    if (this.#timer !== null) this.#io.clearTimer(this.#timer);
    this.#timer = null;
  }

  get running() {
    return !this.#stopped;
  }

  async #turn() {
    this.#timer = null;
    this.#asking = true;
    const begin = this.#io.now();
    try {
      const answer = await this.#io.ask();
      this.#failures = 0;
      if (!this.#stopped) this.#io.answered(answer);
    } catch (error) {
      if (!this.#stopped) this.#io.failed(error instanceof Error ? error : new Error(String(error)), ++this.#failures);
    }
    this.#asking = false;
    if (this.#stopped) return;
    const interval = Math.min(INTERVAL_MS * Math.max(1, this.#failures - 2), SLOWEST_MS);
    this.#timer = this.#io.setTimer(() => void this.#turn(), Math.max(0, interval - (this.#io.now() - begin)));
  }
}
