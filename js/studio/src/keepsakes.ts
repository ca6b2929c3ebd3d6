/** What survives a reload of the page's own habits. All of it may vanish at any time: never relied on. */

const durable = (): Storage => window.localStorage;

export function read<T>(key: string, fallback: T): T {
  try {
    const text = durable().getItem(key);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

export function write(key: string, value: unknown): void {
  try {
    durable().setItem(key, JSON.stringify(value));
  } catch {
    // full or forbidden: then it does not survive
  }
}

export interface Habits {
  readonly model: string | null;
  readonly n: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export const keptHabits = (): Habits => read('safelight.habits', { model: null, n: 1, fields: {} });
export const keepHabits = (habits: Habits): void => write('safelight.habits', habits);
