import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  barePage,
  type Change,
  createApi,
  createCache,
  createProject,
  type Generation,
  generationId,
  type Job,
  keys,
  LATE_MS,
  type List,
  type News,
  newJobId,
  type Project,
} from '../src';
import { timeOf } from '../src/order';
import { aChange, aGeneration, aJob } from './builders';

/** A project on a server: rows and their log behind a `fetch`. Time is vitest's. */
class Server {
  log: Change[] = [];
  jobs = new Map<string, Job>();
  results = new Map<string, Generation>();
  asked: string[] = [];
  up = true;
  /** Its clock, against the one of this machine. */
  aheadMs = 0;
  /** Runs while the answer of a list is on its way. */
  meanwhile: (() => void) | null = null;

  put(table: 'jobs' | 'generations', row: Job | Generation): number {
    const rows = (table === 'jobs' ? this.jobs : this.results) as Map<string, Job | Generation>;
    const before = rows.get(row.id);
    rows.set(row.id, row);
    const old = before
      ? { status: (before as Job).status, shots: (before as Generation).shots ?? [], deleted_at: null }
      : null;
    this.log.push(
      aChange(this.log.length + 1, row, {
        table,
        op: before ? 'update' : 'insert',
        old,
        keys: [
          ['tasks', 'p'],
          ['unified-generations', 'project', 'p'],
        ],
      }),
    );
    return this.log.length;
  }

  fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    if (!this.up) throw new TypeError('down');
    const url = new URL(String(input), 'http://x');
    const path = url.pathname.replace('/v1/projects/p', '');
    const method = init?.method ?? 'GET';
    this.asked.push(`${method} ${path}`);
    const body = init?.body ? JSON.parse(String(init.body)) : null;
    const seq = this.log.length;
    const say = (data: unknown, at = seq): Response =>
      Response.json(data, { headers: { 'safelight-seq': String(at) } });
    if (path.endsWith('/stream')) throw new TypeError('blocked');
    if (path === '/changes') {
      const after = Number(url.searchParams.get('after'));
      return say({ epoch: 'e', head: seq, changes: this.log.slice(after) });
    }
    if (path === '/jobs' && method === 'POST') {
      const job = aJob({ ...body, status: 'pending' });
      return say(job, this.put('jobs', job));
    }
    if (path === '/jobs') {
      const status = url.searchParams.get('status');
      return say({
        items: [...this.jobs.values()].filter((job) => job.status === status),
        next_cursor: null,
      });
    }
    const [, about, act] = /^\/v1\/jobs\/([^/]+)\/(cancel|retry)$/.exec(path) ?? [];
    if (about !== undefined) {
      const status = act === 'cancel' ? 'canceled' : 'pending';
      const job = { ...this.jobs.get(about), status, attempt: act === 'retry' ? 2 : 1 } as Job;
      return say(job, this.put('jobs', job));
    }
    if (path.startsWith('/v1/jobs/')) return say(this.jobs.get(path.slice(9)));
    if (path === '/v1/client-config') return say({ now: new Date(Date.now() + this.aheadMs).toISOString() });
    if (path === '/generations/batch') {
      const rows = (body.ids as string[]).map(
        (id) => ({ ...this.results.get(id), starred: body.op === 'star' }) as Generation,
      );
      for (const row of rows) this.put('generations', row);
      return say({ items: rows, missing: [] }, this.log.length);
    }
    if (path === '/generations') {
      const items = [...this.results.values()];
      this.meanwhile?.();
      return say({ items, next_cursor: null });
    }
    if (path === '/credits') return say({ balance: 9, held: 0, available: 9 });
    return say({});
  };
}

