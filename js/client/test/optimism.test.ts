import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { begun, dropped, type Layer, overlay, passed, settled } from '../src/optimism';

interface Row {
  readonly id: string;
  readonly starred: boolean;
  readonly name: string;
}
const row: Row = { id: 'a', starred: false, name: 'x' };
const star = (on: boolean) => (it: Row) => ({ ...it, starred: on });
const seen = (layer: Layer<Row>, rows: readonly Row[] = [row]) => overlay(layer, rows);

describe('the optimistic layer', () => {
  it('leaves rows that nobody touched the very same objects', () => {
    const rows = [row, { ...row, id: 'b' }];
    expect(overlay([], rows)).toBe(rows);
    expect(seen(begun([], 'm', 'b', star(true)), rows)[0]).toBe(row);
  });

  it('does not let the end of one mutation undo another in flight', () => {
    let layer = begun(begun<Row>([], 'on', 'a', star(true)), 'rename', 'a', (it) => ({ ...it, name: 'y' }));
    layer = dropped(layer, 'on'); // refused
    expect(seen(layer)[0]).toEqual({ ...row, name: 'y' });
  });

  it('stays until what we hold is as new as its write', () => {
    const layer = settled(begun<Row>([], 'on', 'a', star(true)), 'on', 8);
    expect(seen(passed(layer, 7))[0]?.starred).toBe(true);
    expect(passed(layer, 8)).toEqual([]);
    expect(passed(layer, 3, () => 8)).toEqual([]); // the answer's row is here, ahead of the feed
  });

  it('shows the last wish throughout, whatever the order of answers, feed and refusals', () => {
    // Writes of one row reach the server in order; answers and the feed come when they come.
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
        fc.infiniteStream(fc.nat()),
        (wishes, draws) => {
          let layer: Layer<Row> = [];
          let server = row;
          let seq = 0;
          let cached = { row, seq: 0 };
          const writes = wishes.map((on, i) => ({
            on,
            id: String(i),
            state: 'asked' as 'asked' | 'done' | 'told',
            seq: 0,
          }));
          for (const write of writes) layer = begun(layer, write.id, 'a', star(write.on));
          const last = wishes.at(-1);
          const draw = (n: number): number => (draws.next().value ?? 0) % n;
          for (let step = 0; step < 200 && (layer.length > 0 || cached.seq < seq); step++) {
            const next = writes.find(({ state }) => state === 'asked');
            const done = writes.filter(({ state }) => state === 'done');
            const choice = draw(3);
            if (choice === 0 && next) {
              seq += 1;
              server = star(next.on)(server);
              next.state = 'done';
              next.seq = seq;
            } else if (choice === 1 && done.length > 0) {
              const told = done[draw(done.length)];
              if (told) {
                told.state = 'told';
                layer = settled(layer, told.id, told.seq);
              }
            } else if (choice === 2) cached = { row: server, seq };
            layer = passed(layer, cached.seq);
            expect(overlay(layer, [cached.row])[0]?.starred).toBe(
              layer.length > 0 || cached.seq === seq ? last : expect.anything(),
            );
          }
        },
      ),
    );
  });
});
