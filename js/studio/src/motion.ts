import { createStore, useStore } from '@safelight/react';
import { read, write } from './keepsakes';

/** Movement as the machine has it, or as little as can be. */
export type Motion = 'system' | 'less';

const KEY = 'safelight.motion';
const less = window.matchMedia('(prefers-reduced-motion: reduce)');
const chosen = createStore<Motion>(read<Motion>(KEY, 'system') === 'less' ? 'less' : 'system');

export const isStill = (): boolean => chosen.get() === 'less' || less.matches;

function paint(): void {
  document.documentElement.dataset.motion = isStill() ? 'less' : 'full';
}
paint();
less.addEventListener('change', paint);

export function setMotion(motion: Motion): void {
  chosen.set(motion);
  write(KEY, motion);
  paint();
}

export const useMotion = (): Motion => useStore(chosen);

/** For `scrollTo` and the like. */
export const scrolling = (): ScrollBehavior => (isStill() ? 'instant' : 'smooth');
