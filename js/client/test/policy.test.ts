import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fullJitter } from '../src/backoff';
import { type FreshnessState, nextPoll, waitFor } from '../src/policy';

const calm: FreshnessState = {
  lineOpen: true,
  led: false,
  proofAgeMs: 100,
  beatMs: 15_000,
  visible: true,
  jobsActive: false,
  forcedMs: null,
  failures: 0,
  longWaitWorks: false,
};
const draws = [0, 0.25, 0.5, 0.75, 0.999];
const range = (s: Partial<FreshnessState>): [number, number] => {
  const all = draws.map((draw) => nextPoll({ ...calm, ...s }, draw));
  return [Math.min(...all), Math.max(...all)];
};
const within = ([low, high]: [number, number], min: number, max: number): void => {
  expect(low).toBeGreaterThanOrEqual(min);
  expect(high).toBeLessThanOrEqual(max);
};

describe('the polling policy (F5)', () => {
  it('only keeps a safety net while the stream proves itself', () => {
    expect(range({})).toEqual([30_000, 30_000]);
    expect(range({ proofAgeMs: 16_000 })).toEqual([30_000, 30_000]); // the next beat may be a little late
  });
  it('looks every 10-15 s when the proof ages', () => {
    within(range({ proofAgeMs: 20_000 }), 10_000, 15_000);
    within(range({ proofAgeMs: Number.POSITIVE_INFINITY }), 10_000, 15_000);
  });
  it('looks every 5-10 s in a visible tab without a stream', () => {
    within(range({ lineOpen: false }), 4_000, 11_000);
    within(range({ lineOpen: false, jobsActive: true }), 4_000, 6_000);
  });
  it('looks every 15-30 s in a hidden tab, never not at all', () => {
    within(range({ lineOpen: false, visible: false }), 14_000, 31_000);
    within(range({ lineOpen: false, visible: false, jobsActive: true }), 14_000, 31_000);
  });
  it('obeys the operator', () => {
    expect(nextPoll({ ...calm, forcedMs: 3_000 }, 0.3)).toBe(3_000);
    expect(waitFor({ ...calm, lineOpen: false, longWaitWorks: true, forcedMs: 3_000 })).toBe(0);
  });
  it('slows down while nobody answers, but stays under 15 s while visible and never gives up', () => {
    for (const failures of [1, 2, 5, 50, 5_000]) {
      within(range({ lineOpen: false, failures }), 300, 15_000);
      within(range({ lineOpen: false, failures, visible: false }), 300, 31_000);
    }
  });
  it('asks on every few seconds while somebody waits for a job, whoever does not answer', () => {
    for (const failures of [1, 3, 50])
      within(range({ lineOpen: false, jobsActive: true, failures }), 300, 6_000);
  });
  it('lets the server hold a poll only where nothing pushes and somebody looks', () => {
    expect(waitFor({ ...calm, lineOpen: false, longWaitWorks: true })).toBeGreaterThan(0);
    expect(waitFor({ ...calm, longWaitWorks: true })).toBe(0);
    expect(waitFor({ ...calm, lineOpen: false, visible: false, longWaitWorks: true })).toBe(0);
    expect(waitFor({ ...calm, lineOpen: false, longWaitWorks: true, failures: 1 })).toBe(0);
  });
});

describe('the back-off', () => {
  it('draws from the whole of a bound that doubles and then stays', () => {
    expect(fullJitter(0, 0.999)).toBeLessThanOrEqual(500);
    expect(fullJitter(3, 0.999)).toBeGreaterThan(3_900);
    expect(fullJitter(1_000_000, 0.999)).toBeLessThanOrEqual(30_000);
    expect(fullJitter(9, 0)).toBe(0);
  });
});

describe('whatever the state', () => {
  const state: fc.Arbitrary<FreshnessState> = fc.record({
    lineOpen: fc.boolean(),
    led: fc.constant(false),
    proofAgeMs: fc.oneof(fc.nat(100_000), fc.constant(Number.POSITIVE_INFINITY)),
    beatMs: fc.integer({ min: 2_000, max: 60_000 }),
    visible: fc.boolean(),
    jobsActive: fc.boolean(),
    forcedMs: fc.constant(null),
    failures: fc.nat(50),
    longWaitWorks: fc.boolean(),
  });
  const draw = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  it('somebody looks within 15 s in a visible tab without a line, 31 s elsewhere, and never not at all', () => {
    fc.assert(
      fc.property(state, draw, (s, random) => {
        const ms = nextPoll(s, random);
        expect(ms).toBeGreaterThan(0);
        expect(ms).toBeLessThanOrEqual(s.visible && (!s.lineOpen || s.failures > 0) ? 15_000 : 31_000);
      }),
    );
  });

  it("the operator's own interval counts before all of it", () => {
    fc.assert(
      fc.property(state, draw, fc.integer({ min: 500, max: 600_000 }), (s, random, forcedMs) => {
        expect(nextPoll({ ...s, forcedMs }, random)).toBe(forcedMs);
      }),
    );
  });

  it('a tab that is led leaves the looking to the leader', () => {
    fc.assert(
      fc.property(state, draw, (s, random) => {
        expect(nextPoll({ ...s, led: true }, random)).toBe(Number.POSITIVE_INFINITY);
      }),
    );
  });
});
