import { describe, expect, it } from 'vitest';
import {
  type CanvasEdge,
  type CanvasNode,
  createApi,
  type Generation,
  generationId,
  type Job,
  type List,
} from '../src';
import { createCache } from '../src/cache';
import { tileOfNode } from '../src/canvas';
import { createCanvasMutations } from '../src/canvasMutations';
import { keys } from '../src/keys';
import { listOf } from '../src/patch';
import { patched } from '../src/patcher';
import { aChange, aGeneration, aJob, JOB_ID } from './builders';

const aNode = (over: Partial<CanvasNode> = {}): CanvasNode => ({
  id: 'n',
  project_id: 'p',
  type: 'picture',
  x: 0,
  y: 0,
  width: null,
  height: null,
  data: {},
  created_at: '2026-11-21T08:00:00Z',
  updated_at: '2026-11-21T08:00:00Z',
  ...over,
});
const OTHER = '01970000-0000-7000-8000-000000000002';
const job = (over: Partial<Job> = {}): Job => aJob({ target: { node_id: 'n' }, ...over });
const jobsAt = (seq: number, ...rows: Job[]): List<Job> => listOf({ items: rows, next_cursor: null }, seq);
const resultOf = (id: string): Generation => aGeneration(generationId(id, 0), { job_id: id });

describe('the tile of a canvas node', () => {
  const shelf = {
    node: aNode(),
    nodeSeq: 5,
    named: null,
    rows: new Map<string, Generation>(),
    jobs: jobsAt(4),
    drafts: [],
    arrived: new Set<string>(),
    dismissed: new Set<string>(),
  };
  const landed = resultOf(JOB_ID);
  const shows = aNode({ data: { generation_id: landed.id } });
  const rows = new Map([[landed.id, landed]]);

  it('is nothing while nothing was made on it, and nobody else’s job', () => {
    expect(tileOfNode(shelf)).toBeNull();
    expect(tileOfNode({ ...shelf, jobs: jobsAt(4, aJob({ target: { node_id: 'm' } })) })).toBeNull();
  });

  it('is the same tile from the asking to the result, entry by entry', () => {
    const request = { id: JOB_ID, model: 'm', input: {}, n: 1, target: { node_id: 'n' } };
    const draft = { request, createdAt: '2026-11-21T08:00:00Z', trouble: null };
    const done = job({ status: 'completed', generations: [landed.id] });
    const arrived = new Set([landed.id]);
    const steps = [
      { ...shelf, drafts: [draft] },
      { ...shelf, jobs: jobsAt(6, job()) },
      // The result before the job's end, the job's end before the node: one transaction, one entry after the other.
      { ...shelf, jobs: jobsAt(6, job()), rows, arrived },
      { ...shelf, jobs: jobsAt(8, done), rows, arrived },
      { ...shelf, jobs: jobsAt(8, done), rows, arrived, node: shows, nodeSeq: 9 },
      { ...shelf, rows, arrived, node: shows, nodeSeq: 9 },
    ];
    expect(steps.map((step) => tileOfNode(step)?.id)).toEqual(steps.map(() => landed.id));
    expect(steps.map((step) => tileOfNode(step)?.state)).toEqual([
      'pending',
      'pending',
      'ready',
      'ready',
      'ready',
      'ready',
    ]);
  });

  it('shows what is on its way instead of what was there', () => {
    const again = job({ id: OTHER, status: 'processing' });
    expect(tileOfNode({ ...shelf, node: shows, rows, jobs: jobsAt(6, again) })).toMatchObject({
      id: generationId(OTHER, 0),
      state: 'processing',
    });
  });

  it('shows a failure until it is put away, or until something newer landed', () => {
    const late = job({ id: OTHER, status: 'failed', created_at: '2026-11-21T09:00:00Z' });
    const failing = { ...shelf, node: shows, rows, jobs: jobsAt(6, late) };
    expect(tileOfNode(failing)?.state).toBe('failed');
    expect(tileOfNode({ ...failing, dismissed: new Set([OTHER]) })?.id).toBe(landed.id);
    const early = { ...late, created_at: '2026-11-21T07:00:00Z' };
    expect(tileOfNode({ ...failing, jobs: jobsAt(6, early) })?.id).toBe(landed.id);
  });

  it('is the result that the row names, though the node as drawn is of a moment before', () => {
    const done = job({ status: 'completed', generations: [landed.id] });
    const behind = { ...shelf, nodeSeq: 9, named: landed.id, rows, jobs: jobsAt(8, done) };
    expect(tileOfNode({ ...behind, arrived: new Set([landed.id]) })?.state).toBe('ready');
  });

  it('shows what the node names, though another job of it ended before', () => {
    const second = resultOf(OTHER);
    const both = new Map([...rows, [second.id, second]]);
    const ended = job({ id: OTHER, status: 'completed', generations: [second.id] });
    const all = { ...shelf, node: shows, nodeSeq: 9, rows: both, jobs: jobsAt(8, ended) };
    expect(tileOfNode({ ...all, arrived: new Set(both.keys()) })?.id).toBe(landed.id);
  });
});

