import type { Api } from './api';
import { fullJitter } from './backoff';
import { headVerdict, judge, type Position } from './cursor';
import * as limits from './feedLimits';
import { type Feed, type FeedHandlers, type Mode, modeOf } from './feedShape';
import { type Line, type LineHandlers, type LineKind, lineAfter, type OpenLine } from './line';
import { type FreshnessState, nextPoll, waitFor } from './policy';
import { Problem } from './problem';
import type { Change, ChangePage } from './resources';
import type { Clockwork } from './scheduler';
import { streamLine } from './streamLine';

export function createFeed(
  api: Api,
  project: string,
  handlers: FeedHandlers,
  host: Clockwork,
  firstLines: readonly OpenLine[] = [streamLine(api, project)],
): Feed {
  const base = `/v1/projects/${project}/changes`;
  let running = false;
  let timer: number | null = null;
  let lastStepAt = 0;
  let visible = true;
  let hiddenAt = 0;
  let online = true;
  let enabled = true;
  let forcedMs: number | null = null;
  let heartbeatMs = limits.HEARTBEAT_DEFAULT_MS;

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

  let lines = firstLines;
  let led = false;
  let line: { made: Line | null; kind: LineKind; open: boolean; heardAt: number; upgradeAt: number } | null =
    null;
  let lineFailures = 0;
  let connectAt = 0;
  let connectHold = 0;

  const changed = (): void => handlers.onState?.();

  const freshness = (): FreshnessState => ({
    lineOpen: line?.open ?? false,
    led: led && (line?.open ?? false),
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
    dropLine();
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
      if (staleHeads > limits.STALE_HEADS_MAX) forget();
      return;
    }
    at = { epoch, seq: at.seq };
    if (verdict === 'stale') return;
    lastProofAt = host.now();
    staleHeads = 0;
    head = newHead; // the last word counts: a head that was said once and never again must not keep us looking
    behindSince = head > at.seq ? (behindSince ?? host.now()) : null;
    handlers.onProof?.(epoch, newHead);
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
      handlers.onChanges(fresh, epoch);
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
        `${base}?${epoch}after=${from.seq}&limit=${limits.PAGE_LIMIT}&wait=${wait}`,
        { signal: abort.signal, timeoutMs: wait * 1000 + limits.POLL_TIMEOUT_MS },
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
      if (data.head - at.seq > limits.REPLAY_MAX || at.seq <= from.seq) {
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
    if (error.status === 401) handlers.onSignedOut?.(error);
    if (error.status === 401 || error.status === 403) holdUntil = host.now() + limits.SIGNED_OUT_PAUSE_MS;
    else if (error.retryAfterS !== null) holdUntil = host.now() + error.retryAfterS * 1000;
  }

  // --- the line --------------------------------------------------------------------------------------------

  function dropLine(): void {
    const old = line;
    line = null; // first, so that whatever it still says is nobody's: the cursor reads it again
    old?.made?.close();
  }

  function connect(from: Position): void {
    const chosen = lineAfter(lines, lineFailures);
    if (chosen === undefined) return;
    const upgradeAt = chosen === lines[0] ? Number.POSITIVE_INFINITY : host.now() + limits.UPGRADE_MS;
    const mine: NonNullable<typeof line> = {
      made: null,
      kind: chosen.kind,
      open: false,
      heardAt: host.now(),
      upgradeAt,
    };
    line = mine;
    const whileMine =
      <A extends unknown[]>(act: (...args: A) => void) =>
      (...args: A): void => {
        if (line === mine) act(...args);
      };
    const on: LineHandlers = {
      opened: whileMine(() => {
        mine.open = true;
        mine.heardAt = host.now();
        changed();
        step();
      }),
      heard: whileMine(() => {
        mine.heardAt = host.now();
        step();
      }),
      changes: whileMine((epoch, entries) => {
        lineFailures = 0;
        if (accept(epoch, entries)) kicked = true;
        if (at !== null && head !== null && head <= at.seq) behindSince = null;
        step();
        changed();
      }),
      head: whileMine((epoch, newHead) => {
        lineFailures = 0;
        const before = at;
        seen(epoch, newHead);
        // Entries usually follow within the same breath; only a lasting lag is pulled.
        if (before !== null && at === null) kicked = true;
        step();
        changed();
      }),
      progress: whileMine((note) => handlers.onProgress?.(note)),
      configured: whileMine((config) => handlers.onConfig?.(config)),
      lost: whileMine(() => {
        forget();
        step();
        changed();
      }),
      closed: whileMine((problem) => {
        if (problem?.status === 410) forget();
        else if (problem !== null) holdConnect(problem);
        if (line === mine) lostLine();
        else step();
      }),
    };
    const made = chosen.open(from, on);
    if (line === mine) mine.made = made;
    else made.close();
  }

  function holdConnect(problem: Problem): void {
    if (problem.status === 401) handlers.onSignedOut?.(problem);
    const s = problem.retryAfterS ?? (problem.status < 500 ? limits.SIGNED_OUT_PAUSE_MS / 1000 : 0);
    connectHold = host.now() + s * 1000;
  }

  function lostLine(): void {
    if (line?.open) {
      kicked = true; // what was on its way when it broke
      longWaitWorks = true;
    }
    dropLine();
    connectAt = Math.max(connectHold, host.now() + 100 + fullJitter(lineFailures, host.random()));
    lineFailures += 1;
    changed();
    step();
  }

  // --- the one scheduler: every reason to look or to connect passes here (F6) ----------------------------------

  function pollDueAt(): number {
    if (urgent) return polledAt + limits.SPACING_MS;
    const soon = kicked && pollFailures === 0;
    return Math.max(holdUntil, polledAt + (soon ? limits.SPACING_MS : nextPoll(freshness(), pollDraw)));
  }

  const wantsLine = (): boolean =>
    lines.length > 0 &&
    (led ||
      (enabled &&
        forcedMs === null &&
        online &&
        (visible || line?.kind === 'socket' || host.now() - hiddenAt < limits.HIDDEN_STREAM_MS)));

  const silenceMs = (): number => (led ? limits.LED_SILENCE_MS : heartbeatMs * limits.SILENT_BEATS);

  function step(): void {
    if (!running) return;
    const now = host.now();
    if (now - lastStepAt > limits.WAKE_GAP_MS) {
      if (!led) dropLine(); // sockets rarely survive a sleep, and do not say so
      connectAt = 0;
      urgent = true;
    }
    lastStepAt = now;
    if (line !== null && now - line.heardAt > silenceMs()) {
      lostLine();
      return;
    }
    if (line !== null && now > line.upgradeAt) {
      dropLine();
      lineFailures = 0;
      connectAt = now;
    }
    if (line !== null && !wantsLine()) {
      dropLine();
      changed();
    }
    if (behindSince !== null && now - behindSince > limits.BEHIND_GRACE_MS && line?.open) kicked = true;
    if ((kicked || urgent) && poll?.waits) poll.abort.abort();
    if (poll?.abort.signal.aborted) poll = null;
    if (poll === null && now >= pollDueAt()) void look();
    if (line === null && at?.epoch && wantsLine() && now >= Math.max(connectAt, holdUntil)) connect(at);

    if (timer !== null) host.clearTimer(timer);
    const dues = [now + limits.STEP_MAX_MS];
    if (poll === null && Number.isFinite(pollDueAt())) dues.push(pollDueAt());
    if (line === null && at?.epoch && wantsLine()) dues.push(connectAt);
    if (behindSince !== null) dues.push(behindSince + limits.BEHIND_GRACE_MS + 1);
    timer = host.setTimer(
      () => {
        step();
        changed();
      },
      Math.max(20, Math.min(...dues) - now),
    );
  }

  const mode = (): Mode =>
    modeOf({
      online,
      enabled,
      visible,
      lineOpen: line?.open ?? false,
      pollFailures,
      linesTried: lineFailures > lines.length || forcedMs !== null,
      proven: at !== null && lastProofAt !== null,
      behind: behindSince !== null && host.now() - behindSince > limits.BEHIND_GRACE_MS,
    });

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
      dropLine();
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
      else dropLine();
      changed();
    },
    use(next, isLed) {
      if (lines === next && led === isLed) return;
      lines = next;
      led = isLed;
      dropLine();
      lineFailures = 0;
      connectAt = 0;
      kicked = kicked || !isLed; // what fell between the old leader's last word and our first
      step();
      changed();
    },
    configure(config) {
      enabled = config.realtime_enabled ?? true;
      forcedMs = config.deadmode_force_polling_ms ?? null;
      if (forcedMs !== null && forcedMs <= 0) forcedMs = null;
      heartbeatMs = Math.max(2_000, config.heartbeat_ms ?? limits.HEARTBEAT_DEFAULT_MS);
      step();
      changed();
    },
    snapshot: () => ({
      mode: mode(),
      transport: line?.open ? line.kind : 'poll',
      cursor: at,
      head,
      lastEventAt,
      lastProofAt,
      pollFailures,
      lineFailures,
      nextPollAt: running && poll === null && Number.isFinite(pollDueAt()) ? Math.round(pollDueAt()) : null,
      nextConnectAt:
        running && line === null && wantsLine() ? Math.round(Math.max(connectAt, holdUntil)) : null,
    }),
  };
}
