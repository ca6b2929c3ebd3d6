import { describe, expect, it } from 'vitest';
import {
  generationId,
  generationIds,
  inOrder,
  type Job,
  layersOf,
  newJobId,
  orderKeys,
  tilesOf,
} from '../src';
import { type Draft, overdue, type Shelf } from '../src/placeholders';
import { aGeneration, aJob, JOB_ID } from './builders';

const empty: Shelf = { rows: [], jobs: [], drafts: [], arrived: new Set(), dismissed: new Set() };
const draft = (over: Partial<Draft> = {}, n = 1): Draft => ({
  request: { id: JOB_ID, model: 'local/picture', input: {}, n },
  createdAt: '2026-11-21T08:00:00Z',
  trouble: null,
  ...over,
});
const [first, second, third] = generationIds(JOB_ID, 3) as [string, string, string];
const states = (shelf: Partial<Shelf>): string[] => tilesOf({ ...empty, ...shelf }).map(({ state }) => state);

describe('the id of a result', () => {
  it('is the one the server derives: uuid5(job id, index)', () => {
    // python: uuid.uuid5(uuid.UUID("01970000-0000-7000-8000-000000000001"), "0")
    expect(generationId(JOB_ID, 0)).toBe('1371a773-cc28-540c-94fe-324f2371dd8b');
    expect(generationId(JOB_ID, 1)).toBe('f0d23b92-b294-5ab8-ae5e-bbf9b0dc7afc');
  });
});

describe('placeholders (F3)', () => {
  it('stand there from the submit on, one for each output', () => {
    const tiles = tilesOf({ ...empty, drafts: [draft({}, 3)] });
    expect(tiles.map(({ id }) => id)).toEqual([first, second, third]);
    expect(tiles.every(({ state }) => state === 'pending')).toBe(true);
  });
  it('keep their ids through the whole life of a job, never more and never fewer', () => {
    const row = (id: string, index: number) => aGeneration(id, { output_index: index });
    const job = (over: Partial<Job>): Job => aJob({ n: 3, ...over });
    const life: Partial<Shelf>[] = [
      { drafts: [draft({}, 3)] },
      { drafts: [draft({}, 3)], jobs: [job({})] },
      { jobs: [job({ status: 'processing', stage: 'running' })] },
      {
        jobs: [job({ status: 'processing', stage: 'storing' })],
        rows: [row(second, 1)],
        arrived: new Set([second]),
      },
      { jobs: [job({ status: 'completed', generations: [first, second, third] })], rows: [row(second, 1)] },
      {
        jobs: [job({ status: 'completed', generations: [first, second, third] })],
        rows: [row(first, 0), row(second, 1), row(third, 2)],
      },
    ];
    for (const shelf of life) {
      const ids = tilesOf({ ...empty, ...shelf }).map(({ id }) => id);
      expect([...ids].sort()).toEqual([first, second, third].sort());
    }
  });
  it('go on while a finished job waits for its row', () => {
    expect(states({ jobs: [aJob({ status: 'completed', generations: [first] })] })).toEqual(['processing']);
  });
  it('do not wait for outputs that a finished job did not make', () => {
    expect(states({ jobs: [aJob({ status: 'completed', n: 3, generations: [first] })] })).toHaveLength(1);
  });
  it('do not come back for a result that was deleted', () => {
    const shelf = { jobs: [aJob({ status: 'completed', generations: [first] })], arrived: new Set([first]) };
    expect(states(shelf)).toEqual([]);
  });
  it('say that it failed, until they are put away, and run again after a retry', () => {
    const failed = aJob({ status: 'failed' });
    expect(states({ jobs: [failed] })).toEqual(['failed']);
    expect(states({ jobs: [failed], dismissed: new Set([JOB_ID]) })).toEqual([]);
    expect(states({ jobs: [aJob()], dismissed: new Set([JOB_ID]) })).toEqual(['pending']);
  });
  it('say why a submit was refused', () => {
    const trouble = { code: 'insufficient_credits', message: '', required: 5, available: 1 };
    expect(states({ drafts: [draft({ trouble })] })).toEqual(['failed']);
  });
  it('draw at least one layer at every moment, and in the end only the picture', () => {
    for (const hasRow of [false, true])
      for (const decoded of [false, true])
        for (const painted of [false, true]) {
          const layers = layersOf(hasRow, decoded, painted);
          expect(layers.placeholder || layers.mediaVisible).toBe(true);
          if (!painted) expect(layers.placeholder).toBe(true);
        }
    expect(layersOf(true, true, true)).toEqual({ placeholder: false, media: true, mediaVisible: true });
  });
  it('are looked for when a finished job keeps its row back', () => {
    const job = aJob({ status: 'completed', generations: [first], completed_at: '2026-11-21T08:00:10Z' });
    const shelf = { ...empty, jobs: [job] };
    const done = Date.parse('2026-11-21T08:00:10Z');
    expect(overdue(shelf, done + 1_000, 4_000)).toEqual([]);
    expect(overdue(shelf, done + 5_000, 4_000)).toEqual([first]);
    expect(overdue({ ...shelf, rows: [aGeneration(first)] }, done + 5_000, 4_000)).toEqual([]);
  });
});

describe('the order of tiles', () => {
  const settle = (shelf: Partial<Shelf>, keys: Map<string, number> = new Map()) => {
    const tiles = tilesOf({ ...empty, ...shelf });
    const next = orderKeys(keys, tiles);
    return { ids: inOrder(tiles, next).map(({ id }) => id), keys: next };
  };

  it('does not change when results land in another order than they were asked for', () => {
    const [a, b] = [newJobId(), newJobId()];
    const [ga, gb] = [generationId(a, 0), generationId(b, 0)];
    const created_at = new Date().toISOString();
    const before = settle({ jobs: [aJob({ id: a, created_at }), aJob({ id: b, created_at })] });
    const rows = [aGeneration(ga, { job_id: a, created_at: new Date(Date.now() + 9_000).toISOString() })];
    const after = settle({ jobs: [aJob({ id: b, created_at })], rows }, before.keys);
    expect(after.ids).toEqual(before.ids);
    const otherWindow = settle({ jobs: [aJob({ id: b, created_at })], rows });
    expect(otherWindow.ids).toEqual(before.ids);
    expect(before.ids).toContain(gb);
  });
  it('keeps the outputs of one job side by side', () => {
    expect(settle({ drafts: [draft({}, 3)] }).ids).toEqual([first, second, third]);
  });
  it('does not believe an id from a clock that is wrong', () => {
    const future = `ffffffff-ffff-7000-8000-${'0'.repeat(12)}`;
    const { keys } = settle({ jobs: [aJob({ id: future, created_at: '2026-11-21T08:00:00Z' })] });
    expect([...keys.values()]).toEqual([Date.parse('2026-11-21T08:00:00Z')]);
  });
});
