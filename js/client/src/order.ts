import type { Tile } from './placeholders';

/** Where a tile stands, decided when it is first seen and kept: a result never jumps when it lands. */
export type OrderKeys = Map<string, number>;

/** A clock that is off by more than this is not believed. */
const CLOCK_SLACK_MS = 2 * 60_000;
/** Nobody waits longer for a result than this; an older id is somebody's own scheme. */
const WORK_MAX_MS = 24 * 3600_000;

/** The time inside a UUID v7 (ms since 1970); null for other kinds. */
export function timeOf(uuid: string): number | null {
  return uuid[14] === '7' ? Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16) : null;
}

/**
 * When it was asked for: so that results stand in the order of the asking, in every window alike, whichever
 * was done first. Read from the job's own id, unless the clock that made it was wrong.
 */
export function askedAt(tile: Tile): number {
  const made = Date.parse(tile.createdAt);
  const asked = tile.jobId === null ? null : timeOf(tile.jobId);
  if (asked === null || asked > made + CLOCK_SLACK_MS || asked < made - WORK_MAX_MS) return made;
  return asked;
}

/** Places that are remembered: what was deleted comes back where it was. */
const REMEMBERED_MAX = 100_000;

/**
 * Keys for all tiles (ms since 1970): those we know stay, new ones get the time they were asked for. They are added to
 * `known` itself: a copy of 50,000 for each new one would be felt.
 */
export function orderKeys(known: OrderKeys, tiles: readonly Tile[]): OrderKeys {
  const next: OrderKeys = known.size > REMEMBERED_MAX + tiles.length ? new Map() : known;
  for (const tile of tiles) {
    if (!next.has(tile.id)) next.set(tile.id, known.get(tile.id) ?? askedAt(tile));
  }
  return next;
}

/** Newest first; the outputs of one job side by side in their own order. */
export function inOrder(tiles: readonly Tile[], keys: OrderKeys): Tile[] {
  const keyed = tiles.map((tile) => ({ tile, key: keys.get(tile.id) ?? 0 }));
  keyed.sort((one, other) => {
    if (one.key !== other.key) return other.key - one.key;
    const { tile: a } = one;
    const { tile: b } = other;
    if (a.jobId !== b.jobId) return (a.jobId ?? '') < (b.jobId ?? '') ? 1 : -1;
    return a.index - b.index || (a.id < b.id ? -1 : 1);
  });
  return keyed.map(({ tile }) => tile);
}
