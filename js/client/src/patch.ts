import type { CanvasEdge, CanvasNode, Change, Generation, Job, Shot } from './resources';
import { NO_SEQS, type Seqs, seqOf, withSeq, withSeqs } from './seqs';
import { keepingInput } from './wholeJob';

/**
 * A list as the cache holds it. Every row remembers the `seq` it was read at, so that an entry which a page or
 * a write's answer already contains is never applied again (S3).
 */
export interface List<T> {
  readonly rows: readonly T[];
  readonly seqs: Seqs;
  /** Read at this seq: what the list did not contain then, it did not contain. */
  readonly seq: number;
  readonly nextCursor: string | null;
}

export interface Rule<T> {
  /** Whether the row is shown in this list at all. */
  readonly belongs: (row: T) => boolean;
  /** Order of the list, ties broken: 0 only for the same row. */
  readonly compare: (a: T, b: T) => number;
  /** What the log's row lacks and the list has. */
  readonly complete?: (row: T, known: T | undefined) => T;
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
export const JOBS: Rule<Job> = { belongs: () => true, compare: newestFirst, complete: keepingInput };

const byPosition = (a: string | null, b: string | null): number =>
  a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -1 : 1;

/** Where a result stands in a shot; undefined: it is not in it. */
export const placeIn = (row: Generation, shot: string): string | null | undefined =>
  row.shots?.find(({ shot_id }) => shot_id === shot)?.position;

/** A shot's results in its order, those without a place at the end. */
export const inShot = (shot: string): Rule<Generation> => ({
  belongs: (row) => GENERATIONS.belongs(row) && placeIn(row, shot) !== undefined,
  compare: (a, b) => byPosition(placeIn(a, shot) ?? null, placeIn(b, shot) ?? null) || newestFirst(a, b),
});

/** What a gallery may be narrowed to. */
export interface Narrowing {
  readonly kind?: string;
  readonly starred?: boolean;
  readonly model?: string;
  readonly q?: string;
  /** Only these, whatever else there is. */
  readonly ids?: readonly string[];
}

const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

/** As the server searches: every word of the search begins some word of the prompt or the model. */
function finds(row: Generation, q: string): boolean {
  const words = wordsOf(`${row.prompt ?? ''} ${row.model ?? ''}`);
  return wordsOf(q).every((part) => words.some((word) => word.startsWith(part)));
}

export const narrowedTo = ({ kind, starred, model, q, ids }: Narrowing): Rule<Generation> => ({
  belongs: (row) =>
    GENERATIONS.belongs(row) &&
    (kind === undefined || row.kind === kind) &&
    (starred === undefined || row.starred === starred) &&
    (model === undefined || row.model === model) &&
    (ids === undefined || ids.includes(row.id)) &&
    (q === undefined || finds(row, q)),
  compare: newestFirst,
});

const NO_COUNTS = { total: 0, unpositioned: 0, videos: 0 };

export const SHOTS: Rule<Shot> = {
  belongs: () => true,
  compare: (a, b) => byPosition(a.position, b.position) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
  complete: (row, known) => ({ ...row, counts: row.counts ?? known?.counts ?? NO_COUNTS }),
};

const byId = (a: Row, b: Row): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

export const NODES: Rule<CanvasNode> = { belongs: () => true, compare: byId };
export const EDGES: Rule<CanvasEdge> = { belongs: () => true, compare: byId };

export const listOf = <T extends Row>(page: Page<T>, seq: number): List<T> => ({
  rows: page.items,
  seqs: withSeqs(
    NO_SEQS,
    page.items.map((row) => row.id),
    seq,
  ),
  seq,
  nextCursor: page.next_cursor,
});

function without<T extends Row>(list: List<T>, id: string): List<T> {
  return list.rows.some((row) => row.id === id)
    ? { ...list, rows: list.rows.filter((row) => row.id !== id) }
    : list;
}

/** The first place whose row comes after this one. */
function placeOf<T extends Row>(rows: readonly T[], row: T, rule: Rule<T>): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (rule.compare(row, rows[middle] as T) < 0) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Puts one row, read at `seq`, where it belongs; older knowledge than ours changes nothing. */
export function putRow<T extends Row>(list: List<T>, given: T, seq: number, rule: Rule<T>): List<T> {
  const known = seqOf(list.seqs, given.id);
  if (known !== undefined ? known >= seq : list.seq >= seq) return list;
  const at = list.rows.findIndex((other) => other.id === given.id);
  const row = rule.complete ? rule.complete(given, list.rows[at]) : given;
  const seqs = withSeq(list.seqs, row.id, seq);
  const rest = at < 0 ? list.rows : [...list.rows.slice(0, at), ...list.rows.slice(at + 1)];
  if (!rule.belongs(row)) return { ...list, rows: rest, seqs };
  const place = placeOf(rest, row, rule);
  // Past the last loaded row of a longer list: the page that holds it is not here yet, and will bring it.
  if (place === rest.length && list.nextCursor !== null && known === undefined) return list;
  return { ...list, rows: [...rest.slice(0, place), row, ...rest.slice(place)], seqs };
}

/** The same row again, for what is not in the log (addresses signed anew). Older than ours: ignored. */
export function renewRow<T extends Row>(list: List<T>, row: T, seq: number): List<T> {
  const known = seqOf(list.seqs, row.id) ?? list.seq;
  if (known > seq) return list;
  return { ...list, rows: list.rows.map((other) => (other.id === row.id ? row : other)) };
}

/** Takes a row out that was gone at `seq`. */
export function removeRow<T extends Row>(list: List<T>, id: string, seq: number): List<T> {
  const known = seqOf(list.seqs, id) ?? list.seq;
  return known >= seq ? list : { ...without(list, id), seqs: withSeq(list.seqs, id, seq) };
}

/** One entry of the log over one list of that table. Applying an entry twice is the same as once. */
export function patchList<T extends Row>(list: List<T>, change: Change, rule: Rule<T>): List<T> {
  return change.op === 'delete'
    ? removeRow(list, change.id, change.seq)
    : putRow(list, change.row as T, change.seq, rule);
}

/** The next page under what is loaded. Rows that we know better stay as they are. */
export function appendPage<T extends Row>(list: List<T>, page: Page<T>, seq: number, rule: Rule<T>): List<T> {
  const news = page.items.filter(({ id }) => (seqOf(list.seqs, id) ?? Number.NEGATIVE_INFINITY) < seq);
  const ids = new Set(news.map(({ id }) => id));
  const kept = list.rows.some(({ id }) => ids.has(id))
    ? list.rows.filter(({ id }) => !ids.has(id))
    : list.rows;
  return {
    ...list,
    rows: merged(kept, [...news].sort(rule.compare), rule),
    seqs: withSeqs(list.seqs, [...ids], seq),
    nextCursor: page.next_cursor,
  };
}

/** Two sorted lists as one. Of a page, all rows but a few come after everything that is there. */
function merged<T extends Row>(rows: readonly T[], news: readonly T[], rule: Rule<T>): readonly T[] {
  const [first] = news;
  if (first === undefined) return rows;
  const from = placeOf(rows, first, rule);
  const tail = rows.slice(from);
  const both = tail.length === 0 ? news : [...tail, ...news].sort(rule.compare);
  return [...rows.slice(0, from), ...both];
}
