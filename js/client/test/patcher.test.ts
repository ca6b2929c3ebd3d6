import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inShot, listOf, narrowedTo } from '../src/patch';
import { isOurs, patched } from '../src/patcher';
import type { Change, Generation, Job, Shot } from '../src/resources';
import { aChange, aGeneration, aJob } from './builders';

const P = 'p';
const aShot = (id: string, over: Partial<Shot> = {}): Shot => ({
  id,
  project_id: P,
  name: id,
  position: 'a0',
  created_at: '2026-11-21T08:00:00Z',
  counts: { total: 0, unpositioned: 0, videos: 0 },
  ...over,
});
const counts = { pending: 1, processing: 2, completed: 3, failed: 0, canceled: 0 };

const WHOLE = { prompt: 'a red fox', image: 'data:image/png;base64,AAAA and all the rest' };
const CUT = { prompt: 'a red fox', image: 'data:image/png;base64,AAAA… (2,000,000 characters)' };

describe('a job whose large input the log cuts', () => {
  const told = aChange(5, aJob({ status: 'processing', input: CUT, left_out: ['input'] }), {
    table: 'jobs',
    op: 'update',
  });
  const whole = aJob({ input: WHOLE });

  it('keeps what somebody has read of it, in our lists and in an app’s own', () => {
    const kept = { status: 'processing', input: WHOLE, left_out: [] };
    const list = listOf({ items: [whole], next_cursor: null }, 3);
    expect(patched(['tasks', P], list, told)).toMatchObject({ rows: [kept] });
    expect(patched(['tasks', P, { status: 'processing' }], list, told)).toMatchObject({ rows: [kept] });
    for (const data of [[whole], { items: [whole] }, { pages: [{ items: [whole] }] }, whole]) {
      const next = JSON.stringify(patched(['tasks', P, 'mine'], data, told));
      expect(next).toContain('and all the rest');
      expect(next).toContain('"processing"');
      expect(next).not.toContain('characters');
    }
  });

  it('is shown as it came where nobody has read it, and gives an app no input that it did not keep', () => {
    const cut = { input: CUT, left_out: ['input'] };
    const list = listOf({ items: [aJob(cut as Partial<Job>)], next_cursor: null }, 3);
    expect(patched(['tasks', P], list, told)).toMatchObject({ rows: [{ ...cut, status: 'processing' }] });
    expect(patched(['tasks', P, 'mine'], [{ id: whole.id }], told)).toMatchObject([cut]);
  });
});

