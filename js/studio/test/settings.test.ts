import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { consequence, FLAGS, type Flags, flagSource, flagWord, intervalOf, storedValue } from '../src/flags';
import { hashOf, PAGES, parseRoute } from '../src/route';

const flags: Flags = {
  REALTIME_ENABLED: false,
  LEGACY_LISTENERS_ENABLED: null,
  DEADMODE_FORCE_POLLING_MS: 4000,
  in_force: { REALTIME_ENABLED: false, LEGACY_LISTENERS_ENABLED: false, DEADMODE_FORCE_POLLING_MS: 7500 },
  environment: ['DEADMODE_FORCE_POLLING_MS'],
};

describe('the flags of the installation', () => {
  it('say in words what is in force, and who said so', () => {
    const said = FLAGS.map(({ name }) => [name, flagWord(flags.in_force[name]), flagSource(flags, name)]);
    expect(said).toEqual([
      ['REALTIME_ENABLED', 'off', 'set'],
      ['DEADMODE_FORCE_POLLING_MS', 'every 7500 ms', 'environment'],
      ['LEGACY_LISTENERS_ENABLED', 'off', 'default'],
    ]);
  });

  it('say what a change does to everybody before it is made', () => {
    for (const { name } of FLAGS) {
      const [on, off] =
        name === 'DEADMODE_FORCE_POLLING_MS'
          ? [consequence(name, 5000), consequence(name, null)]
          : [consequence(name, true), consequence(name, false)];
      expect(on).not.toBe(off);
    }
    expect(consequence('DEADMODE_FORCE_POLLING_MS', 5000)).toContain('every 5 s');
  });

  it('are not set at all where the default is wanted', () => {
    expect(storedValue('REALTIME_ENABLED', true)).toBeNull();
    expect(storedValue('REALTIME_ENABLED', false)).toBe(false);
    expect(storedValue('LEGACY_LISTENERS_ENABLED', false)).toBeNull();
    expect(storedValue('DEADMODE_FORCE_POLLING_MS', 2000)).toBe(2000);
  });

  it('take only an interval that the server takes', () => {
    expect([intervalOf('2'), intervalOf(' 0,5 '), intervalOf('600')]).toEqual([2000, 500, 600_000]);
    expect([intervalOf(''), intervalOf('0.4'), intervalOf('601'), intervalOf('-3'), intervalOf('x')]).toEqual(
      Array(5).fill(null),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const ms = intervalOf(text);
        return ms === null || (Number.isInteger(ms) && ms >= 500 && ms <= 600_000);
      }),
    );
  });
});

describe('the address of a page', () => {
  it('leads to every page, and to the gallery from anything else', () => {
    for (const page of PAGES) {
      expect(parseRoute(hashOf({ page, shot: null, open: null, filters: {} })).page).toBe(page);
    }
    expect(parseRoute('#/nowhere?q=').page).toBe('gallery');
  });
});
