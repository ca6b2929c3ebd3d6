import type { Api } from './api';
import { fullJitter } from './backoff';
import { eventId, headVerdict, judge, type Position, parseEventId } from './cursor';
import { readEvents, type StreamEvent } from './eventStream';
import { type FreshnessState, nextPoll, waitFor } from './policy';
import { Problem } from './problem';
import type { Change, ChangePage, ClientConfig, ProgressNote } from './resources';

/** `paused`: an operator switched the push off; we poll all the same. */
export type Mode = 'live' | 'catching-up' | 'polling' | 'offline' | 'paused';

export interface FeedSnapshot {
  readonly mode: Mode;
  readonly transport: 'stream' | 'poll';
  readonly cursor: Position | null;
  readonly head: number | null;
  /** ms since 1970 of the last entry, and of the last proof of freshness. */
  readonly lastEventAt: number | null;
  readonly lastProofAt: number | null;
  readonly pollFailures: number;
  readonly streamFailures: number;
}

export interface FeedHandlers {
  /** New entries, in order, each exactly once. */
  readonly onChanges: (changes: readonly Change[]) => void;
  /** Read every list again; answers with the lowest seq any of them was read at. */
  readonly refetch: () => Promise<number>;
  readonly onProgress?: (note: ProgressNote) => void;
  readonly onState?: () => void;
  readonly jobsActive?: () => boolean;
}

/** Clock, chance and timer come from outside, so that a test (or a simulation) can own them. */
export interface FeedHost {
  readonly now: () => number;
  readonly random: () => number;
  readonly setTimer: (run: () => void, ms: number) => number;
  readonly clearTimer: (timer: number) => void;
}

export interface Feed {
  start(): void;
  stop(): void;
  /** Look now: focus, online, wake, or a person asking. Reasons merge into one look. */
  kick(): void;
  /** Drop everything and read it all again (F8). */
  recover(): void;
  setVisible(visible: boolean): void;
  setOnline(online: boolean): void;
  configure(config: ClientConfig): void;
  snapshot(): FeedSnapshot;
}

const PAGE_LIMIT = 500;
/** Further behind than this, re-reading the lists is cheaper than replaying the log. */
const REPLAY_MAX = 2_000;
/** A stream that missed two beats is dead, whatever the socket says. */
const SILENT_BEATS = 2.2;
const HEARTBEAT_DEFAULT_MS = 15_000;
/** HTTP/1.1 browsers have six connections per host: a tab nobody looks at gives its stream back. */
const HIDDEN_STREAM_MS = 20_000;
/** Timers that come this late mean that the machine slept. */
const WAKE_GAP_MS = 15_000;
const STEP_MAX_MS = 2_000;
/** Behind for less than this is just an entry on its way. */
const BEHIND_GRACE_MS = 750;
/** A node's head may lag behind its own lists for a second or so: that many looks. */
const STALE_HEADS_MAX = 20;
/** Between two looks, whatever the reasons. */
const SPACING_MS = 100;
const POLL_TIMEOUT_MS = 4_000;
const SIGNED_OUT_PAUSE_MS = 30_000;

