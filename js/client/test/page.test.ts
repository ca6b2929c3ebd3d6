// @vitest-environment happy-dom
import { afterEach, describe, expect, it, vi } from 'vitest';
import { browserPage } from '../src';

afterEach(() => vi.unstubAllGlobals());

describe("a browser's surroundings", () => {
  it('keep nothing where storage is blocked, and say nothing of it', () => {
    const blocked = (): never => {
      throw new DOMException('denied', 'SecurityError');
    };
    vi.stubGlobal('localStorage', undefined);
    Object.defineProperty(window, 'localStorage', { configurable: true, get: blocked });
    const { durable } = browserPage();
    durable.write('a', 1);
    expect(durable.read('a', 'as it was')).toBe('as it was');
  });

  it('keep nothing where storage is full or holds what is not ours', () => {
    const full = {
      getItem: () => '{half of an obj',
      setItem: () => {
        throw new DOMException('full', 'QuotaExceededError');
      },
    };
    Object.defineProperty(window, 'sessionStorage', { configurable: true, value: full });
    const { session } = browserPage();
    session.write('a', 'x'.repeat(10));
    expect(session.read('a', 7)).toBe(7);
  });

  it('are each tab for itself where there is no BroadcastChannel or no lock', () => {
    vi.stubGlobal('BroadcastChannel', undefined);
    expect(browserPage().tabs.channel('any')).toBeUndefined();
    vi.stubGlobal('navigator', { onLine: true });
    expect(browserPage().tabs.locks).toBeUndefined();
  });
});
