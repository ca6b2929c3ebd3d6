import {
  EDGES,
  GENERATIONS,
  inShot,
  JOBS,
  type List,
  type Narrowing,
  NODES,
  narrowedTo,
  patchList,
  type Rule,
  SHOTS,
} from './patch';
import type { Change, Generation, Job, JobCounts, Shot, ShotCounts, ShotPlace, Wallet } from './resources';
import { keepingInput } from './wholeJob';

/**
 * One entry of the log over whatever an app has cached under the canonical keys (F2). Our own lists are patched
 * exactly; of an app's own shapes, rows that are in them are renewed or taken out, and the invalidation does the rest.
 * Pure: data in, the same data out where nothing changed.
 */

type Key = readonly unknown[];

export interface WalletAt {
  readonly wallet: Wallet;
  readonly seq: number;
}

/**
 * An entry shows its row as it was at the commit, so several entries of one transaction show the same row: what was
 * counted last, and not what an entry says was before, is what the next one is counted from.
 */
export interface CountsAt {
  readonly counts: JobCounts;
  readonly seq: number;
  /** Status by job, as counted last. */
  readonly counted?: Readonly<Record<string, string>>;
}

interface CountedShots extends List<Shot> {
  /** Places by result, as counted last. */
  readonly counted?: Readonly<Record<string, readonly ShotPlace[]>>;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const isList = (data: unknown): data is List<{ readonly id: string }> =>
  isRecord(data) && Array.isArray(data.rows) && isRecord(data.seqs) && isRecord(data.seqs.base);

const isCounts = (data: unknown): data is CountsAt =>
  isRecord(data) && isRecord(data.counts) && 'seq' in data;
const isWallet = (data: unknown): data is WalletAt =>
  isRecord(data) && isRecord(data.wallet) && 'seq' in data;

/** Kept right by patches alone: reading it again because of a change would only cost. */
export const isOurs = (data: unknown): boolean => isList(data) || isCounts(data) || isWallet(data);

/** The prefixes under which a table's rows may be cached. */
export function prefixesOf(table: string, project: string): Key[] {
  switch (table) {
    case 'jobs':
      return [
        ['tasks', project],
        ['task-status-counts', project],
      ];
    case 'generations':
      return [
        ['unified-generations', 'project', project],
        ['unified-generations', 'shot'],
        ['shots', project],
      ];
    case 'shots':
      return [['shots', project]];
    case 'nodes':
    case 'edges':
      return [['nodes', project]];
    case 'credits':
      return [['credits', project]];
    default:
      return [];
  }
}

const ofStatus = (status: unknown): Rule<Job> => {
  const wanted = Array.isArray(status) ? status : status === undefined ? null : [status];
  return { ...JOBS, belongs: (job) => wanted === null || wanted.includes(job.status) };
};

type AnyList = List<{ readonly id: string }>;

/** `patchList` of one kind of row, for a list that its key says is of that kind. */
const by =
  <T extends { readonly id: string }>(rule: Rule<T>) =>
  (list: AnyList, change: Change): AnyList =>
    patchList(list as List<T>, change, rule);

/** Which table one of our lists shows, and how a row of it gets in, read from its key. */
function ruleOf(key: Key): { table: string; patch: (list: AnyList, change: Change) => AnyList } | null {
  const [family, scope, id, more] = key;
  const filter = isRecord(more) ? more : isRecord(id) ? id : null;
  if (family === 'tasks') return { table: 'jobs', patch: by(ofStatus(filter?.status)) };
  if (family === 'shots') return { table: 'shots', patch: by(SHOTS) };
  if (family === 'nodes') {
    return id === 'edges' ? { table: 'edges', patch: by(EDGES) } : { table: 'nodes', patch: by(NODES) };
  }
  if (family !== 'unified-generations') return null;
  const rule = scope === 'shot' ? inShot(String(id)) : filter ? narrowedTo(filter as Narrowing) : GENERATIONS;
  return { table: 'generations', patch: by(rule) };
}

/** What is cached under `key`, after this entry. */
export function patched(key: Key, data: unknown, change: Change): unknown {
  if (data === undefined || data === null) return data;
  if (change.op !== 'delete' && change.row === null) return data; // to be read again
  if (isWallet(data)) {
    const isNewer = key[0] === 'credits' && change.table === 'credits' && change.seq > data.seq;
    return isNewer && change.row !== null ? { wallet: change.row as Wallet, seq: change.seq } : data;
  }
  if (isCounts(data)) return key[0] === 'task-status-counts' ? recounted(data, change) : data;
  if (isList(data)) {
    const found = ruleOf(key);
    if (found?.table === change.table) return found.patch(data, change);
    const isShots = key[0] === 'shots' && change.table === 'generations';
    return isShots ? countedInShots(data as unknown as List<Shot>, change) : data;
  }
  return patchedForeign(data, change);
}

const STATUSES = ['pending', 'processing', 'completed', 'failed', 'canceled'] as const;
const statusOf = (row: unknown): (typeof STATUSES)[number] | null =>
  isRecord(row) ? (STATUSES.find((status) => status === row.status) ?? null) : null;

function recounted(data: CountsAt, change: Change): CountsAt {
  if (change.table !== 'jobs' || change.seq <= data.seq) return data;
  const last = statusOf({ status: data.counted?.[change.id] });
  const before = last ?? (change.op === 'insert' ? null : statusOf(change.old));
  const after = change.op === 'delete' ? null : statusOf(change.row);
  const { [change.id]: _, ...others } = data.counted ?? {};
  const counted = after === null ? others : { ...others, [change.id]: after };
  const counts = { ...data.counts };
  if (before !== after && before !== null) counts[before] = Math.max(0, counts[before] - 1);
  if (before !== after && after !== null) counts[after] += 1;
  return { counts, seq: change.seq, counted };
}

interface Placed {
  readonly deleted_at?: string | null;
  readonly shots?: readonly ShotPlace[];
  readonly kind?: string;
}

const placesOf = (row: Placed | null): readonly ShotPlace[] =>
  row === null || (row.deleted_at !== null && row.deleted_at !== undefined) ? [] : (row.shots ?? []);

const counting = (counts: ShotCounts, place: ShotPlace, isVideo: boolean, by: 1 | -1): ShotCounts => ({
  total: Math.max(0, counts.total + by),
  unpositioned: Math.max(0, counts.unpositioned + (place.position === null ? by : 0)),
  videos: Math.max(0, counts.videos + (isVideo ? by : 0)),
});

/** A shot's card counts what is in it: what a result's change says of that, before and after. */
function countedInShots(list: CountedShots, change: Change): CountedShots {
  if (change.seq <= list.seq) return list;
  const row = change.row as Generation | null;
  const was = change.op === 'insert' ? [] : placesOf(change.old as Placed | null);
  const before = list.counted?.[change.id] ?? was;
  const after = change.op === 'delete' ? [] : placesOf(row);
  if (before.length === 0 && after.length === 0) return list;
  const isVideo = (row ?? (change.old as Placed | null))?.kind === 'video';
  const rows = list.rows.map((shot) => {
    const left = before.find(({ shot_id }) => shot_id === shot.id);
    const joined = after.find(({ shot_id }) => shot_id === shot.id);
    if (!left && !joined) return shot;
    let { counts } = shot;
    if (left) counts = counting(counts, left, isVideo, -1);
    if (joined) counts = counting(counts, joined, isVideo, 1);
    return { ...shot, counts };
  });
  return { ...list, rows, counted: { ...list.counted, [change.id]: after } };
}

/** Arrays, `{items}`, `{pages}` and single rows, as apps cache what they read themselves. */
function patchedForeign(data: unknown, change: Change): unknown {
  if (Array.isArray(data)) return patchedArray(data, change);
  if (!isRecord(data)) return data;
  if (data.id === change.id) return change.row === null ? data : renewed(data, change);
  for (const name of ['items', 'pages', 'data'] as const) {
    const inner = data[name];
    if (typeof inner !== 'object' || inner === null) continue;
    const next = patchedForeign(inner, change);
    if (next !== inner) return { ...data, [name]: next };
  }
  return data;
}

function renewed(row: Record<string, unknown>, { table, row: said }: Change): unknown {
  if (table !== 'jobs') return { ...row, ...(said as object) };
  // An app may keep a few fields only, and no input.
  return { ...row, ...keepingInput(said as Job, isRecord(row.input) ? (row as unknown as Job) : undefined) };
}

function patchedArray(rows: readonly unknown[], change: Change): readonly unknown[] {
  const gone = change.op === 'delete' || placedAway(change.row);
  let touched = false;
  const next: unknown[] = [];
  for (const row of rows) {
    if (isRecord(row) && row.id === change.id) {
      touched = true;
      if (!gone) next.push(renewed(row, change));
    } else if (isRecord(row) && !('id' in row)) {
      const inner = patchedForeign(row, change);
      touched ||= inner !== row;
      next.push(inner);
    } else next.push(row);
  }
  return touched ? next : rows;
}

const placedAway = (row: unknown): boolean =>
  isRecord(row) && row.deleted_at !== undefined && row.deleted_at !== null;
