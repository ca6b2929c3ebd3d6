import { createAwaiting } from './awaiting';
import { createCanvasMutations } from './canvasMutations';
import { askToHeal, onHeal, tellPage } from './domEvents';
import { createFeed } from './feed';
import type { Feed, FeedSnapshot, Mode } from './feedShape';
import { ages, proven } from './freshness';
import { newJobId } from './generationId';
import { createHoldings } from './holdings';
import { createJobMutations } from './jobMutations';
import { keys } from './keys';
import type { OpenLine } from './line';
import { createLocalNotes } from './localNotes';
import { createMutations } from './mutations';
import { GENERATIONS, JOBS, type List, type Page, putRow } from './patch';
import { overdue } from './placeholders';
import type { Heard, News, Project, ProjectOptions } from './projectShape';
import { readJobs, readRest } from './reading';
import {
  type Change,
  type ClientConfig,
  type Generation,
  isUnfinished,
  type Job,
  type Progress,
} from './resources';
import { createScheduler } from './scheduler';
import { seqOf } from './seqs';
import { answered, anyTime, offset, reached, type ServerClock, stamped } from './serverClock';
import { realtimeUrlOf, socketLine } from './socketLine';
import { createStore } from './store';
import { streamLine } from './streamLine';
import { createTabs, type Tabs } from './tabs';
import { createTelemetry } from './telemetry';

const PAGE = 60;
const REREAD_MAX = 200;
/** A finished job's row comes before it in the log; later than this, we look for it. */
const OVERDUE_GRACE_MS = 4_000;
/** S8: a switch is obeyed within 10 s, also where no socket tells of it. */
const CONFIG_EVERY_MS = 9_000;