let server: Server;
let project: Project;
let close: () => void;
let news: News[];
const cache = () => held;
let held = createCache();

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
  held = createCache();
  news = [];
  const api = createApi({ instanceId: 'me', fetch: server.fetch });
  project = createProject({ api, project: 'p', cache: held, page: barePage(), realtimeUrl: null });
  project.onNews((item) => news.push(item));
});
afterEach(() => {
  close();
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const rows = (): readonly Generation[] =>
  (cache().getQueryData(keys.generations('p')) as List<Generation>).rows;
const open = async (): Promise<void> => {
  close = project.open();
  await pass(500);
};
const finish = (job: Job): void => {
  server.put('generations', aGeneration(generationId(job.id, 0), { job_id: job.id }));
  server.put('jobs', { ...job, status: 'completed', generations: [generationId(job.id, 0)] });
};
const ID = '01970000-0000-7000-8000-00000000000a';
const request = { id: ID, model: 'm', input: { prompt: 'x' }, n: 1 };

describe('a project, followed without a browser', () => {
  it('has a tile before the request leaves, and the row under the same id', async () => {
    await open();
    project.submit(request);
    expect(project.local.get().drafts.map((draft) => draft.request.id)).toEqual([ID]);
    await pass(200);
    expect(project.local.get().drafts).toEqual([]);
    finish(aJob({ id: ID }));
    await pass(10_000);
    expect(rows().map(({ id }) => id)).toEqual([generationId(ID, 0)]);
    expect(news.map(({ kind }) => kind)).toEqual(['finished', 'completed']);
  });

  it('says that a job was done only once, and only when its rows are here', async () => {
    await open();
    project.onNews((item) => {
      if (item.kind === 'completed') expect(rows()).toHaveLength(1);
    });
    project.submit(request);
    await pass(200);
    finish(aJob({ id: ID }));
    await pass(60_000);
    expect(news.filter(({ kind }) => kind === 'completed')).toHaveLength(1);
  });

  it('hears the end of a job that ended while everything was read anew', async () => {
    await open();
    project.submit(request);
    await pass(200);
    finish(aJob({ id: ID }));
    project.recover();
    await pass(2_000);
    expect(news.map(({ kind }) => kind)).toContain('completed');
  });

  it('tells after ten minutes that the job goes on, and then that it is done (F9)', async () => {
    await open();
    project.submit(request);
    await pass(LATE_MS + 1_000);
    expect(news).toEqual([{ kind: 'late', jobId: ID }]);
    finish(aJob({ id: ID }));
    await pass(10_000);
    expect(news.map(({ kind }) => kind)).toEqual(['late', 'finished', 'completed']);
  });

  it('queues what is submitted while the server is away, under the same id', async () => {
    await open();
    server.up = false;
    project.submit(request);
    await pass(3_000);
    expect(project.local.get().drafts).toHaveLength(1);
    server.up = true;
    await pass(20_000);
    expect([...server.jobs.keys()]).toEqual([ID]);
    expect(project.local.get().drafts).toEqual([]);
  });

  it('costs no list anew when a job is done', async () => {
    await open();
    project.submit(request);
    await pass(200);
    server.asked = [];
    finish(aJob({ id: ID }));
    await pass(10_000);
    expect(rows()).toHaveLength(1);
    expect(server.asked.filter((line) => /(jobs|generations|credits)$/.test(line))).toEqual([]);
  });

  it('gives a list that was read meanwhile what came while it was on its way', async () => {
    await open();
    server.meanwhile = () => {
      server.meanwhile = null;
      server.put('generations', aGeneration('late'));
    };
    const reading = project.readList<Generation>('/generations?kind=image&', 'generations', {
      belongs: () => true,
      compare: (a, b) => (a.id < b.id ? -1 : 1),
    });
    await pass(12_000);
    const list = await reading;
    cache().setQueryData(keys.narrowed('p', { kind: 'image' }), list);
    expect([...list.rows.map(({ id }) => id), ...rows().map(({ id }) => id)]).toContain('late');
  });

  it('shows the last wish while two are on their way, and keeps it', async () => {
    server.put('generations', aGeneration('g'));
    await open();
    const both = Promise.all([project.mutations.star(['g'], true), project.mutations.star(['g'], false)]);
    const shown = (): boolean[] => {
      const wishes = project.mutations.generations.get();
      return rows().map((row) => wishes.reduce((now, { patch }) => patch(now) ?? now, row).starred);
    };
    for (let i = 0; i < 20; i++) {
      expect(shown()).toEqual([false]);
      await pass(50);
    }
    await both;
    await pass(10_000);
    expect(project.mutations.generations.get()).toEqual([]);
    expect(rows()[0]?.starred).toBe(false);
  });

  it('cancels the one that was meant: the others go on, and it can be tried again', async () => {
    await open();
    const other = { ...request, id: '01970000-0000-7000-8000-00000000000b' };
    project.submit(request);
    project.submit(other);
    await pass(500);
    await project.cancel(ID);
    await pass(9_000);
    expect(server.jobs.get(ID)?.status).toBe('canceled');
    expect(server.jobs.get(other.id)?.status).toBe('pending');
    expect(project.local.get().canceling.size).toBe(0);
    await project.retry(ID);
    await pass(9_000);
    expect(server.jobs.get(ID)?.status).toBe('pending');
    finish(server.jobs.get(other.id) as Job);
    await pass(9_000);
    expect(rows().map(({ id }) => id)).toEqual([generationId(other.id, 0)]);
  });

  it('does not stumble over rows, tables and operations that it never saw', async () => {
    server.put('generations', aGeneration('known'));
    await open();
    const next = () => server.log.length + 1;
    server.log.push(aChange(next(), aGeneration('unseen', { starred: true }), { op: 'update', old: {} }));
    server.log.push(aChange(next(), null, { op: 'delete', id: 'never-there', old: { deleted_at: null } }));
    server.log.push(aChange(next(), { id: 'x' }, { table: 'things_of_a_newer_server' }));
    server.log.push(aChange(next(), aGeneration('odd'), { op: 'truncated' as 'update' }));
    await pass(35_000);
    expect(
      rows()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['known', 'odd', 'unseen']);
    expect(project.snapshot()).toMatchObject({
      cursor: { seq: 5 },
      mode: expect.not.stringMatching('offline'),
    });
  });

  it('reads everything again for a row that was too large for the log', async () => {
    await open();
    server.results.set('huge', aGeneration('huge', { prompt: 'x'.repeat(2_000_000) }));
    server.log.push(aChange(1, null, { id: 'huge' }));
    await pass(35_000);
    expect(rows().map(({ id }) => id)).toEqual(['huge']);
    expect(project.snapshot().cursor?.seq).toBe(1);
  });

  it.each([-5, 5])('asks by the time of the server, be it %s hours from ours', async (hours) => {
    server.aheadMs = hours * 3_600_000;
    await open();
    expect(Math.abs(project.serverNow() - Date.now() - server.aheadMs)).toBeLessThan(2_000);
    server.up = false;
    project.submit(request);
    const [draft] = project.local.get().drafts;
    expect(Math.abs(Date.parse(draft?.createdAt ?? '') - project.serverNow())).toBeLessThan(2_000);
    expect(Math.abs((timeOf(newJobId(project.serverNow())) ?? 0) - project.serverNow())).toBeLessThan(2_000);
    expect(project.snapshot().clockOffsetMs).toBeCloseTo(server.aheadMs, -4);
  });

  it('leaves nothing behind when it is closed', async () => {
    await open();
    project.submit(request);
    await pass(100);
    close();
    server.asked = [];
    await pass(600_000);
    expect(server.asked).toEqual([]);
    expect(project.scheduler.pending()).toEqual([]);
  });

  it('tells whoever looks how it stands (D5)', async () => {
    await open();
    await pass(5_000);
    expect(project.snapshot()).toMatchObject({
      role: 'alone',
      transport: 'poll',
      cursor: { epoch: 'e', seq: 0 },
      pending: [],
      freshness: { tasks: expect.any(Number) },
    });
  });
});
