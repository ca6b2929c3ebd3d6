// @vitest-environment happy-dom
import { createStore } from '@safelight/react';
import { act } from 'react';
import { createRoot } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

type News = { readonly kind: string };
const listeners = new Set<(news: News) => void>();
const running = createStore(0);

vi.mock('@safelight/react', async (original) => {
  const real = await original<typeof import('@safelight/react')>();
  const room = {
    onNews: (listener: (news: News) => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return { ...real, useProject: () => room, useRunning: () => real.useStore(running) };
});
const { iconOf, titleOf, useTitle } = await import('../src/title');

let hidden = false;
const root = createRoot(document.createElement('div'));
const Titled = () => {
  useTitle();
  return null;
};

beforeEach(async () => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  Object.defineProperty(document, 'visibilityState', {
    configurable: true,
    get: () => (hidden ? 'hidden' : 'visible'),
  });
  document.head.innerHTML = '<link rel="icon" href="/favicon.svg">';
  await act(async () => root.render(<Titled />));
});
afterEach(() => vi.unstubAllGlobals());

const finish = (): Promise<void> =>
  act(async () => {
    for (const listener of listeners) listener({ kind: 'finished' });
  });
const look = (isHidden: boolean): Promise<void> =>
  act(async () => {
    hidden = isHidden;
    document.dispatchEvent(new Event('visibilitychange'));
  });

describe("the tab's title and icon", () => {
  it('count what runs and what is done while nobody looks, and forget it when somebody does', async () => {
    await look(true);
    await act(async () => running.set(2));
    expect(document.title).toBe('(2) Safelight');
    await finish();
    await finish();
    await act(async () => running.set(0));
    expect(document.title).toBe('✓ 2 done · Safelight');
    expect(document.querySelector('link')?.getAttribute('href')).toBe(iconOf(0, 2));
    await look(false);
    expect(document.title).toBe(titleOf(0, 0));
    await finish();
    expect(document.title).toBe('Safelight');
  });
});
