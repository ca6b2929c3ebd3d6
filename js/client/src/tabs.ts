import type { Mode } from './feedShape';
import type { LineHandlers, OpenLine } from './line';
import type { Change, ClientConfig, ProgressNote } from './resources';
import type { Scheduler } from './scheduler';

/**
 * Many tabs, one of which leads (F7): it holds the socket and polls, and passes on what it hears. Who leads is a Web
 * Lock, so a leader that closes or crashes is followed by another at once; what fell in between comes from the log by
 * the cursor that every tab keeps for itself. Without locks or channels, each tab is for itself.
 */

export type Role = 'leader' | 'follower' | 'alone';

/** What tabs say to each other. `changes` and the like come from the leader only. */
export type TabMessage =
  | { readonly t: 'hello' | 'kick' | 'recover'; readonly from: string }
  | { readonly t: 'pulse'; readonly from: string; readonly pulse: Pulse }
  | { readonly t: 'changes'; readonly epoch: string; readonly entries: readonly Change[] }
  | { readonly t: 'head'; readonly epoch: string; readonly head: number }
  | { readonly t: 'progress'; readonly note: ProgressNote }
  | { readonly t: 'config'; readonly config: ClientConfig };

/** The leader's word about itself. */
export interface Pulse {
  readonly mode: Mode;
  readonly epoch: string | null;
  readonly head: number | null;
  readonly proofAgeMs: number | null;
  readonly visible: boolean;
}

export interface TabsHost {
  readonly locks: Pick<LockManager, 'request'> | undefined;
  readonly channel: (name: string) => TabChannel | undefined;
}

/** What we use of a BroadcastChannel. */
export interface TabChannel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
  close(): void;
}

export interface TabsHandlers {
  readonly onRole: (role: Role) => void;
  readonly pulse: () => Pulse;
  readonly onKick: () => void;
  readonly onRecover: () => void;
}

export interface Tabs {
  /** How a follower hears of everything. */
  readonly line: OpenLine;
  start(): void;
  stop(): void;
  setVisible(visible: boolean): void;
  role(): Role;
  /** The leader's last pulse; null where we lead, or heard none lately. */
  leader(): Pulse | null;
  /** To the other tabs; of a follower only `kick` and `recover`. */
  say(message: TabMessage): void;
  /** Says how it stands to whoever follows. */
  beat(): void;
  readonly id: string;
}

/** The leader's word at least this often. */
export const PULSE_MS = 4_000;
/** A leader that says nothing for this long is gone, or frozen with the lock in its hand. */
export const SILENT_MS = 12_000;
/** Tabs that nobody looks at have slow timers: they judge more slowly. */
export const SILENT_HIDDEN_MS = 45_000;
/** A proof that is older than this is not passed on as one. */
const PROOF_MS = 6_000;

export interface Standing {
  readonly visible: boolean;
  /** Since the leader's last word, or since we began to listen. */
  readonly silentMs: number;
  /** Null: nothing heard of it yet. */
  readonly leaderVisible: boolean | null;
}

/** A tab that somebody looks at leads: the timers of hidden ones are throttled by the browser. */
export const shouldLead = ({ visible, silentMs, leaderVisible }: Standing): boolean =>
  visible ? silentMs > SILENT_MS || leaderVisible === false : silentMs > SILENT_HIDDEN_MS;

