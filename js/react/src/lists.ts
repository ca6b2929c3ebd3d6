import {
  type CountsAt,
  type CreditEntry,
  type Generation,
  isWhole,
  type Job,
  type JobCounts,
  keys,
  type List,
  type Model,
  type Template,
  type Trace,
  type WalletAt,
  wholeJob,
} from '@safelight/client';
import { skipToken, useQuery } from '@tanstack/react-query';
import { useProject } from './context';

/** Lists that the log keeps right are read once: one engine looks after them all, no hook polls. */
export const LASTING = {
  staleTime: Number.POSITIVE_INFINITY,
  gcTime: Number.POSITIVE_INFINITY,
  // Patches keep untouched rows as they are; comparing 50,000 of them again at every change would only cost.
  structuralSharing: false,
} as const;

/** What the engine reads by itself; components only look. */
function useWatched<T>(queryKey: readonly unknown[]): T | undefined {
  return useQuery<T>({ queryKey, queryFn: skipToken, ...LASTING }).data;
}

export const useGenerations = (): List<Generation> | undefined =>
  useWatched<List<Generation>>(keys.generations(useProject().project));

/** Unfinished jobs and what failed lately: those that have a tile. */
export const useJobs = (): List<Job> | undefined => useWatched<List<Job>>(keys.jobs(useProject().project));

export const useWallet = (): WalletAt | undefined => useWatched<WalletAt>(keys.credits(useProject().project));

/** One and the same empty list, so that nobody who depends on it thinks it changed. */
const NO_MODELS: readonly Model[] = [];

export function useModels(): { readonly models: readonly Model[]; readonly failed: boolean } {
  const { api } = useProject();
  const { data, isError } = useQuery({
    queryKey: keys.models(),
    queryFn: async ({ signal }) =>
      (await api.call<{ items: Model[] }>('GET', '/v1/models', { signal })).data.items,
    staleTime: 5 * 60_000,
    retry: true,
  });
  return { models: data ?? NO_MODELS, failed: isError };
}

/** Jobs by status; counted on by the log. */
export function useCounts(): JobCounts | undefined {
  const { api, project } = useProject();
  return useQuery<CountsAt>({
    queryKey: keys.counts(project),
    queryFn: async ({ signal }) => {
      const { data, seq } = await api.call<JobCounts>('GET', `/v1/projects/${project}/jobs/counts`, {
        signal,
      });
      return { counts: data, seq: seq ?? 0 };
    },
    ...LASTING,
  }).data?.counts;
}

export function useTemplates(): {
  readonly templates: readonly Template[];
  readonly loaded: boolean;
  readonly reread: () => void;
} {
  const { api, project } = useProject();
  const { data, refetch } = useQuery({
    queryKey: keys.templates(project),
    queryFn: async ({ signal }) =>
      (
        await api.call<{ items: Template[] }>('GET', `/v1/projects/${project}/templates?limit=200`, {
          signal,
        })
      ).data.items,
    staleTime: 60_000,
  });
  return { templates: data ?? [], loaded: data !== undefined, reread: () => void refetch() };
}

/** The wallet's history, newest first. Read again whenever the wallet moved. */
export function useCredits(): {
  readonly wallet: WalletAt['wallet'] | undefined;
  readonly entries: readonly CreditEntry[];
} {
  const { api, project } = useProject();
  const wallet = useWallet();
  const { data } = useQuery({
    queryKey: keys.entries(project),
    queryFn: async ({ signal }) =>
      (
        await api.call<{ items: CreditEntry[] }>('GET', `/v1/projects/${project}/credits/entries?limit=100`, {
          signal,
        })
      ).data.items,
    staleTime: Number.POSITIVE_INFINITY,
  });
  return { wallet: wallet?.wallet, entries: data ?? [] };
}

export interface Asked {
  /** All that was asked for; undefined while it is being read. */
  readonly input: Job['input'] | undefined;
  /** It could not be read, and why; `reread` tries again. */
  readonly error: Error | null;
  readonly reread: () => void;
}

/** A job's whole input, for whoever asks for the same again. Costs a request only where lists cut it. */
export function useInput(job: Job | null): Asked {
  const { api } = useProject();
  const isCut = job !== null && !isWhole(job);
  const { data, error, refetch } = useQuery({
    queryKey: keys.input(job?.id ?? ''),
    queryFn: isCut ? async ({ signal }) => (await wholeJob(api, job, { signal })).input : skipToken,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 60_000,
    structuralSharing: false,
  });
  return {
    input: isCut ? data : job?.input,
    error: isCut ? error : null,
    reread: () => void refetch(),
  };
}

/** Every stage of a job with its time (D1). */
export function useTrace(job: string | null, stage: string): Trace | undefined {
  const { api } = useProject();
  return useQuery({
    queryKey: [...keys.trace(job ?? ''), stage],
    queryFn: async ({ signal }) => (await api.call<Trace>('GET', `/v1/jobs/${job}/trace`, { signal })).data,
    enabled: job !== null,
    placeholderData: (before) => before,
  }).data;
}
