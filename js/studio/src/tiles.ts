import {
  type Generation,
  inOrder,
  type Job,
  keys,
  type List,
  type Model,
  type OrderKeys,
  orderKeys,
  type Tile,
  tilesOf,
} from '@safelight/client';
import { skipToken, useQuery } from '@tanstack/react-query';
import { useMemo, useRef } from 'react';
import type { WalletAt } from './darkroom';
import { useRoom } from './room';
import { useStore } from './store';

/** The lists are read by the feed (one reader, one clock); components only look at the cache. */
function useWatched<T>(queryKey: readonly unknown[]): T | undefined {
  const lasting = { staleTime: Number.POSITIVE_INFINITY, gcTime: Number.POSITIVE_INFINITY };
  return useQuery<T>({ queryKey, queryFn: skipToken, ...lasting }).data;
}

export const useGenerations = (): List<Generation> | undefined =>
  useWatched<List<Generation>>(keys.generations(useRoom().project));

export const useJobs = (): List<Job> | undefined => useWatched<List<Job>>(keys.jobs(useRoom().project));

export const useWallet = (): WalletAt | undefined => useWatched<WalletAt>(keys.credits(useRoom().project));

/** One and the same empty list, so that nobody who depends on it thinks it changed. */
const NO_MODELS: readonly Model[] = [];

export function useModels(): { models: readonly Model[]; failed: boolean } {
  const { api } = useRoom();
  const { data, isError } = useQuery({
    queryKey: keys.models(),
    queryFn: async ({ signal }) =>
      (await api.call<{ items: Model[] }>('GET', '/v1/models', { signal })).data.items,
    staleTime: 5 * 60_000,
    retry: true,
  });
  return { models: data ?? NO_MODELS, failed: isError };
}

/** All tiles in their lasting order, with the person's own wishes (star, delete) already in them. */
export function useTiles(): { tiles: readonly Tile[]; loaded: boolean } {
  const room = useRoom();
  const generations = useGenerations();
  const jobs = useJobs();
  const { drafts, arrived, dismissed, starred, hidden } = useStore(room.local);
  const known = useRef<OrderKeys>(new Map());

  const tiles = useMemo(() => {
    const rows = (generations?.rows ?? [])
      .filter((row) => !hidden.has(row.id))
      .map((row) => {
        const wish = starred.get(row.id);
        return wish === undefined || wish === row.starred ? row : { ...row, starred: wish };
      });
    const all = tilesOf({ rows, jobs: jobs?.rows ?? [], drafts, arrived, dismissed });
    known.current = orderKeys(known.current, all);
    return inOrder(all, known.current);
  }, [generations, jobs, drafts, arrived, dismissed, starred, hidden]);

  return { tiles, loaded: generations !== undefined };
}
