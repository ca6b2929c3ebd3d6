/** When to look next (F5): a pure function of what we know about our own freshness, and nothing else. */

export interface FreshnessState {
  /** Something pushes to us: socket, stream, or the tab that leads. */
  readonly lineOpen: boolean;
  /** Another tab of this browser looks for us, and has said so lately (F7). */
  readonly led: boolean;
  /** Since the last proof: an event, a beat that names the head, or an answered poll. */
  readonly proofAgeMs: number;
  /** The server's own rhythm: a beat is due this often. */
  readonly beatMs: number;
  readonly visible: boolean;
  readonly jobsActive: boolean;
  /** `DEADMODE_FORCE_POLLING_MS`, if the operator set it. */
  readonly forcedMs: number | null;
  /** Polls failed in a row. */
  readonly failures: number;
  /** The server held our last long wait (false where a proxy cuts it or answers at once). */
  readonly longWaitWorks: boolean;
}

/** A proof older than this many beats is ageing: one was due and did not come. */
export const FRESH_BEATS = 1.3;
export const SAFETY_NET_MS = 30_000;
/** Nobody looks more rarely than this in a visible tab, whatever failed. */
export const VISIBLE_MAX_MS = 15_000;
export const HIDDEN_MAX_MS = 31_000;
/** F5's 5 s ± 1 s while somebody waits for a job, also where nobody answers: an outage's end is seen within 10 s. */
export const WAITED_FOR_MAX_MS = 6_000;
/** Between two long waits that both had something to say. */
const LONG_WAIT_SPACING_MS = 200;
/** One hung wait is noticed inside the 10 s that we aim at for any single fault. */
export const LONG_WAIT_S = 8;

/** Seconds the server may hold the next poll. Only where nothing pushes and somebody looks. */
export const waitFor = (s: FreshnessState): number =>
  !s.lineOpen && s.visible && s.forcedMs === null && s.failures === 0 && s.longWaitWorks ? LONG_WAIT_S : 0;

/** Milliseconds between the end of one poll and the next. `random` is uniform in [0, 1). */
export function nextPoll(s: FreshnessState, random: number): number {
  if (s.led) return Number.POSITIVE_INFINITY;
  if (s.forcedMs !== null) return Math.max(500, s.forcedMs);
  const jitter = (random * 2 - 1) * 1000;
  if (s.failures > 0) {
    const slowest = s.visible ? (s.jobsActive ? WAITED_FOR_MAX_MS : VISIBLE_MAX_MS) : HIDDEN_MAX_MS;
    const bound = Math.min(slowest, 1000 * 2 ** Math.min(s.failures, 8));
    return Math.round(300 + random * (bound - 300));
  }
  if (s.lineOpen) {
    return s.proofAgeMs <= FRESH_BEATS * s.beatMs ? SAFETY_NET_MS : Math.round(10_000 + random * 5_000);
  }
  if (!s.visible) return Math.round((s.jobsActive ? 16_000 : 29_000) + jitter);
  if (s.longWaitWorks) return LONG_WAIT_SPACING_MS;
  return Math.round(Math.min(VISIBLE_MAX_MS, (s.jobsActive ? 5_000 : 9_000) + jitter));
}
