import {
  type Api,
  appendPage,
  type Change,
  type ClientConfig,
  createFeed,
  type Draft,
  type Feed,
  type FeedSnapshot,
  GENERATIONS,
  type Generation,
  isUnfinished,
  JOBS,
  type Job,
  type JobRequest,
  keys,
  type List,
  listOf,
  overdue,
  type Page,
  type Progress,
  patchList,
  putRow,
  removeRow,
  renewRow,
  submitJob,
  type Tile,
  type Wallet,
} from '@safelight/client';
import type { QueryClient } from '@tanstack/react-query';
import { keepDismissals, keepDrafts, keptDismissals, keptDrafts } from './keepsakes';
import { readJobs } from './reading';
import { added, createStore, removed, type Store } from './store';

/** Everything of one project that this window knows: the cache, the feed that keeps it true, and what a person may do. */

export interface Local {
  readonly drafts: readonly Draft[];
  readonly arrived: ReadonlySet<string>;
  readonly dismissed: ReadonlySet<string>;
  /** Optimistic: what the person asked for, until the server's row says so too. */
  readonly starred: ReadonlyMap<string, boolean>;
  readonly hidden: ReadonlySet<string>;
  readonly canceling: ReadonlySet<string>;
  readonly retrying: ReadonlySet<string>;
}

/** Progress and the moment (ms) we heard it: an ETA counts down from there. */
export interface Heard {
  readonly progress: Progress;
  readonly at: number;
}

export interface WalletAt {
  readonly wallet: Wallet;
  readonly seq: number;
}

export type News =
  | { readonly kind: 'finished'; readonly generation: Generation }
  | { readonly kind: 'failed'; readonly job: Job }
  | { readonly kind: 'refused'; readonly draft: Draft };

export interface Darkroom {
  readonly project: string;
  readonly api: Api;
  readonly local: Store<Local>;
  readonly heard: Store<ReadonlyMap<string, Heard>>;
  readonly pulse: Store<FeedSnapshot>;
  onNews(listener: (news: News) => void): () => void;
  /** Starts to follow; the returned function ends it. */
  open(): () => void;
  recover(): void;
  submit(request: JobRequest): void;
  retry(tile: Tile): Promise<void>;
  cancel(jobId: string): Promise<void>;
  dismiss(jobId: string): void;
  star(id: string, starred: boolean): Promise<void>;
  remove(id: string): Promise<void>;
  restore(id: string): Promise<void>;
  /** Reads one result anew, for addresses that are signed again. */
  renew(id: string): Promise<void>;
  loadMore(): Promise<void>;
}

const PAGE = 60;
const REREAD_MAX = 200;
/** A finished job's row comes before it in the log; later than this, we look for it. */
const OVERDUE_GRACE_MS = 4_000;
const CONFIG_EVERY_MS = 10_000;

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

