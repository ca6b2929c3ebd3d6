import { useSyncExternalStore } from 'react';

/** One second-hand for all who show time; it stands still while nobody looks at it. */
const listeners = new Set<() => void>();
let now = Date.now();
let timer: number | null = null;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  now = Date.now();
  timer ??= window.setInterval(() => {
    now = Date.now();
    for (const each of listeners) each();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && timer !== null) {
      window.clearInterval(timer);
      timer = null;
    }
  };
}

/** ms since 1970, once a second. */
export const useNow = (): number => useSyncExternalStore(subscribe, () => now);