export function createFeed(api: Api, project: string, handlers: FeedHandlers, host: FeedHost): Feed {
  const base = `/v1/projects/${project}/changes`;
  let running = false;
  let timer: number | null = null;
  let lastStepAt = 0;
  let visible = true;
  let hiddenAt = 0;
  let online = true;
  let enabled = true;
  let forcedMs: number | null = null;
  let heartbeatMs = HEARTBEAT_DEFAULT_MS;

  let at: Position | null = null;
  let head: number | null = null;
  let behindSince: number | null = null;
  let lastEventAt: number | null = null;
  let lastProofAt: number | null = null;

  let poll: { abort: AbortController; waits: boolean } | null = null;
  let polledAt = Number.NEGATIVE_INFINITY;
  let pollDraw = 0;
  let pollFailures = 0;
  let holdUntil = 0;
  /** Look soon (respects a running back-off); `urgent`: look at once, a person or the machine asks. */
  let kicked = true;
  let urgent = false;
  let rereads = 0;
  let staleHeads = 0;
  let longWaitWorks = true;

  let stream: { abort: AbortController; open: boolean; heardAt: number } | null = null;
  let streamFailures = 0;
  let connectAt = 0;
  let connectHold = 0;

  const changed = (): void => handlers.onState?.();

  const freshness = (): FreshnessState => ({
    streamOpen: stream?.open ?? false,
    proofAgeMs: lastProofAt === null ? Number.POSITIVE_INFINITY : host.now() - lastProofAt,
    beatMs: heartbeatMs,
    visible,
    jobsActive: handlers.jobsActive?.() ?? false,
    forcedMs,
    failures: pollFailures,
    longWaitWorks,
  });

  function forget(): void {
    at = null;
    head = null;
    behindSince = null;
    staleHeads = 0;
    dropStream();
    kicked = true;
    rereads += 1;
    if (rereads > 1) pollFailures += 1; // re-reading did not help: no storm
  }

  function seen(epoch: string, newHead: number): void {
    if (at === null) return;
    const verdict = headVerdict(at, epoch, newHead);
    if (verdict === 'refetch') {
      forget();
      return;
    }
    if (verdict === 'stale' && at.epoch === null) {
      // The lists are ahead of this node. Soon it is not; if it stays so, the lists were of another log.
      staleHeads += 1;
      kicked = true;
      if (staleHeads > STALE_HEADS_MAX) forget();
      return;
    }
    at = { epoch, seq: at.seq };
    if (verdict === 'stale') return;
    lastProofAt = host.now();
    staleHeads = 0;
    head = newHead; // the last word counts: a head that was said once and never again must not keep us looking
    behindSince = head > at.seq ? (behindSince ?? host.now()) : null;
  }

  /** Entries from any transport; the cursor decides. Says whether something is missing. */
  function accept(epoch: string, entries: readonly Change[]): boolean {
    const fresh: Change[] = [];
    let gap = false;
    for (const entry of entries) {
      if (at === null) break;
      const verdict = judge(at, epoch, entry.seq);
      if (verdict === 'refetch') {
        forget();
        break;
      }
      if (verdict === 'gap') gap = true;
      if (verdict !== 'apply') continue;
      at = { epoch, seq: entry.seq };
      fresh.push(entry);
    }
    if (fresh.length > 0) {
      lastEventAt = host.now();
      lastProofAt = lastEventAt;
      handlers.onChanges(fresh);
    }
    if (at !== null) head = Math.max(head ?? 0, at.seq);
    return gap;
  }

  // --- polling ---------------------------------------------------------------------------------------------

  async function pull(abort: AbortController, waitS: number): Promise<void> {
    let wait = waitS;
    while (at !== null) {
      const from: Position = at;
      const epoch = from.epoch === null ? '' : `epoch=${encodeURIComponent(from.epoch)}&`;
      const asked = host.now();
      const { data } = await api.call<ChangePage>(
        'GET',
        `${base}?${epoch}after=${from.seq}&limit=${PAGE_LIMIT}&wait=${wait}`,
        { signal: abort.signal, timeoutMs: wait * 1000 + POLL_TIMEOUT_MS },
      );
      if (wait > 0) {
        // Empty and at once: the wait is not honoured here, so we must pace ourselves.
        longWaitWorks = data.changes.length > 0 || host.now() - asked > wait * 500;
      }
      if (at === null || abort.signal.aborted) return;
      accept(data.epoch, data.changes);
      seen(data.epoch, data.head);
      if (at === null || at.seq >= data.head) return;
      // Too far behind to replay, or a log that names more than it gives: only the lists can tell.
      if (data.head - at.seq > REPLAY_MAX || at.seq <= from.seq) {
        forget();
        return;
      }
      wait = 0;
    }
  }

  async function look(): Promise<void> {
    const waitS = at === null || kicked || urgent ? 0 : waitFor(freshness());
    const abort = new AbortController();
    const mine = { abort, waits: waitS > 0 };
    poll = mine;
    kicked = false;
    urgent = false;
    try {
      if (at === null) {
        const seq = await handlers.refetch();
        if (abort.signal.aborted) return;
        at = { epoch: null, seq };
      }
      await pull(abort, waitS);
      if (poll !== mine || at === null) return;
      pollFailures = 0;
      rereads = 0;
      holdUntil = 0;
    } catch (error) {
      if (poll !== mine) return;
      failed(error);
      longWaitWorks = longWaitWorks && !mine.waits;
    } finally {
      if (poll === mine) {
        poll = null;
        polledAt = host.now();
        pollDraw = host.random();
        changed();
        step();
      }
    }
  }

  function failed(error: unknown): void {
    if (error instanceof Problem && error.status === 410) {
      forget();
      return;
    }
    pollFailures += 1;
    if (!(error instanceof Problem)) return;
    if (error.status === 401 || error.status === 403) holdUntil = host.now() + SIGNED_OUT_PAUSE_MS;
    else if (error.retryAfterS !== null) holdUntil = host.now() + error.retryAfterS * 1000;
  }

  // --- the stream ------------------------------------------------------------------------------------------

  function dropStream(): void {
    stream?.abort.abort();
    stream = null;
  }

  function onEvent({ event, data, id }: StreamEvent): void {
    streamFailures = 0;
    if (event === 'progress') {
      handlers.onProgress?.(JSON.parse(data) as ProgressNote);
    } else if (event === 'head') {
      const beat = JSON.parse(data) as { epoch: string; head: number };
      const before = at;
      seen(beat.epoch, beat.head);
      // Entries usually follow within the same breath; only a lasting lag is pulled.
      if (before !== null && at === null) kicked = true;
    } else if (event === 'change') {
      const place = parseEventId(id);
      if (place !== null && accept(place.epoch, [JSON.parse(data) as Change])) kicked = true;
      if (at !== null && head !== null && head <= at.seq) behindSince = null;
    } else if (event === 'must_refetch') {
      forget();
    }
    changed();
  }

  async function connect(from: Position): Promise<void> {
    const mine = { abort: new AbortController(), open: false, heardAt: host.now() };
    stream = mine;
    try {
      const headers = { accept: 'text/event-stream', 'last-event-id': eventId(from) };
      const response = await api.open(`${base}/stream`, headers, mine.abort.signal);
      if (stream !== mine) return;
      mine.open = true;
      changed();
      // What a dropped stream still had in its pipe is nobody's: the cursor reads it again.
      const heard = (): void => {
        mine.heardAt = host.now();
        step();
      };
      await readEvents(response, heard, (event) => stream === mine && onEvent(event));
    } catch (error) {
      if (stream !== mine) return;
      if (error instanceof Problem && error.status === 410) forget();
      else if (error instanceof Problem) holdConnect(error);
    }
    if (stream === mine) lostStream();
  }

  function holdConnect(problem: Problem): void {
    const s = problem.retryAfterS ?? (problem.status < 500 ? SIGNED_OUT_PAUSE_MS / 1000 : 0);
    connectHold = host.now() + s * 1000;
  }

  function lostStream(): void {
    if (stream?.open) {
      kicked = true; // what was on its way when it broke
      longWaitWorks = true;
    }
    dropStream();
    connectAt = Math.max(connectHold, host.now() + 100 + fullJitter(streamFailures, host.random()));
    streamFailures += 1;
    changed();
    step();
  }

  // --- the one scheduler: every reason to look or to connect passes here (F6) ----------------------------------

  function pollDueAt(): number {
    if (urgent) return polledAt + SPACING_MS;
    const soon = kicked && pollFailures === 0;
    return Math.max(holdUntil, polledAt + (soon ? SPACING_MS : nextPoll(freshness(), pollDraw)));
  }

  const wantsStream = (): boolean =>
    enabled && forcedMs === null && online && (visible || host.now() - hiddenAt < HIDDEN_STREAM_MS);

  function step(): void {
    if (!running) return;
    const now = host.now();
    if (now - lastStepAt > WAKE_GAP_MS) {
      dropStream(); // sockets rarely survive a sleep, and do not say so
      connectAt = 0;
      urgent = true;
    }
    lastStepAt = now;
    if (stream !== null && now - stream.heardAt > heartbeatMs * SILENT_BEATS) {
      lostStream();
      return;
    }
    if (stream !== null && !wantsStream()) {
      dropStream();
      changed();
    }
    if (behindSince !== null && now - behindSince > BEHIND_GRACE_MS && stream?.open) kicked = true;
    if ((kicked || urgent) && poll?.waits) poll.abort.abort();
    if (poll?.abort.signal.aborted) poll = null;
    if (poll === null && now >= pollDueAt()) void look();
    if (stream === null && at?.epoch && wantsStream() && now >= Math.max(connectAt, holdUntil))
      void connect(at);

    if (timer !== null) host.clearTimer(timer);
    const dues = [now + STEP_MAX_MS];
    if (poll === null) dues.push(pollDueAt());
    if (stream === null && at?.epoch && wantsStream()) dues.push(connectAt);
    if (behindSince !== null) dues.push(behindSince + BEHIND_GRACE_MS + 1);
    timer = host.setTimer(
      () => {
        step();
        changed();
      },
      Math.max(20, Math.min(...dues) - now),
    );
  }

  function mode(): Mode {
    const now = host.now();
    if (!online || pollFailures >= 2 || (pollFailures > 0 && !stream?.open)) return 'offline';
    if (at === null || lastProofAt === null) return 'catching-up';
    if (behindSince !== null && now - behindSince > BEHIND_GRACE_MS) return 'catching-up';
    if (stream?.open) return 'live';
    if (!enabled) return 'paused';
    return streamFailures > 1 || forcedMs !== null || !visible ? 'polling' : 'catching-up';
  }

  function kick(): void {
    urgent = true;
    connectAt = 0;
    holdUntil = 0;
    longWaitWorks = true;
    step();
  }

  return {
    start() {
      running = true;
      lastStepAt = host.now();
      step();
    },
    stop() {
      running = false;
      if (timer !== null) host.clearTimer(timer);
      poll?.abort.abort();
      poll = null;
      dropStream();
    },
    kick,
    recover() {
      poll?.abort.abort();
      poll = null;
      pollFailures = 0;
      forget();
      kick();
      changed();
    },
    setVisible(next) {
      if (next === visible) return;
      visible = next;
      hiddenAt = host.now();
      if (visible) kick();
    },
    setOnline(next) {
      if (next === online) return;
      online = next;
      if (online) kick();
      else dropStream();
      changed();
    },
    configure(config) {
      enabled = config.realtime_enabled ?? true;
      forcedMs = config.deadmode_force_polling_ms ?? null;
      if (forcedMs !== null && forcedMs <= 0) forcedMs = null;
      heartbeatMs = Math.max(2_000, config.heartbeat_ms ?? HEARTBEAT_DEFAULT_MS);
      step();
      changed();
    },
    snapshot: () => ({
      mode: mode(),
      transport: stream?.open ? 'stream' : 'poll',
      cursor: at,
      head,
      lastEventAt,
      lastProofAt,
      pollFailures,
      streamFailures,
    }),
  };
}
