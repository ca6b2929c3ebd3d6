import type { Change, Generation, Job } from './resources';

/**
 * A list as the cache holds it. Every row remembers the `seq` it was read at, so that an entry which a page or
 * a write's answer already contains is never applied again (S3).
 */
export interface List<T> {
  readonly rows: readonly T[];
  readonly seqs: Readonly<Record<string, number>>;
  /** Read at this seq: what the list did not contain then, it did not contain. */
  readonly seq: number;
  readonly nextCursor: string | null;
}

export interface Rule<T> {
  /** Whether the row is shown in this list at all. */
  readonly belongs: (row: T) => boolean;
  /** Order of the list, ties broken: 0 only for the same row. */
  readonly compare: (a: T, b: T) => number;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

interface Row {
  readonly id: string;
}

/** By time, not by text: a list and the log may write the same moment differently. */
const newestFirst = (a: { created_at: string; id: string }, b: { created_at: string; id: string }): number =>
  Date.parse(b.created_at) - Date.parse(a.created_at) || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0);

export const GENERATIONS: Rule<Generation> = {
  belongs: (row) => row.deleted_at === null || row.deleted_at === undefined,
  compare: newestFirst,
};

/** Every job this page has heard of; which of them have tiles is for `placeholders.ts` to say. */
export const JOBS: Rule<Job> = { belongs: () => true, compare: newestFirst };

export const listOf = <T extends Row>(page: Page<T>, seq: number): List<T> => ({
  rows: page.items,
  seqs: Object.fromEntries(page.items.map((row) => [row.id, seq])),
  seq,
  nextCursor: page.next_cursor,
});

function without<T extends Row>(list: List<T>, id: string): List<T> {
  return list.rows.some((row) => row.id === id)
    ? { ...list, rows: list.rows.filter((row) => row.id !== id) }
    : list;
}

/** Puts one row, read at `seq`, where it belongs; older knowledge than ours changes nothing. */
export function putRow<T extends Row>(list: List<T>, row: T, seq: number, rule: Rule<T>): List<T> {
  const known = list.seqs[row.id];
  if (known !== undefined ? known >= seq : list.seq >= seq) return list;
  const seqs = { ...list.seqs, [row.id]: seq };
  const rest = without(list, row.id).rows;
  if (!rule.belongs(row)) return { ...list, rows: rest, seqs };
  const found = rest.findIndex((other) => rule.compare(row, other) < 0);
  const place = found < 0 ? rest.length : found;
  // Past the last loaded row of a longer list: the page that holds it is not here yet, and will bring it.
  if (place === rest.length && list.nextCursor !== null && known === undefined) return list;
  return { ...list, rows: [...rest.slice(0, place), row, ...rest.slice(place)], seqs };
}

/** The same row again, for what is not in the log (addresses signed anew). Older than ours: ignored. */
export function renewRow<T extends Row>(list: List<T>, row: T, seq: number): List<T> {
  const known = list.seqs[row.id] ?? list.seq;
  if (known > seq) return list;
  return { ...list, rows: list.rows.map((other) => (other.id === row.id ? row : other)) };
}

/** Takes a row out that was gone at `seq`. */
export function removeRow<T extends Row>(list: List<T>, id: string, seq: number): List<T> {
  const known = list.seqs[id] ?? list.seq;
  return known >= seq ? list : { ...without(list, id), seqs: { ...list.seqs, [id]: seq } };
}

/** One entry of the log over one list of that table. Applying an entry twice is the same as once. */
export function patchList<T extends Row>(list: List<T>, change: Change, rule: Rule<T>): List<T> {
  return change.op === 'delete'
    ? removeRow(list, change.id, change.seq)
    : putRow(list, change.row as T, change.seq, rule);
}

/** The next page under what is loaded. Rows that we know better stay as they are. */
export function appendPage<T extends Row>(list: List<T>, page: Page<T>, seq: number, rule: Rule<T>): List<T> {
  let merged: List<T> = { ...list, nextCursor: null };
  for (const row of page.items) {
    const known = merged.seqs[row.id];
    if (known !== undefined && known >= seq) continue;
    const rows = [...merged.rows.filter((other) => other.id !== row.id), row].sort(rule.compare);
    merged = { ...merged, rows, seqs: { ...merged.seqs, [row.id]: seq } };
  }
  return { ...merged, nextCursor: page.next_cursor };
}
