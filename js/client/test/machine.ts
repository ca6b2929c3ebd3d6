import type { Clockwork } from '../src/scheduler';

/** A machine whose time passes only when told: every timer of it, in order. */
export class Machine implements Clockwork {
  time = 1_000_000;
  timers = new Map<number, { at: number; run: () => void }>();
  #ids = 0;

  now = (): number => this.time;
  random = (): number => 0.5;
  setTimer = (run: () => void, ms: number): number => {
    this.#ids += 1;
    this.timers.set(this.#ids, { at: this.time + ms, run });
    return this.#ids;
  };
  clearTimer = (id: number): void => {
    this.timers.delete(id);
  };

  pass(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = [...this.timers].sort((a, b) => a[1].at - b[1].at)[0];
      if (!next || next[1].at > end) break;
      this.timers.delete(next[0]);
      this.time = Math.max(this.time, next[1].at);
      next[1].run();
    }
    this.time = end;
  }
}