export function createProject(options: ProjectOptions): Project {
  const { api, project, cache, page } = options;
  const base = `/v1/projects/${project}`;
  const scheduler = createScheduler(page.clockwork);
  const { now } = scheduler;
  const local = createLocalNotes(project, page);
  const heard = createStore<ReadonlyMap<string, Heard>>(new Map());
  const listeners = new Set<(news: News) => void>();
  let config: ClientConfig = {};
  let clock: ServerClock = anyTime;
  const serverNow = (): number => now() + offset(clock);
  const telemetry = createTelemetry(api, scheduler);
  const holdings = createHoldings(api, project, cache, scheduler, () => feed.snapshot().cursor?.seq ?? 0);
  const { freshness } = holdings;

  const tell = (news: News): void => {
    for (const listener of [...listeners]) listener(news);
  };
  const awaiting = createAwaiting(scheduler, (jobId) => tell({ kind: 'late', jobId }));
  const jobs = (): List<Job> | undefined => cache.getQueryData(keys.jobs(project)) as List<Job> | undefined;
  const generations = (): List<Generation> | undefined =>
    cache.getQueryData(keys.generations(project)) as List<Generation> | undefined;
  const shedDrafts = (): void => local.shedDrafts(() => new Set(jobs()?.rows.map((job) => job.id)));

  function learn(table: string, row: { readonly id: string }, seq: number): void {
    holdings.learn(table, row, seq);
    if (table === 'jobs') shedDrafts();
  }

  function hear(id: string, progress: Progress | null): void {
    if (progress === null) return;
    heard.set((known) => new Map(known).set(id, { progress, at: now() }));
  }

  // --- reading -------------------------------------------------------------------------------------------------

  /** Jobs first, then results: a job that ends in between still has its tile, by the row or by the job. */
  async function refetch(): Promise<number> {
    const jobList = await readJobs(api, project, now());
    const loaded = Math.min(REREAD_MAX, Math.max(PAGE, generations()?.rows.length ?? 0));
    const { list, wallet, missing } = await readRest(api, project, loaded, missingOf(jobList));
    for (const job of jobList.rows) if (isUnfinished(job)) hear(job.id, job.progress);
    local.arrived(list.rows.map((row) => row.id));
    const again = generations() !== undefined;
    cache.setQueryData(keys.generations(project), list);
    cache.setQueryData(
      keys.jobs(project),
      missing.reduce((all, { data, seq }) => putRow(all, data, seq ?? 0, JOBS), jobList),
    );
    shedDrafts();
    cache.setQueryData(keys.credits(project), wallet);
    for (const { data } of missing) if (!isUnfinished(data)) settle(data);
    const seq = Math.min(jobList.seq, list.seq, wallet.seq);
    holdings.begin(again); // other lists were read before: whoever shows one reads it again
    return seq;
  }

  /** Jobs that somebody waits for, or that have a tile, and that a fresh list does not name: they ended unseen. */
  function missingOf(fresh: List<Job>): string[] {
    const named = new Set(fresh.rows.map((job) => job.id));
    const unfinished = (jobs()?.rows ?? []).filter(isUnfinished).map((job) => job.id);
    return [...new Set([...awaiting.ids(), ...unfinished])].filter((id) => !named.has(id)).slice(0, 20);
  }

  // --- hearing -------------------------------------------------------------------------------------------------

  function onChanges(entries: readonly Change[], epoch: string): void {
    const at = now();
    tabs.say({ t: 'changes', epoch, entries });
    for (const entry of entries) clock = reached(clock, Date.parse(entry.at), at);
    holdings.take(entries);
    const results = entries.filter((entry) => entry.table === 'generations');
    if (results.length > 0) local.arrived(results.map((entry) => entry.id));
    const jobEntries = entries.filter((entry) => entry.table === 'jobs' && entry.row !== null);
    if (jobEntries.length > 0) shedDrafts();
    mutations.passed();
    canvas.passed();
    if (page.events !== null) tellPage(page.events, entries);
    for (const { op, row, at: committedAt } of results) {
      if (op !== 'insert' || row === null) continue;
      const generation = row as Generation;
      telemetry.committed(generation.id, Date.parse(committedAt));
      tell({ kind: 'finished', generation });
    }
    for (const { op, row } of jobEntries) {
      if (op === 'delete') continue;
      const job = row as Job;
      if (isUnfinished(job)) {
        hear(job.id, job.progress);
        local.undismiss(job.id);
      } else settle(job);
    }
    // A row that the server could not show: only reading everything tells.
    if (entries.some((entry) => entry.row === null && entry.op !== 'delete')) feed.recover();
  }

  function settle(job: Job): void {
    heard.set((known) => {
      if (!known.has(job.id)) return known;
      const next = new Map(known);
      next.delete(job.id);
      return next;
    });
    local.unmark('canceling', job.id);
    local.unmark('retrying', job.id);
    awaiting.end(job.id);
    if (!isUnfinished(job)) tell({ kind: job.status, job } as News);
  }

  // --- the ways to hear, and who leads ---------------------------------------------------------------------------

  const url = options.realtimeUrl === undefined ? realtimeUrlOf(api.base) : options.realtimeUrl;
  const socket: OpenLine[] =
    url === null || typeof WebSocket === 'undefined'
      ? []
      : [socketLine(project, { url, apikey: options.apikey, getToken: api.getToken })];
  const ownLines: readonly OpenLine[] = [...socket, streamLine(api, project)];

  const tabs: Tabs = createTabs(
    `safelight:${api.base}:${project}:${options.who ?? ''}`,
    newJobId(),
    page.tabs,
    scheduler,
    {
      onRole: (role) => {
        feed.use(role === 'follower' ? ledLines : ownLines, role === 'follower');
        if (role !== 'follower') configure();
      },
      pulse: () => {
        const { mode, cursor, head, lastProofAt } = feed.snapshot();
        return {
          mode,
          epoch: cursor?.epoch ?? null,
          head,
          proofAgeMs: lastProofAt === null ? null : now() - lastProofAt,
          visible: page.visible(),
        };
      },
      onKick: () => feed.kick(),
      onRecover: () => feed.recover(),
    },
  );
  const ledLines: readonly OpenLine[] = [tabs.line];

  const feed: Feed = createFeed(
    api,
    project,
    {
      onChanges,
      refetch,
      onProof: (epoch, head) => {
        const { cursor } = feed.snapshot();
        if (cursor !== null && head <= cursor.seq) freshness.set((state) => proven(state, now()));
        tabs.say({ t: 'head', epoch, head });
      },
      onProgress: (note) => {
        const { job_id, ...progress } = note;
        hear(job_id, progress);
        tabs.say({ t: 'progress', note });
      },
      onConfig: (next) => configured(next),
      onSignedOut: ({ message }) => page.events !== null && askToHeal(page.events, message),
      onState: () => {
        const before = pulse.get();
        const next = { ...feed.snapshot(), mode: modeOf(feed.snapshot().mode) };
        pulse.set(next);
        if (before.mode !== next.mode || before.transport !== next.transport) tabs.beat();
      },
      jobsActive: () => local.store.get().drafts.length > 0 || (jobs()?.rows.some(isUnfinished) ?? false),
    },
    scheduler,
    ownLines,
  );

  /** A follower that hears its leader stands as its leader stands. */
  const modeOf = (own: Mode): Mode => (own === 'live' ? (tabs.leader()?.mode ?? own) : own);

  const pulse = createStore<FeedSnapshot>(feed.snapshot());

  function configured(next: ClientConfig, askedAt?: number): void {
    if (askedAt !== undefined) clock = stamped(clock, next.now, askedAt, now());
    config = { ...config, ...next };
    feed.configure(config);
    holdings.configure(config);
    tabs.say({ t: 'config', config });
  }

  function configure(): void {
    const askedAt = now();
    api.call<ClientConfig>('GET', '/v1/client-config').then(
      ({ data }) => configured(data, askedAt),
      () => undefined, // the feed itself finds out whether the server is there
    );
  }

  /** The net under the feed: a job that is done while its row never came. */
  async function findOverdue(): Promise<void> {
    const shelf = {
      rows: generations()?.rows ?? [],
      jobs: jobs()?.rows ?? [],
      drafts: [],
      arrived: local.store.get().arrived,
      dismissed: local.store.get().dismissed,
    };
    const missing = overdue(shelf, serverNow(), OVERDUE_GRACE_MS);
    if (missing.length === 0 || pulse.get().mode === 'offline') return;
    const ids = missing.slice(0, REREAD_MAX);
    const { data, seq } = await api.call<Page<Generation>>('POST', `${base}/generations/by-ids`, {
      body: { ids },
    });
    for (const row of data.items) learn('generations', row, seq ?? 0);
    local.arrived(missing); // there or not, we have looked: nothing waits for ever
  }

  // --- doing ---------------------------------------------------------------------------------------------------

  const writes = { learn, kick: () => feed.kick(), at: () => feed.snapshot().cursor?.seq ?? 0 };
  const mutations = createMutations(api, project, {
    ...writes,
    knownAt: (id) => seqOf(generations()?.seqs, id),
  });
  const canvas = createCanvasMutations(api, project, cache, writes);
  const { resume, ...jobMutations } = createJobMutations(api, project, local, awaiting, scheduler, {
    ...writes,
    serverNow,
    isOnline: page.online,
    known: (id) => jobs()?.rows.find((job) => job.id === id) ?? null,
    stamped: (createdAt, askedAt) => {
      clock = answered(clock, createdAt, askedAt);
    },
    refused: (draft) => tell({ kind: 'refused', draft }),
  });

  function recover(): void {
    if (tabs.role() === 'follower') tabs.say({ t: 'recover', from: tabs.id });
    feed.recover();
  }

  /** A reason to look now; one tab looks for all. */
  function kick(): void {
    if (tabs.leader() !== null && feed.snapshot().transport === 'tab') tabs.say({ t: 'kick', from: tabs.id });
    else feed.kick();
  }

  return {
    project,
    api,
    local: local.store,
    heard,
    pulse,
    freshness,
    telemetry,
    mutations,
    canvas,
    scheduler,
    onNews(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    open() {
      const onShown = (): void => {
        tabs.setVisible(page.visible());
        feed.setVisible(page.visible());
      };
      const offs = [
        page.on('shown', onShown),
        page.on('online', () => feed.setOnline(page.online())),
        page.on('focus', kick),
        page.on('leaving', telemetry.flush),
        page.events === null ? () => undefined : onHeal(page.events, recover),
        scheduler.every('config', CONFIG_EVERY_MS, () => {
          // The socket tells of it by itself, and the leader passes it on.
          if (tabs.role() !== 'follower' && feed.snapshot().transport !== 'socket') configure();
        }),
        scheduler.every('overdue', OVERDUE_GRACE_MS, () => void findOverdue().catch(() => undefined)),
      ];
      tabs.start();
      if (tabs.role() === 'follower') feed.use(ledLines, true);
      onShown();
      feed.setOnline(page.online());
      configure();
      feed.start();
      resume();
      return () => {
        for (const off of offs) off();
        tabs.stop();
        feed.stop();
        telemetry.flush();
        scheduler.stop();
      };
    },
    recover,
    ...jobMutations,
    dismiss: local.dismiss,
    async renew(id) {
      const { data, seq } = await api.call<Page<Generation>>('POST', `${base}/generations/by-ids`, {
        body: { ids: [id] },
      });
      const [row] = data.items;
      if (row && seq !== null) holdings.renew(row, seq);
    },
    readList: holdings.readList,
    async loadMore(key = keys.generations(project), path = '/generations?', rule = GENERATIONS) {
      const rows = await holdings.append(key, path, rule);
      local.arrived(rows.map((row) => row.id));
    },
    painted: (row) => telemetry.painted(row.id, feed.snapshot().transport, now() + offset(clock)),
    serverNow,
    role: tabs.role,
    snapshot: () => ({
      ...feed.snapshot(),
      mode: modeOf(feed.snapshot().mode),
      role: tabs.role(),
      tab: tabs.id,
      freshness: ages(freshness.get(), now()),
      pending: local.store.get().drafts.map((draft) => draft.request.id),
      timers: scheduler.pending(),
      config,
      clockOffsetMs: offset(clock),
    }),
  };
}