export function createTabs(
  name: string,
  id: string,
  host: TabsHost,
  scheduler: Scheduler,
  handlers: TabsHandlers,
): Tabs {
  const { locks } = host;
  const channel = locks ? host.channel(name) : undefined;
  let role: Role = channel ? 'follower' : 'alone';
  let running = false;
  let visible = true;
  let heardAt = 0;
  let lastPulse: Pulse | null = null;
  let release: (() => void) | null = null;
  let queued: AbortController | null = null;
  let stopPulse: (() => void) | null = null;
  let sink: { readonly on: LineHandlers; opened: boolean } | null = null;

  const say = (message: TabMessage): void => {
    // Only who leads tells what happened; a follower passes nothing on.
    if (role !== 'leader' && !('from' in message)) return;
    try {
      channel?.postMessage(message);
    } catch {
      // the channel was closed under us: the others judge by the silence
    }
  };
  const beat = (): void => {
    if (role === 'leader') say({ t: 'pulse', from: id, pulse: handlers.pulse() });
  };

  function become(next: Role): void {
    if (role === next) return;
    role = next;
    lastPulse = null;
    heardAt = scheduler.now();
    handlers.onRole(next);
    beat();
  }

  /** Waits for the lock, or takes it from a leader that does not lead. */
  function ask(steal: boolean): void {
    if (!locks || !running) return;
    queued?.abort();
    const mine = new AbortController();
    queued = mine;
    let held = false;
    const hold = (): Promise<void> => {
      if (mine.signal.aborted || !running) return Promise.resolve();
      held = true;
      become('leader');
      return new Promise((done) => {
        release = done;
      });
    };
    const options: LockOptions = steal ? { steal: true } : { signal: mine.signal };
    locks.request(name, options, hold).catch(() => {
      // Taken from us by a tab that somebody looks at; or we gave up waiting, to take it ourselves.
      if (!held || !running) return;
      release = null;
      become('follower');
      ask(false);
    });
  }

  function watch(): void {
    if (role !== 'follower') return;
    const silentMs = scheduler.now() - heardAt;
    if (silentMs > SILENT_MS) lastPulse = null;
    if (shouldLead({ visible, silentMs, leaderVisible: lastPulse?.visible ?? null })) ask(true);
  }

  function hear(message: TabMessage): void {
    if (message.t === 'hello' || message.t === 'kick' || message.t === 'recover') {
      // Meant for the leader; another follower's word is no sign of the leader's life.
      if (role !== 'leader') return;
      if (message.t === 'hello') beat();
      else if (message.t === 'kick') handlers.onKick();
      else handlers.onRecover();
      return;
    }
    if (role !== 'follower') return;
    heardAt = scheduler.now();
    if (message.t === 'pulse') {
      lastPulse = message.pulse;
      watch();
    }
    if (sink !== null) pass(message, sink);
  }

  const line: OpenLine = {
    kind: 'tab',
    open(_from, on) {
      const mine = { on, opened: false };
      sink = mine;
      say({ t: 'hello', from: id });
      return {
        kind: 'tab',
        close() {
          if (sink === mine) sink = null;
        },
      };
    },
  };

  return {
    id,
    line,
    say,
    beat,
    role: () => role,
    leader: () => (role === 'follower' ? lastPulse : null),
    start() {
      running = true;
      heardAt = scheduler.now();
      if (channel === undefined) return;
      channel.onmessage = ({ data }) => running && hear(data as TabMessage);
      ask(false);
      stopPulse = scheduler.every('tabs', PULSE_MS, () => {
        beat();
        watch();
      });
    },
    stop() {
      running = false;
      stopPulse?.();
      queued?.abort();
      release?.();
      release = null;
      sink = null;
      channel?.close();
    },
    setVisible(next) {
      visible = next;
      beat();
      watch();
    },
  };
}

/** What the leader said, as if it came from the server. */
function pass(message: TabMessage, sink: { readonly on: LineHandlers; opened: boolean }): void {
  const { on } = sink;
  if (!sink.opened) {
    sink.opened = true;
    on.opened();
  }
  on.heard();
  if (message.t === 'changes') on.changes(message.epoch, message.entries);
  else if (message.t === 'head') on.head(message.epoch, message.head);
  else if (message.t === 'progress') on.progress(message.note);
  else if (message.t === 'config') on.configured(message.config);
  else if (message.t === 'pulse') {
    const { epoch, head, proofAgeMs } = message.pulse;
    if (epoch !== null && head !== null && proofAgeMs !== null && proofAgeMs < PROOF_MS) on.head(epoch, head);
  }
}
