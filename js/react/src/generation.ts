import {
  type Generation,
  generationIds,
  type Job,
  type JobRequest,
  keys,
  type List,
  newJobId,
  type Trouble,
} from '@safelight/client';
import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState } from 'react';
import { type Toasts, useProject, useToasts } from './context';

export type GenerateOptions = Omit<JobRequest, 'id' | 'n' | 'input'> & {
  readonly id?: string;
  readonly n?: number;
  readonly input?: JobRequest['input'];
  readonly prompt?: string;
};

/** Each is called at most once per job, and only with what is true: never before the rows are here. */
export interface GenerateCallbacks {
  readonly onComplete?: (generations: readonly Generation[], job: Job) => void;
  readonly onError?: (error: { readonly code: string; readonly message: string }, jobId: string) => void;
  readonly onInsufficientCredits?: (trouble: Trouble, jobId: string) => void;
  /** After 10 minutes: the job goes on, and its result will be in the library (F9). */
  readonly onTimeout?: (jobId: string) => void;
}

export interface Generating {
  /** Answers at once with the job's id; its tiles are in every gallery before the request leaves. */
  readonly generate: (options: GenerateOptions, callbacks?: GenerateCallbacks) => string;
  readonly isGenerating: boolean;
  /** Jobs started here that have not ended. */
  readonly jobs: readonly string[];
  readonly cancel: (jobId?: string) => Promise<void>;
}

const CREDITS = 'insufficient_credits';

export function useGeneration(): Generating {
  const room = useProject();
  const toasts = useToasts();
  const cache = useQueryClient();
  const [jobs, setJobs] = useState<readonly string[]>([]);
  const waiting = useRef(new Map<string, GenerateCallbacks>());

  // Keeps in step: the project's news, for as long as somebody here waits for a job.
  useEffect(() => {
    const rowsOf = (job: Job): Generation[] => {
      const list = cache.getQueryData<List<Generation>>(keys.generations(room.project));
      const ids = job.generations.length > 0 ? job.generations : generationIds(job.id, job.n);
      return ids.flatMap((id) => list?.rows.find((row) => row.id === id) ?? []);
    };
    const end = (id: string, act: (callbacks: GenerateCallbacks) => void): void => {
      const callbacks = waiting.current.get(id);
      if (callbacks === undefined) return;
      waiting.current.delete(id);
      setJobs((now) => now.filter((job) => job !== id));
      act(callbacks);
    };
    return room.onNews((news) => {
      switch (news.kind) {
        case 'completed':
          return end(news.job.id, ({ onComplete }) => {
            toasts?.done(news.job.id, 'Done');
            onComplete?.(rowsOf(news.job), news.job);
          });
        case 'failed':
        case 'canceled':
          return end(news.job.id, ({ onError }) => {
            const error = news.job.error ?? { code: news.kind, message: `The job was ${news.kind}.` };
            toasts?.failed(news.job.id, error.message);
            onError?.(error, news.job.id);
          });
        case 'refused':
          return end(news.draft.request.id, (callbacks) => refused(news.draft, callbacks, toasts));
        case 'late':
          if (!waiting.current.has(news.jobId)) return;
          toasts?.running(news.jobId, 'It takes longer than usual. It goes on, and will be in the library.');
          waiting.current.get(news.jobId)?.onTimeout?.(news.jobId);
          return;
        case 'finished':
          return;
      }
    });
  }, [room, cache, toasts]);

  const generate = useCallback(
    (
      { id = newJobId(room.serverNow()), n = 1, input = {}, prompt, ...rest }: GenerateOptions,
      callbacks = {},
    ) => {
      waiting.current.set(id, callbacks);
      setJobs((now) => [...now, id]);
      toasts?.running(id, 'Being made');
      room.submit({ ...rest, id, n, input: prompt === undefined ? input : { ...input, prompt } });
      return id;
    },
    [room, toasts],
  );

  const cancel = useCallback(
    async (jobId?: string) => {
      const ids = jobId === undefined ? [...waiting.current.keys()] : [jobId];
      await Promise.all(ids.map((id) => room.cancel(id)));
    },
    [room],
  );

  return { generate, isGenerating: jobs.length > 0, jobs, cancel };
}

function refused(
  { request, trouble }: { readonly request: JobRequest; readonly trouble: Trouble | null },
  { onError, onInsufficientCredits }: GenerateCallbacks,
  toasts: Toasts | null,
): void {
  if (trouble === null) return;
  toasts?.failed(request.id, trouble.message);
  if (trouble.code === CREDITS && onInsufficientCredits) onInsufficientCredits(trouble, request.id);
  else onError?.(trouble, request.id);
}
