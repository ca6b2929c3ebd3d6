import type { Api } from './api';
import type { Scheduler } from './scheduler';

/** How long results took from the commit to the screen (D2), told in few small beacons. */
export interface Telemetry {
  /** A result came while we watched; `at` (ms since 1970) is the server's time of its commit. */
  committed(id: string, at: number): void;
  /** It is on the screen, at `serverNow`. What was there before we watched says nothing. */
  painted(id: string, transport: string, serverNow: number): void;
  /** What waits, at once: the page goes. */
  flush(): void;
  stop(): void;
  /** The last ones, newest last, for the diagnostics page. */
  recent(): readonly { readonly transport: string; readonly ms: number; readonly at: number }[];
}

const FLUSH_MS = 15_000;
/** As many as the server takes in one beacon. */
const BEACON_MAX = 200;
const RECENT_MAX = 500;
const MS_MAX = 86_400_000;
/** Results on their way to the screen; what is never painted must not gather. */
const COMMITTED_MAX = 1_000;

export function createTelemetry(api: Api, scheduler: Scheduler): Telemetry {
  const committed = new Map<string, number>();
  const waiting = new Map<string, number[]>();
  const recent: { transport: string; ms: number; at: number }[] = [];
  let timer: number | null = null;

  function flush(): void {
    if (timer !== null) scheduler.clearTimer(timer);
    timer = null;
    for (const [transport, visible_ms] of waiting) {
      // A beacon that is lost is a figure less: not worth a second try.
      api
        .call('POST', '/v1/telemetry', { body: { transport, visible_ms }, keepalive: true })
        .catch(() => undefined);
    }
    waiting.clear();
  }

  return {
    committed(id, at) {
      if (committed.size < COMMITTED_MAX) committed.set(id, at);
    },
    painted(id, transport, serverNow) {
      const at = committed.get(id);
      if (at === undefined) return;
      committed.delete(id);
      const figure = Math.round(Math.min(MS_MAX, Math.max(0, serverNow - at)));
      recent.push({ transport, ms: figure, at: scheduler.now() });
      if (recent.length > RECENT_MAX) recent.shift();
      const figures = waiting.get(transport) ?? [];
      if (figures.length < BEACON_MAX) waiting.set(transport, [...figures, figure]);
      timer ??= scheduler.after('telemetry', FLUSH_MS, flush);
    },
    flush,
    stop() {
      if (timer !== null) scheduler.clearTimer(timer);
      timer = null;
      waiting.clear();
    },
    recent: () => recent,
  };
}
