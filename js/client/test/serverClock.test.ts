import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answered, anyTime, offset, reached } from '../src/serverClock';

describe("the server's clock", () => {
  it('is ours until something says otherwise', () => {
    expect(offset(anyTime)).toBe(0);
    expect(offset(reached(anyTime, 900, 1_000))).toBe(0);
  });
  it('is known to within the time that messages take, however wrong our own is', () => {
    const delay = fc.integer({ min: 0, max: 400 });
    fc.assert(
      fc.property(
        fc.integer({ min: -36_000_000, max: 36_000_000 }),
        fc.array(fc.tuple(delay, delay), { minLength: 3, maxLength: 20 }),
        (wrong, trips) => {
          let clock = anyTime;
          let time = 1_800_000_000_000;
          for (const [there, back] of trips) {
            clock = answered(clock, time + there + wrong, time);
            clock = reached(clock, time + there + wrong, time + there + back);
            time += 5_000;
          }
          expect(Math.abs(offset(clock) - wrong)).toBeLessThanOrEqual(400);
        },
      ),
    );
  });
  it('is found again after somebody set a clock', () => {
    let clock = answered(reached(anyTime, 10_000, 10_000), 10_000, 10_000);
    clock = reached(clock, 99_000, 20_000);
    expect(offset(clock)).toBe(79_000);
  });
});
