import type { Change, Job } from './resources';

/** F10: other code on the page hears of jobs, and may ask us to sign in anew and join again. */

export const TASK_NEW = 'realtime:task-new';
export const TASK_UPDATE = 'realtime:task-update';
/** Whoever got a fresh sign-in says so; we say it too (with `source: 'safelight'`) when ours has run out. */
export const AUTH_HEAL = 'realtime:auth-heal';

const OURS = 'safelight';

export function tellPage(target: EventTarget, entries: readonly Change[]): void {
  for (const { table, op, row } of entries) {
    if (table !== 'jobs' || row === null || op === 'delete') continue;
    target.dispatchEvent(
      new CustomEvent<Job>(op === 'insert' ? TASK_NEW : TASK_UPDATE, { detail: row as Job }),
    );
  }
}

export const askToHeal = (target: EventTarget, reason: string): void => {
  target.dispatchEvent(new CustomEvent(AUTH_HEAL, { detail: { source: OURS, reason } }));
};

/** Calls back when somebody else says that the sign-in is good again. */
export function onHeal(target: EventTarget, heal: () => void): () => void {
  const listen = (event: Event): void => {
    const detail = (event as CustomEvent<{ source?: string } | null>).detail;
    if (detail?.source !== OURS) heal();
  };
  target.addEventListener(AUTH_HEAL, listen);
  return () => target.removeEventListener(AUTH_HEAL, listen);
}
