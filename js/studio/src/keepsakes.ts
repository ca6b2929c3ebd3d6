import type { Draft } from '@safelight/client';

/** What survives a reload. All of it may vanish at any time (private windows, full disks): never relied on. */

const DISMISSED_MAX = 200;

function read<T>(storage: () => Storage, key: string, fallback: T): T {
  try {
    const text = storage().getItem(key);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

function write(storage: () => Storage, key: string, value: unknown): void {
  try {
    storage().setItem(key, JSON.stringify(value));
  } catch {
    // full or forbidden: then it does not survive
  }
}

const session = (): Storage => window.sessionStorage;
const durable = (): Storage => window.localStorage;

/** Submits on their way when the page went: sent again under the same id, so at most one job comes of it (J2). */
export const keptDrafts = (project: string): readonly Draft[] =>
  read(session, `safelight.drafts.${project}`, []);
export const keepDrafts = (project: string, drafts: readonly Draft[]): void =>
  write(session, `safelight.drafts.${project}`, drafts);

export const keptDismissals = (project: string): ReadonlySet<string> =>
  new Set(read<string[]>(durable, `safelight.dismissed.${project}`, []));
export const keepDismissals = (project: string, ids: ReadonlySet<string>): void =>
  write(durable, `safelight.dismissed.${project}`, [...ids].slice(-DISMISSED_MAX));

export interface Habits {
  readonly model: string | null;
  readonly n: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export const keptHabits = (): Habits => read(durable, 'safelight.habits', { model: null, n: 1, fields: {} });
export const keepHabits = (habits: Habits): void => write(durable, 'safelight.habits', habits);
