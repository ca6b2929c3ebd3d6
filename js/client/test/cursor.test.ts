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
