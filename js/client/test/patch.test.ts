import { describe, expect, it } from 'vitest';
import type { Change, Generation } from '../src';
import {
  appendPage,
  GENERATIONS,
  type List,
  listOf,
  patchList,
  putRow,
  removeRow,
  renewRow,
} from '../src/patch';
import { aChange, aGeneration } from './builders';

const at = (second: number): string => `2026-11-21T08:00:${String(second).padStart(2, '0')}Z`;
const row = (id: string, second: number, over: Partial<Generation> = {}): Generation =>
  aGeneration(id, { created_at: at(second), ...over });
const list = (rows: Generation[], seq = 10, next: string | null = null): List<Generation> =>
  listOf({ items: rows, next_cursor: next }, seq);
const ids = (of: List<Generation>): string[] => of.rows.map(({ id }) => id);

describe('patching a list', () => {
  it('puts a new row where it belongs', () => {
    const now = patchList(list([row('c', 30), row('a', 10)]), aChange(11, row('b', 20)), GENERATIONS);
    expect(ids(now)).toEqual(['c', 'b', 'a']);
  });
  it('ignores what the list already contained when it was read', () => {
    const before = list([row('a', 10)]);
    expect(patchList(before, aChange(10, row('b', 20)), GENERATIONS)).toBe(before);
  });
  it('is the same once or twice', () => {
    const change = aChange(11, row('b', 20));
    const once = patchList(list([]), change, GENERATIONS);
    expect(patchList(once, change, GENERATIONS)).toBe(once);
  });
  it('lets an older entry never overwrite a newer answer', () => {
    const written = putRow(list([row('a', 10)]), row('a', 10, { starred: true }), 15, GENERATIONS);
    const later = patchList(written, aChange(12, row('a', 10), { op: 'update' }), GENERATIONS);
    expect(later.rows[0]?.starred).toBe(true);
  });
  it('takes a softly deleted row out, and back in its place when it is restored', () => {
    const all = list([row('c', 30), row('b', 20), row('a', 10)]);
    const gone = patchList(
      all,
      aChange(11, row('b', 20, { deleted_at: at(40) }), { op: 'update' }),
      GENERATIONS,
    );
    expect(ids(gone)).toEqual(['c', 'a']);
    const back = patchList(gone, aChange(12, row('b', 20), { op: 'update' }), GENERATIONS);
    expect(ids(back)).toEqual(['c', 'b', 'a']);
  });
  it('does not bring back what a late entry describes after its delete', () => {
    const gone = removeRow(list([row('a', 10)]), 'a', 20);
    expect(ids(patchList(gone, aChange(15, row('a', 10), { op: 'update' }), GENERATIONS))).toEqual([]);
  });
  it('leaves a row past the loaded end to the page that holds it', () => {
    const first = list([row('c', 30), row('b', 20)], 10, 'more');
    const now = patchList(first, aChange(11, row('a', 10), { op: 'update' }), GENERATIONS);
    expect(ids(now)).toEqual(['c', 'b']);
    const both = appendPage(now, { items: [row('a', 10)], next_cursor: null }, 11, GENERATIONS);
    expect(ids(both)).toEqual(['c', 'b', 'a']);
  });
  it('keeps what it knows better than a page that was read earlier', () => {
    const starred = putRow(
      list([row('b', 20)], 10, 'more'),
      row('b', 20, { starred: true }),
      30,
      GENERATIONS,
    );
    const now = appendPage(
      starred,
      { items: [row('b', 20), row('a', 10)], next_cursor: null },
      25,
      GENERATIONS,
    );
    expect(now.rows.map(({ starred: on }) => on)).toEqual([true, false]);
  });
  it('takes a fresh signature of the same row, as often as it comes', () => {
    const fresh = row('a', 10, { urls: { original: '/media/a?s=2' } });
    const once = renewRow(list([row('a', 10)]), fresh, 10);
    const twice = renewRow(once, { ...fresh, urls: { original: '/media/a?s=3' } }, 10);
    expect(twice.rows[0]?.urls.original).toBe('/media/a?s=3');
  });
  it('ends like the log, in whatever order answers and entries overlap', () => {
    // state + changes = refetch: 200 random histories, entries doubled, lists read in between
    let seed = 7;
    const random = (n: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed % n;
    };
    for (let round = 0; round < 200; round++) {
      const truth = new Map<string, Generation>();
      const log: Change[] = [];
      let replica = list([], 0);
      for (let seq = 1; seq <= 40; seq++) {
        const id = `g${random(6)}`;
        const known = truth.get(id);
        const next = row(id, 10 + Number(id.slice(1)), {
          starred: random(2) === 0,
          deleted_at: known && random(3) === 0 ? at(50) : null,
        });
        truth.set(id, next);
        log.push(aChange(seq, next, { op: known ? 'update' : 'insert' }));
        if (random(8) === 0) replica = putRow(replica, next, seq, GENERATIONS); // a write's own answer
        if (random(10) === 0) {
          const items = [...truth.values()].filter(GENERATIONS.belongs).sort(GENERATIONS.compare);
          replica = list(items, seq);
        }
        const behind = random(4);
        for (const change of log.slice(Math.max(0, seq - 1 - behind))) {
          replica = patchList(replica, change, GENERATIONS);
        }
      }
      const expected = [...truth.values()].filter(GENERATIONS.belongs).sort(GENERATIONS.compare);
      expect(replica.rows).toEqual(expected);
    }
  });
});
