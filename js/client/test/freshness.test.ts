import { describe, expect, it } from 'vitest';
import { ages, familiesOf, heardOf, proofOf, proven, reread, stale, unproven } from '../src/freshness';

describe('freshness (F4)', () => {
  it('is never before the first proof', () => {
    expect(ages(unproven, 5).tasks).toBeNull();
  });
  it('of every family follows from one proof: a beat that names the head', () => {
    const state = proven(unproven, 1_000);
    expect(ages(state, 1_400).shots).toBe(400);
    expect(proven(state, 900)).toBe(state);
  });
  it('of a family that is being read again stands where it stood', () => {
    const state = proven(stale(proven(unproven, 1_000), ['shots'], 1_200), 2_000);
    expect(proofOf(state, 'shots')).toBe(1_200);
    expect(proofOf(state, 'tasks')).toBe(2_000);
    expect(proofOf(reread(state, ['shots']), 'shots')).toBe(2_000);
  });
  it('knows the families of the keys of a change, and no others', () => {
    expect(
      familiesOf([
        ['shots', 'p'],
        ['shots', 'q'],
        ['mine', 1],
        ['credits', 'p'],
      ]),
    ).toEqual(['shots', 'credits']);
    expect(heardOf(unproven, ['shots'], 7).eventAt).toEqual({ shots: 7 });
  });
});
