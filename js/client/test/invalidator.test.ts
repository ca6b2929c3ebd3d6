import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { flush, gather, nextFlushAt, nothingWaits } from '../src/invalidator';

const entry = (op: 'insert' | 'update' | 'delete', ...keys: string[][]) => ({ op, keys });
const TASKS = ['tasks', 'p'];
const SHOTS = ['shots', 'p'];

describe('invalidation (F2)', () => {
  it.each([
    ['insert', 0],
    ['update', 500],
    ['delete', 2_000],
  ] as const)('waits after an %s for %i ms', (op, ms) => {
    expect(nextFlushAt(gather(nothingWaits, [entry(op, TASKS)], 10_000))).toBe(10_000 + ms);
  });

  it('does not let an insert wait for the deletes that were gathered before it', () => {
    const state = gather(gather(nothingWaits, [entry('delete', TASKS)], 0), [entry('insert', TASKS)], 700);
    expect(flush(state, 700).keys).toEqual([TASKS]);
  });

  it('flushes a family at most once in 500 ms, each key once, and loses none', () => {
    const op = fc.constantFrom('insert' as const, 'update' as const, 'delete' as const);
    const key = fc.constantFrom(TASKS, ['tasks', 'q'], SHOTS, ['unified-generations', 'shot', 's']);
    fc.assert(
      fc.property(
        fc.array(fc.record({ gap: fc.nat(900), op, keys: fc.array(key, { minLength: 1, maxLength: 3 }) }), {
          maxLength: 60,
        }),
        (steps) => {
          let state = nothingWaits;
          let now = 0;
          const flushes = new Map<string, number[]>();
          const owed = new Map<string, number>();
          const work = (until: number): void => {
            for (;;) {
              const due = nextFlushAt(state);
              if (due === null || due > until) return;
              const done = flush(state, due);
              state = done.state;
              expect(new Set(done.keys.map((each) => JSON.stringify(each))).size).toBe(done.keys.length);
              for (const family of new Set(done.keys.map(([name]) => String(name)))) {
                flushes.set(family, [...(flushes.get(family) ?? []), due]);
              }
              for (const each of done.keys) {
                expect(due - (owed.get(JSON.stringify(each)) ?? Number.NaN)).toBeLessThanOrEqual(2_000);
                owed.delete(JSON.stringify(each));
              }
            }
          };
          for (const step of steps) {
            work(now + step.gap);
            now += step.gap;
            state = gather(state, [step], now);
            for (const each of step.keys) {
              const name = JSON.stringify(each);
              if (!owed.has(name)) owed.set(name, now);
            }
          }
          work(now + 10_000);
          expect(owed.size).toBe(0);
          for (const times of flushes.values()) {
            times.slice(1).forEach((at, i) => {
              expect(at - (times[i] ?? 0)).toBeGreaterThanOrEqual(500);
            });
          }
        },
      ),
    );
  });
});
