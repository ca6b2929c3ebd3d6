import type { Clockwork } from './scheduler';
import type { TabsHost } from './tabs';

/** What a client needs of the outside world; a browser's window, or nothing much (Node). */
export interface Page {
  readonly clockwork: Clockwork;
  readonly visible: () => boolean;
  readonly online: () => boolean;
  /** `shown`: seen or hidden; `leaving`: the page goes, perhaps for good. */
  readonly on: (event: 'shown' | 'online' | 'focus' | 'leaving', run: () => void) => () => void;
  /** Lives as long as the tab, and longer than a reload. */
  readonly session: Keep;
  readonly durable: Keep;
  /** Where F10's events are told and heard. */
  readonly events: EventTarget | null;
  readonly tabs: TabsHost;
}

/** All of it may vanish at any time (private windows, full disks): never relied on. */
export interface Keep {
  read<T>(key: string, fallback: T): T;
  write(key: string, value: unknown): void;
}

export const clockwork: Clockwork = {
  now: () => Date.now(),
  random: Math.random,
  setTimer: (run, ms) => setTimeout(run, ms) as unknown as number,
  clearTimer: (timer) => clearTimeout(timer),
};

const keepIn = (storage: () => Storage): Keep => ({
  read<T>(key: string, fallback: T): T {
    try {
      const text = storage().getItem(key);
      return text === null ? fallback : (JSON.parse(text) as T);
    } catch {
      return fallback;
    }
  },
  write(key, value) {
    try {
      storage().setItem(key, JSON.stringify(value));
    } catch {
      // full or forbidden: then it does not survive
    }
  },
});

const keepNothing: Keep = { read: (_key, fallback) => fallback, write: () => undefined };

function listen(target: EventTarget, types: readonly string[], run: () => void): () => void {
  for (const type of types) target.addEventListener(type, run);
  return () => {
    for (const type of types) target.removeEventListener(type, run);
  };
}

export const browserPage = (): Page => ({
  clockwork,
  visible: () => document.visibilityState === 'visible',
  online: () => navigator.onLine,
  on(event, run) {
    switch (event) {
      case 'shown':
        return listen(document, ['visibilitychange', 'resume'], run);
      case 'online':
        return listen(window, ['online', 'offline'], run);
      case 'focus':
        return listen(window, ['focus', 'pageshow'], run);
      case 'leaving':
        return listen(window, ['pagehide'], run);
    }
  },
  session: keepIn(() => window.sessionStorage),
  durable: keepIn(() => window.localStorage),
  events: window,
  tabs: {
    locks: navigator.locks,
    channel: (name) => (typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel(name)),
  },
});

/** No window: always seen, always online, nobody beside us. */
export const barePage = (): Page => ({
  clockwork,
  visible: () => true,
  online: () => true,
  on: () => () => undefined,
  session: keepNothing,
  durable: keepNothing,
  events: null,
  tabs: { locks: undefined, channel: () => undefined },
});

export const thisPage = (): Page => (typeof document === 'undefined' ? barePage() : browserPage());