describe('the patcher', () => {
  it("counts a job's step from one status to the next, once", () => {
    const key = ['task-status-counts', P];
    const step = aChange(5, aJob({ status: 'completed' }), {
      table: 'jobs',
      op: 'update',
      old: { status: 'processing' },
    });
    const once = patched(key, { counts, seq: 4 }, step);
    expect(once).toMatchObject({ counts: { ...counts, processing: 1, completed: 4 }, seq: 5 });
    // Another entry of the same transaction shows the same row.
    const again = { ...step, seq: 6 };
    expect(patched(key, once, again)).toMatchObject({ counts: { processing: 1, completed: 4 }, seq: 6 });
    expect(patched(key, once, step)).toBe(once);
  });

  it('moves a result between shots, in lists and in counts', () => {
    const before = aGeneration('g', { kind: 'video', shots: [{ shot_id: 's1', position: 'a0' }] });
    const after = { ...before, shots: [{ shot_id: 's2', position: null }] };
    const change = aChange(9, after, {
      op: 'update',
      old: { shots: before.shots, deleted_at: null, starred: false },
    });
    const s1 = listOf({ items: [before], next_cursor: null }, 3);
    const s2 = listOf<Generation>({ items: [], next_cursor: null }, 3);
    expect(patched(['unified-generations', 'shot', 's1'], s1, change)).toMatchObject({ rows: [] });
    expect(patched(['unified-generations', 'shot', 's2'], s2, change)).toMatchObject({ rows: [{ id: 'g' }] });
    const shots = listOf(
      {
        items: [aShot('s1', { counts: { total: 1, unpositioned: 0, videos: 1 } }), aShot('s2')],
        next_cursor: null,
      },
      3,
    );
    expect(patched(['shots', P], shots, change)).toMatchObject({
      rows: [
        { id: 's1', counts: { total: 0, unpositioned: 0, videos: 0 } },
        { id: 's2', counts: { total: 1, unpositioned: 1, videos: 1 } },
      ],
    });
  });

  it('keeps the counts of a shot that was only renamed', () => {
    const shots = listOf(
      { items: [aShot('s1', { counts: { total: 4, unpositioned: 1, videos: 0 } })], next_cursor: null },
      3,
    );
    const { counts: _, ...renamed } = aShot('s1', { name: 'new' });
    const change = aChange(4, renamed, { table: 'shots', op: 'update' });
    expect(patched(['shots', P], shots, change)).toMatchObject({
      rows: [{ name: 'new', counts: { total: 4 } }],
    });
  });

  it.each([
    ['an array', [{ id: 'g', starred: false }]],
    ['a page', { items: [{ id: 'g', starred: false }], next: null }],
    ['pages', { pages: [{ items: [{ id: 'g', starred: false }] }], pageParams: [] }],
    ['a row', { id: 'g', starred: false }],
  ])("renews a row in an app's own %s and leaves the rest alone", (_, data) => {
    const key = ['unified-generations', 'project', P, 'mine'];
    const change = aChange(2, aGeneration('g', { starred: true }), { op: 'update' });
    expect(JSON.stringify(patched(key, data, change))).toContain('"starred":true');
    expect(patched(key, data, aChange(2, aGeneration('other')))).toBe(data);
    expect(isOurs(data)).toBe(false);
  });

  it("takes a deleted row out of an app's own list", () => {
    const gone = aChange(2, aGeneration('g', { deleted_at: '2026-11-21T09:00:00Z' }), { op: 'update' });
    expect(
      patched(['unified-generations', 'project', P], { items: [{ id: 'g' }, { id: 'h' }] }, gone),
    ).toEqual({
      items: [{ id: 'h' }],
    });
  });

  it.each([
    [{ kind: 'video' }, false],
    [{ starred: true }, true],
    [{ q: 're fo' }, true],
    [{ q: 'wolf' }, false],
    [{ model: 'local/picture', q: 'picture' }, true],
  ])('knows whether a result belongs to %j', (filter, belongs) => {
    expect(narrowedTo(filter).belongs(aGeneration('g', { starred: true }))).toBe(belongs);
  });

  it('ends like a fresh read, whatever happened to results and shots (state + changes = refetch)', () => {
    const step = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd'),
      shot: fc.constantFrom('s1', 's2'),
      act: fc.constantFrom('make', 'place', 'unplace', 'leave', 'delete', 'restore'),
      position: fc.constantFrom('a0', 'a1', 'a2', 'b0'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.nat(10), (steps, readAt) => {
        const server = new Map<string, Generation>();
        let held: { s1: unknown; shots: unknown } | null = null;
        const inS1 = (): Generation[] =>
          [...server.values()].filter(inShot('s1').belongs).sort(inShot('s1').compare);
        const cards = (): Shot[] =>
          ['s1', 's2'].map((id, i) => {
            const rows = [...server.values()].filter(inShot(id).belongs);
            const unpositioned = rows.filter((row) =>
              row.shots?.some((p) => p.shot_id === id && p.position === null),
            ).length;
            return aShot(id, { position: `a${i}`, counts: { total: rows.length, unpositioned, videos: 0 } });
          });
        steps.forEach(({ id, shot, act, position }, index) => {
          const seq = index + 1;
          if (index === readAt) {
            held = {
              s1: listOf({ items: inS1(), next_cursor: null }, index + 0.5),
              shots: listOf({ items: cards(), next_cursor: null }, index + 0.5),
            };
          }
          const before = server.get(id);
          const others = (before?.shots ?? []).filter(({ shot_id }) => shot_id !== shot);
          const row: Generation =
            before === undefined || act === 'make'
              ? (before ?? aGeneration(id, { shots: [] }))
              : act === 'delete'
                ? { ...before, deleted_at: '2026-11-21T09:00:00Z' }
                : act === 'restore'
                  ? { ...before, deleted_at: null }
                  : {
                      ...before,
                      shots:
                        act === 'leave'
                          ? others
                          : [...others, { shot_id: shot, position: act === 'place' ? position : null }],
                    };
          server.set(id, row);
          const change: Change = aChange(seq, row, {
            op: before === undefined ? 'insert' : 'update',
            old:
              before === undefined
                ? null
                : { shots: before.shots, deleted_at: before.deleted_at, starred: before.starred },
          });
          // As one transaction tells it: several entries, each with the row as it was at the commit.
          for (const entry of [
            change,
            {
              ...change,
              seq: change.seq + 0.5,
              op: 'update' as const,
              old: change.old ?? { shots: [], deleted_at: null },
            },
          ]) {
            if (held === null) return;
            held = {
              s1: patched(['unified-generations', 'shot', 's1'], held.s1, entry),
              shots: patched(['shots', P], held.shots, entry),
            };
          }
        });
        const final = held as { s1: { rows: Generation[] }; shots: { rows: Shot[] } } | null;
        if (final === null) return;
        expect(final.s1.rows).toEqual(inS1());
        expect(final.shots.rows).toEqual(cards());
      }),
    );
  });
});
