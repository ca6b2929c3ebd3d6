import type { Change } from './resources';

/**
 * The net under the patches (F2): the keys that a change touches, gathered, at most one flush per family in
 * `flushMs`; inserts at once, deletes gathered up to `deleteFlushMs`. Pure: time comes in, keys to flush come out.
 */

export interface Rhythm {
  readonly flushMs: number;
  readonly deleteFlushMs: number;
}

export const RHYTHM: Rhythm = { flushMs: 500, deleteFlushMs: 2_000 };

type Key = readonly unknown[];

interface Waiting {
  readonly keys: ReadonlyMap<string, Key>;
  readonly dueAt: number;
}

export interface Invalidations {
  readonly waiting: ReadonlyMap<string, Waiting>;
  /** When each family was last flushed, in ms. */
  readonly flushedAt: ReadonlyMap<string, number>;
}

export const nothingWaits: Invalidations = { waiting: new Map(), flushedAt: new Map() };

const delayOf = (op: Change['op'], { flushMs, deleteFlushMs }: Rhythm): number =>
  op === 'insert' ? 0 : op === 'delete' ? deleteFlushMs : flushMs;

/** Takes the keys of these changes in. */
export function gather(
  state: Invalidations,
  entries: readonly Pick<Change, 'op' | 'keys'>[],
  now: number,
  rhythm: Rhythm = RHYTHM,
): Invalidations {
  const waiting = new Map(state.waiting);
  for (const { op, keys } of entries) {
    for (const key of keys) {
      const family = String(key[0]);
      const before = waiting.get(family);
      const free = (state.flushedAt.get(family) ?? Number.NEGATIVE_INFINITY) + rhythm.flushMs;
      const dueAt = Math.max(free, now + delayOf(op, rhythm));
      waiting.set(family, {
        keys: new Map(before?.keys).set(JSON.stringify(key), key),
        dueAt: Math.min(before?.dueAt ?? Number.POSITIVE_INFINITY, dueAt),
      });
    }
  }
  return { ...state, waiting };
}

/** When the next flush is due; null: nothing waits. */
export function nextFlushAt({ waiting }: Invalidations): number | null {
  let soonest: number | null = null;
  for (const { dueAt } of waiting.values()) soonest = soonest === null ? dueAt : Math.min(soonest, dueAt);
  return soonest;
}

/** The keys that are due now, each once. */
export function flush(state: Invalidations, now: number): { state: Invalidations; keys: Key[] } {
  const waiting = new Map(state.waiting);
  const flushedAt = new Map(state.flushedAt);
  const keys: Key[] = [];
  for (const [family, { keys: due, dueAt }] of state.waiting) {
    if (dueAt > now) continue;
    waiting.delete(family);
    flushedAt.set(family, now);
    keys.push(...due.values());
  }
  return { state: keys.length === 0 ? state : { waiting, flushedAt }, keys };
}
