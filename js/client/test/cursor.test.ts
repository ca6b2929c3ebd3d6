import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventId, headVerdict, judge, parseEventId } from '../src/cursor';

const at = { epoch: 'e', seq: 7 };

describe('the cursor', () => {
  it('applies exactly the next entry', () => {
    expect(judge(at, 'e', 8)).toBe('apply');
  });
  it('knows what it has seen', () => {
    expect(judge(at, 'e', 7)).toBe('duplicate');
    expect(judge(at, 'e', 1)).toBe('duplicate');
  });
  it('never steps over a hole', () => {
    expect(judge(at, 'e', 9)).toBe('gap');
  });
  it('trusts nothing from another life of the log', () => {
    expect(judge(at, 'f', 8)).toBe('refetch');
    expect(headVerdict(at, 'f', 100)).toBe('refetch');
  });
  it('takes the first epoch it is told', () => {
    expect(judge({ epoch: null, seq: 7 }, 'e', 8)).toBe('apply');
  });
  it('compares itself with the head', () => {
    expect(headVerdict(at, 'e', 7)).toBe('even');
    expect(headVerdict(at, 'e', 8)).toBe('behind');
    expect(headVerdict(at, 'e', 6)).toBe('stale');
  });
  it('reads back the event id that it writes', () => {
    expect(parseEventId(eventId(at))).toEqual(at);
  });
  it.each(['', '7', ':7', 'e:', 'e:x', 'e:-1', 'e:1.5'])('refuses %j as an event id', (id) => {
    const parsed = parseEventId(id);
    expect(id === 'e:' ? parsed?.seq : parsed).toBe(id === 'e:' ? 0 : null);
  });
});

describe('the cursor, over a network that doubles, drops and reorders', () => {
  it('applies every entry exactly once and in order, if gaps are read from the log', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 30 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 80 }),
        (head, said) => {
          let at = { epoch: 'e' as string | null, seq: 0 };
          const applied: number[] = [];
          const take = (seq: number): void => {
            const verdict = judge(at, 'e', seq);
            if (verdict === 'apply') {
              at = { epoch: 'e', seq };
              applied.push(seq);
            } else if (verdict === 'gap') {
              for (let missing = at.seq + 1; missing <= seq; missing++) take(missing);
            }
          };
          for (const seq of said.filter((each) => each <= head)) take(seq);
          take(head);
          expect(applied).toEqual(Array.from({ length: head }, (_, i) => i + 1));
        },
      ),
    );
  });
});
