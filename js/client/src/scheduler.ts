/** Clock, chance and timers come from outside, so that a test (or a simulation) can own them. */
export interface Clockwork {
  readonly now: () => number;
  readonly random: () => number;
  readonly setTimer: (run: () => void, ms: number) => number;
  readonly clearTimer: (timer: number) => void;
}

/**
 * The one owner of every timer of a client (F6): whoever waits for something asks here, and one timer of the machine
 * stands behind them all. So there is no zombie, `stop` ends everything, and what is pending can be shown (D5).
 */
export interface Scheduler extends Clockwork {
  /** As `setTimer`, named for whoever looks. */
  after(name: string, ms: number, run: () => void): number;
  /** Again and again, from now plus `ms` on; the returned function ends it. */
  every(name: string, ms: number, run: () => void): () => void;
  sleep(ms: number): Promise<void>;
  /** What waits, soonest first. `dueAt` in ms since 1970. */
  pending(): readonly { readonly name: string; readonly dueAt: number }[];
  /** Ends everything that waits, for good: who sleeps is forgotten, and nothing new begins. */
  stop(): void;
}

interface Entry {
  readonly name: string;
  readonly dueAt: number;
  readonly run: () => void;
}

/** A timer of the machine takes no more than this; longer waits are set again. */
const TIMER_MAX_MS = 0x7fffffff;

export function createScheduler(machine: Clockwork): Scheduler {
  const entries = new Map<number, Entry>();
  let counter = 0;
  let timer: number | null = null;
  let armedFor = Number.POSITIVE_INFINITY;
  let firing = false;
  let stopped = false;

  function arm(): void {
    if (firing) return;
    let soonest = Number.POSITIVE_INFINITY;
    for (const { dueAt } of entries.values()) soonest = Math.min(soonest, dueAt);
    if (timer !== null && soonest === armedFor) return;
    if (timer !== null) machine.clearTimer(timer);
    timer = null;
    armedFor = soonest;
    if (soonest === Number.POSITIVE_INFINITY) return;
    timer = machine.setTimer(fire, Math.min(TIMER_MAX_MS, Math.max(0, soonest - machine.now())));
  }

  function fire(): void {
    timer = null;
    armedFor = Number.POSITIVE_INFINITY;
    const now = machine.now();
    const due = [...entries]
      .filter(([, entry]) => entry.dueAt <= now)
      .sort((a, b) => a[1].dueAt - b[1].dueAt);
    firing = true;
    try {
      for (const [id, entry] of due) {
        if (entries.delete(id)) entry.run(); // unless one that ran before took it back
      }
    } finally {
      firing = false;
      arm();
    }
  }

  function add(name: string, ms: number, run: () => void): number {
    counter += 1;
    if (stopped) return counter;
    entries.set(counter, { name, dueAt: machine.now() + Math.max(0, ms), run });
    arm();
    return counter;
  }

  const clearTimer = (id: number): void => {
    if (entries.delete(id)) arm();
  };

  return {
    now: machine.now,
    random: machine.random,
    setTimer: (run, ms) => add('timer', ms, run),
    clearTimer,
    after: add,
    every(name, ms, run) {
      let id = 0;
      const again = (): void => {
        id = add(name, ms, () => {
          again();
          run();
        });
      };
      again();
      return () => clearTimer(id);
    },
    sleep: (ms) => new Promise((done) => add('sleep', ms, done)),
    pending: () =>
      [...entries.values()].map(({ name, dueAt }) => ({ name, dueAt })).sort((a, b) => a.dueAt - b.dueAt),
    stop() {
      stopped = true;
      entries.clear();
      arm();
    },
  };
}
