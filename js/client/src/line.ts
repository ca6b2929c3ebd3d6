import type { Position } from './cursor';
import type { Problem } from './problem';
import type { Change, ClientConfig, ProgressNote } from './resources';

/** A way on which the server (or, for `tab`, another window) speaks first. It only ever says "look sooner". */
export type LineKind = 'socket' | 'stream' | 'tab';

/** What comes down a line. After `closed`, or after the line was closed by us, nothing more comes. */
export interface LineHandlers {
  readonly opened: () => void;
  /** Any sign of life. */
  readonly heard: () => void;
  readonly changes: (epoch: string, entries: readonly Change[]) => void;
  /** The beat: where the log ends now. */
  readonly head: (epoch: string, head: number) => void;
  readonly progress: (note: ProgressNote) => void;
  /** The cursor cannot be continued. */
  readonly lost: () => void;
  readonly configured: (config: ClientConfig) => void;
  /** `problem` where the server said why. */
  readonly closed: (problem: Problem | null) => void;
}

export interface Line {
  readonly kind: LineKind;
  close(): void;
}

/** Opens a line that brings everything after `from`. */
export type OpenLine = { readonly kind: LineKind; readonly open: (from: Position, on: LineHandlers) => Line };

/** Which to try after so many failures in a row: a blocked socket is no reason to wait for the stream. */
export const lineAfter = (lines: readonly OpenLine[], failures: number): OpenLine | undefined =>
  lines[failures % Math.max(1, lines.length)];