describe('the canvas in the cache', () => {
  const nodes = listOf({ items: [aNode()], next_cursor: null }, 3);

  it('follows the log: nodes and edges each in their own list', () => {
    const edge = { id: 'e', source: 'n', target: 'm' };
    const made = aChange(4, edge, { table: 'edges' });
    expect(patched(keys.nodes('p'), nodes, made)).toBe(nodes);
    const edges = listOf<CanvasEdge>({ items: [], next_cursor: null }, 3);
    expect(patched(keys.edges('p'), edges, made)).toMatchObject({ rows: [edge] });
    const moved = aChange(5, aNode({ x: 7 }), { table: 'nodes', op: 'update' });
    expect(patched(keys.nodes('p'), nodes, moved)).toMatchObject({ rows: [{ id: 'n', x: 7 }] });
    const gone = aChange(6, null, { table: 'nodes', op: 'delete', id: 'n' });
    expect(patched(keys.nodes('p'), nodes, gone)).toMatchObject({ rows: [] });
  });

  /** A server that answers when it is told to, and a log that has come as far as it is told. */
  function aCanvas() {
    const cache = createCache();
    cache.setQueryData(keys.nodes('p'), nodes);
    const asked: { what: string; answer: (row: object | null, seq: number, status?: number) => void }[] = [];
    const fetch = (input: string | URL | Request, init?: RequestInit): Promise<Response> =>
      new Promise((resolve) => {
        const what = `${init?.method} ${new URL(String(input), 'http://x').pathname}`;
        asked.push({
          what,
          answer: (row, seq, status = 200) =>
            resolve(
              new Response(row === null ? null : JSON.stringify(row), {
                status: row === null && status === 200 ? 204 : status,
                headers: { 'safelight-seq': String(seq) },
              }),
            ),
        });
      });
    const feed = { at: 3 };
    const acts = createCanvasMutations(
      createApi({ instanceId: 'i', fetch: fetch as typeof globalThis.fetch }),
      'p',
      cache,
      {
        learn: (table, row, seq) => {
          const key = table === 'nodes' ? keys.nodes('p') : keys.edges('p');
          const list = cache.getQueryData(key);
          cache.setQueryData(key, patched(key, list, aChange(seq, row, { table, op: 'update' })));
        },
        kick: () => undefined,
        at: () => feed.at,
      },
    );
    const settled = async (): Promise<void> => {
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    };
    const places = () =>
      (cache.getQueryData(keys.nodes('p')) as List<CanvasNode>).rows.map(({ id, x }) => [id, x]);
    return { acts, asked, feed, settled, places };
  }

  it('moves at once, in the order of the asking, and lets go when the answer or the log shows it', async () => {
    const { acts, asked, settled, places } = aCanvas();
    const first = acts.move('n', 10, 0);
    const second = acts.move('n', 20, 0);
    expect(acts.nodes.get()).toHaveLength(2);
    await settled();
    expect(asked.map(({ what }) => what)).toEqual(['PATCH /v1/nodes/n']);
    asked[0]?.answer(aNode({ x: 10 }), 4);
    await first;
    expect(acts.nodes.get()).toHaveLength(1);
    await settled();
    asked[1]?.answer(aNode({ x: 20 }), 5);
    await second;
    expect(acts.nodes.get()).toEqual([]);
    expect(places()).toEqual([['n', 20]]);
  });

  it('takes back what was refused, and nothing else', async () => {
    const { acts, asked, settled, places } = aCanvas();
    const moved = acts.move('n', 10, 0);
    const written = acts.write('n', { text: 'a' });
    await settled();
    asked[0]?.answer({ code: 'forbidden', title: 'No' }, 3, 403);
    await expect(moved).rejects.toMatchObject({ code: 'forbidden' });
    expect(acts.nodes.get()).toHaveLength(1);
    await settled();
    asked[1]?.answer(aNode({ data: { text: 'a' } }), 4);
    await written;
    expect(places()).toEqual([['n', 0]]);
  });

  it('brings a deleted node back under its own id, after the delete', async () => {
    const { acts, asked, feed, settled, places } = aCanvas();
    const removed = acts.removeNode('n');
    expect(acts.nodes.get()).toHaveLength(1);
    const back = acts.create(aNode());
    expect(acts.nodes.get()).toEqual([]);
    expect(acts.newNodes.get()).toHaveLength(1);
    await settled();
    expect(asked.map(({ what }) => what)).toEqual(['DELETE /v1/nodes/n']);
    asked[0]?.answer(null, 4);
    await removed;
    await settled();
    asked[1]?.answer(aNode({ x: 1 }), 5);
    await back;
    feed.at = 4;
    acts.passed();
    expect(acts.newNodes.get()).toEqual([]);
    expect(places()).toEqual([['n', 1]]);
    // The delete's own entry comes late, and is history by now.
    expect(
      patched(
        keys.nodes('p'),
        listOf({ items: [aNode()], next_cursor: null }, 5),
        aChange(4, null, { table: 'nodes', op: 'delete', id: 'n' }),
      ),
    ).toMatchObject({ rows: [{ id: 'n' }] });
  });
});