export function createDarkroom(api: Api, project: string, cache: QueryClient): Darkroom {
  const base = `/v1/projects/${project}`;
  const local = createStore<Local>({
    drafts: keptDrafts(project),
    arrived: new Set(),
    dismissed: keptDismissals(project),
    starred: new Map(),
    hidden: new Set(),
    canceling: new Set(),
    retrying: new Set(),
  });
  const heard = createStore<ReadonlyMap<string, Heard>>(new Map());
  const listeners = new Set<(news: News) => void>();
  const tell = (news: News): void => {
    for (const listener of listeners) listener(news);
  };
  const change = (patch: (value: Local) => Partial<Local>): void =>
    local.set((value) => ({ ...value, ...patch(value) }));

  const jobs = (): List<Job> | undefined => cache.getQueryData(keys.jobs(project));
  const generations = (): List<Generation> | undefined => cache.getQueryData(keys.generations(project));
  const setJobs = (update: (list: List<Job>) => List<Job>): void => {
    cache.setQueryData<List<Job>>(keys.jobs(project), (list) => list && update(list));
    const known = new Set(jobs()?.rows.map((job) => job.id));
    change(({ drafts }) => {
      const rest = drafts.filter((draft) => !known.has(draft.request.id));
      return rest.length === drafts.length ? {} : { drafts: rest };
    });
    keepDrafts(project, local.get().drafts);
  };
  const setGenerations = (update: (list: List<Generation>) => List<Generation>): void => {
    cache.setQueryData<List<Generation>>(keys.generations(project), (list) => list && update(list));
  };
  const arrivedNow = (ids: string[]): void => change(({ arrived }) => ({ arrived: added(arrived, ...ids) }));

  function hear(id: string, progress: Progress | null): void {
    if (progress === null) return;
    heard.set((known) => new Map(known).set(id, { progress, at: Date.now() }));
  }

  // --- reading -------------------------------------------------------------------------------------------------

  /** Jobs first, then results: a job that ends in between still has its tile, by the row or by the job. */
  async function refetch(): Promise<number> {
    const jobList = await readJobs(api, project);
    for (const job of jobList.rows) if (isUnfinished(job)) hear(job.id, job.progress);
    const loaded = Math.min(REREAD_MAX, Math.max(PAGE, generations()?.rows.length ?? 0));
    const [results, wallet] = await Promise.all([
      api.call<Page<Generation>>('GET', `${base}/generations?limit=${loaded}`),
      api.call<Wallet>('GET', `${base}/credits`),
    ]);
    const list = listOf(results.data, results.seq ?? 0);
    arrivedNow(list.rows.map((row) => row.id));
    cache.setQueryData(keys.generations(project), list);
    cache.setQueryData(keys.jobs(project), jobList);
    setJobs((same) => same);
    cache.setQueryData<WalletAt>(keys.credits(project), { wallet: wallet.data, seq: wallet.seq ?? 0 });
    return Math.min(jobList.seq, list.seq, wallet.seq ?? 0);
  }

  function onChanges(entries: readonly Change[]): void {
    const results = entries.filter((entry) => entry.table === 'generations');
    const jobEntries = entries.filter((entry) => entry.table === 'jobs');
    if (results.length > 0) {
      setGenerations((list) => results.reduce((now, entry) => patchList(now, entry, GENERATIONS), list));
      arrivedNow(results.map((entry) => entry.id));
    }
    if (jobEntries.length > 0) {
      setJobs((list) => jobEntries.reduce((now, entry) => patchList(now, entry, JOBS), list));
    }
    for (const { row, seq } of entries.filter((entry) => entry.table === 'credits' && entry.row !== null)) {
      cache.setQueryData<WalletAt>(keys.credits(project), (known) =>
        known !== undefined && known.seq >= seq ? known : { wallet: row as Wallet, seq },
      );
    }
    for (const entry of results) {
      if (entry.op === 'insert') tell({ kind: 'finished', generation: entry.row as Generation });
    }
    for (const entry of jobEntries) {
      if (entry.op === 'delete') continue;
      const job = entry.row as Job;
      if (isUnfinished(job)) {
        hear(job.id, job.progress);
        change(({ dismissed }) => ({ dismissed: removed(dismissed, job.id) })); // tried again
      } else settle(job);
    }
  }

  function settle(job: Job): void {
    heard.set((known) => {
      if (!known.has(job.id)) return known;
      const next = new Map(known);
      next.delete(job.id);
      return next;
    });
    change(({ canceling, retrying }) => ({
      canceling: removed(canceling, job.id),
      retrying: removed(retrying, job.id),
    }));
    if (job.status === 'failed') tell({ kind: 'failed', job });
  }

  const feed: Feed = createFeed(
    api,
    project,
    {
      onChanges,
      refetch,
      onProgress: ({ job_id, ...progress }) => hear(job_id, progress),
      onState: () => pulse.set(feed.snapshot()),
      jobsActive: () => local.get().drafts.length > 0 || (jobs()?.rows.some(isUnfinished) ?? false),
    },
    {
      now: () => Date.now(),
      random: Math.random,
      setTimer: (run, ms) => window.setTimeout(run, ms),
      clearTimer: (timer) => window.clearTimeout(timer),
    },
  );
  const pulse = createStore<FeedSnapshot>(feed.snapshot());

  /** The net under the feed: a job that is done while its row never came. */
  async function findOverdue(): Promise<void> {
    const shelf = {
      rows: generations()?.rows ?? [],
      jobs: jobs()?.rows ?? [],
      drafts: [],
      arrived: local.get().arrived,
      dismissed: local.get().dismissed,
    };
    const missing = overdue(shelf, Date.now(), OVERDUE_GRACE_MS);
    if (missing.length === 0 || pulse.get().mode === 'offline') return;
    const { data, seq } = await api.call<Page<Generation>>('GET', `${base}/generations?limit=${PAGE}`);
    setGenerations((list) => data.items.reduce((now, row) => putRow(now, row, seq ?? 0, GENERATIONS), list));
    arrivedNow(missing); // there or not, we have looked: nothing waits for ever
  }

  // --- doing ---------------------------------------------------------------------------------------------------

  function send(draft: Draft): void {
    const { request } = draft;
    const known = (): Job | null => jobs()?.rows.find((job) => job.id === request.id) ?? null;
    void submitJob(api, project, request, { sleep, random: Math.random, alreadyThere: known }).then(
      (outcome) => {
        if (outcome.kind === 'accepted') {
          const { job, seq } = outcome;
          if (seq !== null) setJobs((list) => putRow(list, job, seq, JOBS));
          else feed.kick();
          return;
        }
        const refused: Draft = { ...draft, trouble: outcome.trouble };
        change(({ drafts }) => ({
          drafts: drafts.map((other) => (other.request.id === request.id ? refused : other)),
        }));
        keepDrafts(project, local.get().drafts);
        tell({ kind: 'refused', draft: refused });
      },
    );
  }

  function putDraft(draft: Draft): void {
    change(({ drafts }) => ({
      drafts: [draft, ...drafts.filter((other) => other.request.id !== draft.request.id)],
    }));
    keepDrafts(project, local.get().drafts);
    send(draft);
  }

  async function write<T>(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ data: T; seq: number | null }> {
    return api.call<T>(method, path, body === undefined ? {} : { body });
  }

  /** A write's answer is as good as the entry that is on its way. */
  function learn(row: Generation | null, seq: number | null): void {
    if (row !== null && seq !== null && typeof row === 'object' && 'id' in row) {
      setGenerations((list) => putRow(list, row, seq, GENERATIONS));
    } else feed.kick();
  }

  function dismiss(jobId: string): void {
    change(({ dismissed, drafts }) => ({
      dismissed: added(dismissed, jobId),
      drafts: drafts.filter((draft) => draft.request.id !== jobId),
    }));
    keepDrafts(project, local.get().drafts);
    keepDismissals(project, local.get().dismissed);
  }

  return {
    project,
    api,
    local,
    heard,
    pulse,
    onNews(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    open() {
      const onVisible = (): void => feed.setVisible(document.visibilityState === 'visible');
      const onOnline = (): void => feed.setOnline(navigator.onLine);
      const onFocus = (): void => feed.kick();
      const configure = (): void => {
        api.call<ClientConfig>('GET', '/v1/client-config').then(
          ({ data }) => feed.configure(data),
          () => undefined, // the feed itself finds out whether the server is there
        );
      };
      document.addEventListener('visibilitychange', onVisible);
      window.addEventListener('online', onOnline);
      window.addEventListener('offline', onOnline);
      window.addEventListener('focus', onFocus);
      const configTimer = window.setInterval(configure, CONFIG_EVERY_MS);
      const overdueTimer = window.setInterval(
        () => void findOverdue().catch(() => undefined),
        OVERDUE_GRACE_MS,
      );
      onVisible();
      onOnline();
      configure();
      feed.start();
      for (const draft of local.get().drafts) if (draft.trouble === null) send(draft);
      return () => {
        feed.stop();
        document.removeEventListener('visibilitychange', onVisible);
        window.removeEventListener('online', onOnline);
        window.removeEventListener('offline', onOnline);
        window.removeEventListener('focus', onFocus);
        window.clearInterval(configTimer);
        window.clearInterval(overdueTimer);
      };
    },
    recover: () => feed.recover(),
    submit: (request) => putDraft({ request, createdAt: new Date().toISOString(), trouble: null }),
    async retry(tile) {
      if (tile.draft !== null) {
        putDraft({ ...tile.draft, trouble: null });
        return;
      }
      if (tile.jobId === null) return;
      const id = tile.jobId;
      change(({ retrying }) => ({ retrying: added(retrying, id) }));
      try {
        const { data, seq } = await write<Job>('POST', `/v1/jobs/${id}/retry`);
        if (seq !== null) setJobs((list) => putRow(list, data, seq, JOBS));
        else feed.kick();
        if (data.id !== id) dismiss(id); // a new job took its place
      } finally {
        change(({ retrying }) => ({ retrying: removed(retrying, id) }));
      }
    },
    async cancel(jobId) {
      change(({ canceling }) => ({ canceling: added(canceling, jobId) }));
      try {
        const { data, seq } = await write<Job | null>('POST', `/v1/jobs/${jobId}/cancel`);
        if (data !== null && seq !== null) setJobs((list) => putRow(list, data, seq, JOBS));
        else feed.kick();
      } catch (error) {
        change(({ canceling }) => ({ canceling: removed(canceling, jobId) }));
        throw error;
      }
    },
    dismiss,
    async star(id, starred) {
      change((value) => ({ starred: new Map(value.starred).set(id, starred) }));
      try {
        const { data, seq } = await write<Generation>('PATCH', `/v1/generations/${id}`, { starred });
        learn(data, seq);
      } finally {
        change((value) => {
          const next = new Map(value.starred);
          next.delete(id);
          return { starred: next };
        });
      }
    },
    async remove(id) {
      change(({ hidden }) => ({ hidden: added(hidden, id) }));
      try {
        const { seq } = await write('DELETE', `/v1/generations/${id}`);
        if (seq === null) {
          feed.kick();
          return;
        }
        setGenerations((list) => removeRow(list, id, seq));
        change(({ hidden }) => ({ hidden: removed(hidden, id) }));
      } catch (error) {
        change(({ hidden }) => ({ hidden: removed(hidden, id) }));
        throw error;
      }
    },
    async restore(id) {
      const { data, seq } = await write<Generation>('POST', `/v1/generations/${id}/restore`);
      learn(data, seq);
      change(({ hidden }) => ({ hidden: removed(hidden, id) }));
    },
    async renew(id) {
      const { data, seq } = await write<Page<Generation>>('POST', `${base}/generations/by-ids`, {
        ids: [id],
      });
      const [row] = data.items;
      if (row && seq !== null) setGenerations((list) => renewRow(list, row, seq));
    },
    async loadMore() {
      const cursor = generations()?.nextCursor;
      if (!cursor) return;
      const { data, seq } = await api.call<Page<Generation>>(
        'GET',
        `${base}/generations?limit=${PAGE}&cursor=${encodeURIComponent(cursor)}`,
      );
      arrivedNow(data.items.map((row) => row.id));
      setGenerations((list) =>
        list.nextCursor === cursor ? appendPage(list, data, seq ?? 0, GENERATIONS) : list,
      );
    },
  };
}
