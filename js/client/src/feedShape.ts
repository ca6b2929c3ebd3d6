import type { Position } from './cursor';
import type { LineKind, OpenLine } from './line';
import type { Problem } from './problem';
import type { Change, ClientConfig, ProgressNote } from './resources';

/** `paused`: an operator switched the push off; we poll all the same. */
export type Mode = 'live' | 'catching-up' | 'polling' | 'offline' | 'paused';

export interface FeedSnapshot {
  readonly mode: Mode;
  readonly transport: LineKind | 'poll';
  readonly cursor: Position | null;
  readonly head: number | null;
  /** ms since 1970 of the last entry, and of the last proof of freshness. */
  readonly lastEventAt: number | null;
  readonly lastProofAt: number | null;
  readonly pollFailures: number;
  readonly lineFailures: number;
  /** ms since 1970 of the next look and of the next try to connect; null where none is due. */
  readonly nextPollAt: number | null;
  readonly nextConnectAt: number | null;
}

export interface FeedHandlers {
  /** New entries, in order, each exactly once. */
  readonly onChanges: (changes: readonly Change[], epoch: string) => void;
  /** We know again that nothing is missing, or where the log ends. */
  readonly onProof?: (epoch: string, head: number) => void;
  /** Read every list again; answers with the lowest seq any of them was read at. */
  readonly refetch: () => Promise<number>;
  readonly onProgress?: (note: ProgressNote) => void;
  readonly onConfig?: (config: ClientConfig) => void;
  /** The server does not know us (any more). */
  readonly onSignedOut?: (problem: Problem) => void;
  readonly onState?: () => void;
  readonly jobsActive?: () => boolean;
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
  /** Other ways to be told, from now on; `led`: another tab looks for us, and we only where it does not (F7). */
  use(lines: readonly OpenLine[], led: boolean): void;
  snapshot(): FeedSnapshot;
}

/** What the one word for all of it rests on. */
export interface Standing {
  readonly online: boolean;
  readonly enabled: boolean;
  readonly visible: boolean;
  readonly lineOpen: boolean;
  readonly pollFailures: number;
  /** More failures in a row than there are ways to be told, or polling by order. */
  readonly linesTried: boolean;
  /** We know where we stand, and have been told so. */
  readonly proven: boolean;
  readonly behind: boolean;
}

export function modeOf(s: Standing): Mode {
  if (!s.online || s.pollFailures >= 2 || (s.pollFailures > 0 && !s.lineOpen)) return 'offline';
  if (!s.proven || s.behind) return 'catching-up';
  if (s.lineOpen) return 'live';
  if (!s.enabled) return 'paused';
  return s.linesTried || !s.visible ? 'polling' : 'catching-up';
}
