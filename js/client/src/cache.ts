type Key = readonly unknown[];

/** What we need of a query cache. TanStack's QueryClient is one; so is `createCache`, where there is none. */
export interface Cache {
  getQueryData(key: Key): unknown;
  setQueryData(key: Key, data: unknown): unknown;
  getQueriesData(filters: { queryKey: Key }): [Key, unknown][];
  invalidateQueries(filters: {
    queryKey: Key;
    predicate?: (query: { state: { data: unknown } }) => boolean;
  }): Promise<unknown>;
}

/** For Node, and for pages without TanStack Query: it only keeps. */
export function createCache(): Cache {
  const held = new Map<string, [Key, unknown]>();
  const starts = (key: Key, prefix: Key): boolean =>
    prefix.every((part, index) => JSON.stringify(part) === JSON.stringify(key[index]));
  return {
    getQueryData: (key) => held.get(JSON.stringify(key))?.[1],
    setQueryData: (key, data) => {
      held.set(JSON.stringify(key), [key, data]);
    },
    getQueriesData: ({ queryKey }) => [...held.values()].filter(([key]) => starts(key, queryKey)),
    invalidateQueries: () => Promise.resolve(),
  };
}
