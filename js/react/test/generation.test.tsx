// @vitest-environment happy-dom
import { QueryClient, QueryClientProvider, useQuery } from '@tanstack/react-query';
import { act, StrictMode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { aChange, aGeneration, aJob } from '../../client/test/builders';
import {
  type Change,
  type Generating,
  generationId,
  type Job,
  SafelightProvider,
  useGallery,
  useGeneration,
  useRealtime,
} from '../src';

/** A server that takes jobs, and tells of them by polling. */
class Server {
  log: Change[] = [];
  jobs = new Map<string, Job>();
  refuse: object | null = null;
  mine = 0;

  put(table: string, row: { id: string }, op: 'insert' | 'update' = 'insert'): void {
    const keys = [
      [table === 'jobs' ? 'tasks' : 'unified-generations', ...(table === 'jobs' ? ['p'] : ['project', 'p'])],
    ];
    this.log.push(aChange(this.log.length + 1, row, { table, op, old: {}, keys }));
  }

  fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = new URL(String(input), 'http://x');
    const path = url.pathname.replace('/v1/projects/p', '');
    const seq = this.log.length;
    const say = (data: unknown, at = seq): Response =>
      Response.json(data, { headers: { 'safelight-seq': String(at) } });
    if (path.endsWith('/stream')) throw new TypeError('blocked');
    if (path === '/changes') {
      return say({ epoch: 'e', head: seq, changes: this.log.slice(Number(url.searchParams.get('after'))) });
    }
    if (path === '/jobs' && init?.method === 'POST') {
      if (this.refuse) return Response.json(this.refuse, { status: 402 });
      const job = aJob({ ...JSON.parse(String(init.body)) });
      this.jobs.set(job.id, job);
      this.put('jobs', job);
      return say(job, this.log.length);
    }
    if (path === '/credits') return say({ balance: 1, held: 0, available: 1 });
    return say({ items: [], next_cursor: null });
  };

  finish(id: string): void {
    const job = this.jobs.get(id);
    if (!job) throw new Error('no such job');
    this.put('generations', aGeneration(generationId(id, 0), { job_id: id }));
    this.put('jobs', { ...job, status: 'completed', generations: [generationId(id, 0)] } as Job, 'update');
  }

  fail(id: string): void {
    const error = { code: 'content_policy', message: 'Not that.', retryable: false };
    this.put('jobs', { ...this.jobs.get(id), id, status: 'failed', error } as Job, 'update');
  }
}

let server: Server;
let root: Root;
let queries: QueryClient;
let using: Generating;
let tiles: readonly string[];
let status: string;
const toasts = { running: vi.fn(), done: vi.fn(), failed: vi.fn() };

function Inside() {
  using = useGeneration();
  tiles = useGallery().tiles.map((tile) => `${tile.id} ${tile.state}`);
  status = useRealtime().status;
  useQuery({
    queryKey: ['unified-generations', 'project', 'p', 'mine'],
    queryFn: async () => {
      server.mine += 1;
      return { own: 'shape' };
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
  return null;
}

const pass = (ms: number): Promise<void> => act(async () => void (await vi.advanceTimersByTimeAsync(ms)));

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  server = new Server();
  vi.stubGlobal('fetch', server.fetch);
  queries = new QueryClient();
  root = createRoot(document.createElement('div'));
  await act(async () =>
    root.render(
      <StrictMode>
        <QueryClientProvider client={queries}>
          <SafelightProvider project="p" realtimeUrl={null} toasts={toasts}>
            <Inside />
          </SafelightProvider>
        </QueryClientProvider>
      </StrictMode>,
    ),
  );
  await pass(1_000);
});
afterEach(async () => {
  await act(async () => root.unmount());
  vi.unstubAllGlobals();
  vi.useRealTimers();
  vi.clearAllMocks();
});

describe('useGeneration (U1)', () => {
  it('has its tile at once, and calls back once the row is here', async () => {
    const onComplete = vi.fn();
    let id = '';
    await act(async () => {
      id = using.generate({ model: 'm', prompt: 'a fox' }, { onComplete });
    });
    expect(tiles).toEqual([`${generationId(id, 0)} pending`]);
    expect(using.isGenerating).toBe(true);
    expect(toasts.running).toHaveBeenCalledWith(id, expect.any(String));
    await pass(500);
    server.finish(id);
    await pass(10_000);
    expect(onComplete).toHaveBeenCalledTimes(1);
    expect(onComplete.mock.calls[0]?.[0]).toMatchObject([{ id: generationId(id, 0) }]);
    expect(tiles).toEqual([`${generationId(id, 0)} ready`]);
    expect(using.isGenerating).toBe(false);
    expect(toasts.done).toHaveBeenCalledTimes(1);
  });

  it('says why a job failed', async () => {
    const onError = vi.fn();
    let id = '';
    await act(async () => {
      id = using.generate({ model: 'm' }, { onError });
    });
    await pass(500);
    server.fail(id);
    await pass(10_000);
    expect(onError).toHaveBeenCalledWith(expect.objectContaining({ code: 'content_policy' }), id);
    expect(using.isGenerating).toBe(false);
  });

  it('says how many credits are missing, and keeps the tile', async () => {
    server.refuse = { code: 'insufficient_credits', detail: 'Too few.', required: 9, available: 1 };
    const onInsufficientCredits = vi.fn();
    const onError = vi.fn();
    await act(async () => {
      using.generate({ model: 'm' }, { onInsufficientCredits, onError });
    });
    await pass(500);
    expect(onInsufficientCredits).toHaveBeenCalledWith(
      expect.objectContaining({ required: 9, available: 1 }),
      expect.any(String),
    );
    expect(onError).not.toHaveBeenCalled();
    expect(tiles[0]).toMatch(/failed$/);
  });

  it('tells after ten minutes that it goes on', async () => {
    const onTimeout = vi.fn();
    await act(async () => {
      using.generate({ model: 'm' }, { onTimeout });
    });
    await pass(601_000);
    expect(onTimeout).toHaveBeenCalledTimes(1);
    expect(using.isGenerating).toBe(true);
  });
});

describe('one provider in an app that has its own queries', () => {
  it('reads what the app cached under the canonical keys again when it changed, and only then', async () => {
    await pass(20_000);
    const before = server.mine;
    await pass(60_000);
    expect(server.mine).toBe(before);
    await act(async () => {
      using.generate({ model: 'm', id: '01970000-0000-7000-8000-00000000000b' });
    });
    await pass(500);
    server.finish('01970000-0000-7000-8000-00000000000b');
    await pass(10_000);
    expect(server.mine).toBe(before + 1);
    expect(['polling', 'catching-up']).toContain(status);
  });
});
