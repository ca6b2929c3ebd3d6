/** A value that says when it changes: for what is neither the server's (the query cache) nor one component's. */
export interface Store<T> {
  get(): T;
  set(next: T | ((value: T) => T)): void;
  subscribe(listener: () => void): () => void;
}

export function createStore<T>(initial: T): Store<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      const computed = typeof next === 'function' ? (next as (value: T) => T)(value) : next;
      if (Object.is(computed, value)) return;
      value = computed;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
  };
}

/** Sets some fields; where all of them are what they were, nobody is told. */
export function patchStore<T extends object>(store: Store<T>, patch: (value: T) => Partial<T>): void {
  store.set((value) => {
    const next = patch(value);
    const names = Object.keys(next) as (keyof T)[];
    return names.every((name) => Object.is(next[name], value[name])) ? value : { ...value, ...next };
  });
}

export const added = <T>(set: ReadonlySet<T>, ...items: T[]): ReadonlySet<T> => {
  if (items.every((item) => set.has(item))) return set;
  const next = new Set(set); // a set of 50,000 is copied as one piece; through an array it would be felt
  for (const item of items) next.add(item);
  return next;
};

export const removed = <T>(set: ReadonlySet<T>, ...items: T[]): ReadonlySet<T> => {
  if (!items.some((item) => set.has(item))) return set;
  const next = new Set(set);
  for (const item of items) next.delete(item);
  return next;
};
