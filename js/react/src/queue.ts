import { isUnfinished, JOBS, type Job, type JobCounts, keys, type List } from '@safelight/client';
import { useQuery } from '@tanstack/react-query';
import { usePart, useProject } from './context';
import { LASTING, useCounts, useJobs } from './lists';

export interface Queue {
  /** The latest jobs of every status, newest first. */
  readonly jobs: readonly Job[];
  readonly running: readonly Job[];
  readonly counts: JobCounts | undefined;
  readonly loaded: boolean;
  /** Asked to stop, and not stopped yet. */
  readonly canceling: ReadonlySet<string>;
  readonly cancel: (id: string) => Promise<void>;
  readonly retry: (id: string) => Promise<void>;
}

const RECENT = { recent: true };
const PAGE = 100;

/** The project's jobs as they go. */
export function useQueue(): Queue {
  const { project, readList, local, cancel, retry } = useProject();
  const { data } = useQuery<List<Job>>({
    queryKey: keys.jobList(project, RECENT),
    queryFn: () => readList(`/jobs?limit=${PAGE}`, 'jobs', JOBS),
    ...LASTING,
    gcTime: 5 * 60_000,
  });
  const counts = useCounts();
  const canceling = usePart(local, (value) => value.canceling);
  const jobs = data?.rows ?? [];
  return {
    jobs,
    running: jobs.filter(isUnfinished),
    counts,
    loaded: data !== undefined,
    canceling,
    cancel,
    retry,
  };
}

/** How many jobs run, for a title or a badge: costs no request. */
export const useRunning = (): number => {
  const drafts = usePart(useProject().local, (value) => value.drafts);
  return (
    drafts.filter(({ trouble }) => trouble === null).length +
    (useJobs()?.rows.filter(isUnfinished).length ?? 0)
  );
};
