import type { Api } from './api';
import type { Cache } from './cache';
import { type Freshness, familiesOf, heardOf, proven, reread, stale, unproven } from './freshness';
import { flush, gather, type Invalidations, nextFlushAt, nothingWaits, RHYTHM } from './invalidator';
import { appendPage, type List, listOf, type Page, patchList, type Rule, renewRow } from './patch';
import { isList, isOurs, patched, prefixesOf } from './patcher';
import type { Change, ClientConfig, Generation } from './resources';
import type { Scheduler } from './scheduler';
import { createStore, type Store } from './store';

/** What of a project is cached in this window, kept right: entries patch it, invalidation is the net under them (F2). */
export interface Holdings {
  readonly freshness: Store<Freshness>;
  /** New entries of the log, in order. */
  take(entries: readonly Change[]): void;
  /** A write's answer is as good as the entry that is on its way, for the lists that hold such rows. */
  learn(table: string, row: { readonly id: string }, seq: number): void;
  /** The same row again, for what is not in the log (addresses signed anew). */
  renew(row: Generation, seq: number): void;
  /** Everything was read anew: what came before is history. `again`: other lists are older than that. */
  begin(again: boolean): void;
  /** Reads a list so that it is as new as everything we heard, whatever came while it was on its way. */
  readList<T extends { readonly id: string }>(
    path: string,
    table: string,
    rule: Rule<T>,
    how?: ReadHow,
  ): Promise<List<T>>;
  /** The next page under a list that is cached. */
  append(key: readonly unknown[], path: string, rule: Rule<Generation>): Promise<readonly Generation[]>;
  configure(config: ClientConfig): void;
}

export interface ReadHow {
  /** All pages, not only the first; `path` ends with a query then. */
  readonly whole?: boolean;
  /** Sent with POST: for lists that are asked for by their ids. */
  readonly body?: unknown;
}

/** Entries kept for lists that are read just now; more than come while an answer is on its way. */
const RECENT_MAX = 2_000;
const REREADS_MAX = 3;
/** Somebody scrolls: fewer, longer steps (the server gives no more than this). */
const PAGE = 200;
/** Of a list that is read whole: more is more than a browser should hold, and the list says that it goes on. */
const PAGES_MAX = 25;

export function createHoldings(
  api: Api,
  project: string,
  cache: Cache,
  scheduler: Scheduler,
  /** Where the feed stands. */
  cursor: () => number,
): Holdings {
  const base = `/v1/projects/${project}`;
  const { now } = scheduler;
  const freshness = createStore<Freshness>(unproven);
  let rhythm = RHYTHM;
  let waiting: Invalidations = nothingWaits;
  let flushTimer: number | null = null;
  let recent: readonly Change[] = [];

  const everything = [
    ['tasks', project],
    ['task-status-counts', project],
    ['unified-generations'],
    ['shots', project],
    ['nodes', project],
    ['credits', project],
    ['unpositioned-count'],
    ['project-video-counts', project],
  ];

  function each(table: string, act: (key: readonly unknown[], data: unknown) => unknown): void {
    for (const queryKey of prefixesOf(table, project)) {
      for (const [key, data] of cache.getQueriesData({ queryKey })) {
        const next = act(key, data);
        if (next !== data) cache.setQueryData(key, next);
      }
    }
  }

  function arm(): void {
    if (flushTimer !== null) scheduler.clearTimer(flushTimer);
    const dueAt = nextFlushAt(waiting);
    flushTimer = dueAt === null ? null : scheduler.after('invalidate', dueAt - now(), flushNow);
  }

  function flushNow(): void {
    flushTimer = null;
    const due = flush(waiting, now());
    waiting = due.state;
    // Our own lists are patched exactly: reading them again because of a change would only cost.
    const others = due.keys.filter((queryKey) =>
      cache.getQueriesData({ queryKey }).some(([, data]) => data !== undefined && !isOurs(data)),
    );
    if (others.length > 0) {
      const families = familiesOf(others);
      freshness.set((state) => stale(state, families, now()));
      const reading = others.map((queryKey) =>
        cache.invalidateQueries({ queryKey, predicate: (query) => !isOurs(query.state.data) }),
      );
      void Promise.allSettled(reading).then(() => freshness.set((state) => reread(state, families)));
    }
    arm();
  }

  const missedBy = (seq: number, table: string): Change[] =>
    recent.filter(
      (entry) => entry.seq > seq && entry.table === table && (entry.row !== null || entry.op === 'delete'),
    );

  return {
    freshness,
    take(entries) {
      recent = [...recent, ...entries].slice(-RECENT_MAX);
      for (const entry of entries) each(entry.table, (key, data) => patched(key, data, entry));
      const families = familiesOf(entries.flatMap((entry) => entry.keys));
      freshness.set((state) => proven(heardOf(state, families, now()), now()));
      waiting = gather(waiting, entries, now(), rhythm);
      arm();
    },
    learn(table, row, seq) {
      const entry = { seq, table, row, id: row.id, op: 'update', at: '', old: null, keys: [] } as const;
      each(table, (key, data) =>
        isList(data) && !(table === 'generations' && key[0] === 'shots') ? patched(key, data, entry) : data,
      );
    },
    renew(row, seq) {
      each('generations', (key, data) =>
        isList(data) && key[0] === 'unified-generations'
          ? renewRow(data as unknown as List<Generation>, row, seq)
          : data,
      );
    },
    begin(again) {
      recent = [];
      if (!again) return;
      for (const queryKey of everything) void cache.invalidateQueries({ queryKey });
    },
    async readList<T extends { readonly id: string }>(
      path: string,
      table: string,
      rule: Rule<T>,
      { whole = false, body }: ReadHow = {},
    ) {
      const read = (address: string) =>
        api.call<Page<T>>(body === undefined ? 'GET' : 'POST', base + address, { body });
      for (let tries = 1; ; tries++) {
        const { data, seq } = await read(path);
        let list = listOf(data, seq ?? 0);
        for (let pages = 1; whole && list.nextCursor !== null && pages < PAGES_MAX; pages++) {
          const more = await read(`${path}&cursor=${encodeURIComponent(list.nextCursor)}`);
          list = appendPage(list, more.data, more.seq ?? 0, rule);
        }
        const after = cursor() - list.seq;
        // Every entry between the list and us must be among those we kept; else the answer was too slow.
        const isKept = recent.filter((entry) => entry.seq > list.seq).length >= after;
        if (after > 0 && !isKept && tries < REREADS_MAX) continue;
        return missedBy(list.seq, table).reduce((so, entry) => patchList(so, entry, rule), list);
      }
    },
    async append(key, path, rule) {
      const from = (cache.getQueryData(key) as List<Generation> | undefined)?.nextCursor;
      if (!from) return [];
      const address = `${base}${path}limit=${PAGE}&cursor=${encodeURIComponent(from)}`;
      const { data, seq } = await api.call<Page<Generation>>('GET', address);
      const list = cache.getQueryData(key) as List<Generation> | undefined;
      if (list?.nextCursor !== from) return [];
      const next = missedBy(seq ?? 0, 'generations').reduce(
        (so, entry) => patchList(so, entry, rule),
        appendPage(list, data, seq ?? 0, rule),
      );
      cache.setQueryData(key, next);
      return data.items;
    },
    configure({ invalidation }) {
      rhythm = {
        flushMs: invalidation?.flush_ms ?? RHYTHM.flushMs,
        deleteFlushMs: invalidation?.delete_flush_ms ?? RHYTHM.deleteFlushMs,
      };
    },
  };
}
