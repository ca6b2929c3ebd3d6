import { createStore, useStore } from '@safelight/react';
import { useSyncExternalStore } from 'react';

/** Which results are chosen, for what is done to many at once. */
const chosen = createStore<ReadonlySet<string>>(new Set());
let anchor: string | null = null;

export const selected = (): ReadonlySet<string> => chosen.get();

export function toggle(id: string): void {
  anchor = id;
  chosen.set((now) => {
    const next = new Set(now);
    if (!next.delete(id)) next.add(id);
    return next;
  });
}

/** From the last one chosen to this one, in the order they are shown. */
export function extendTo(id: string, order: readonly string[]): void {
  const from = anchor === null ? -1 : order.indexOf(anchor);
  const to = order.indexOf(id);
  if (from < 0 || to < 0) {
    toggle(id);
    return;
  }
  const range = order.slice(Math.min(from, to), Math.max(from, to) + 1);
  chosen.set((now) => new Set([...now, ...range]));
}

export const choose = (ids: readonly string[]): void => chosen.set(new Set(ids));

export function clearSelection(): void {
  anchor = null;
  chosen.set((now) => (now.size === 0 ? now : new Set()));
}

export const useSelection = (): ReadonlySet<string> => useStore(chosen);

/** Only this one's part of it: a gallery of thousands does not draw anew for one more. */
export const useIsSelected = (id: string): boolean =>
  useSyncExternalStore(chosen.subscribe, () => chosen.get().has(id));

export const useIsSelecting = (): boolean =>
  useSyncExternalStore(chosen.subscribe, () => chosen.get().size > 0);
