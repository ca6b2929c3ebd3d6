import type { Answer, Api } from './api';
import { fullJitter } from './backoff';
import { Problem, Unreachable } from './problem';
import type { Job, JobRequest } from './resources';

/** Why a submit did not become a job. `code` is the server's, or `unreachable`. */
export interface Trouble {
  readonly code: string;
  readonly message: string;
  readonly required: number | null;
  readonly available: number | null;
}

export type Outcome =
  | {
      readonly kind: 'accepted';
      readonly job: Job;
      readonly seq: number | null;
      readonly isFirstTry: boolean;
    }
  | { readonly kind: 'refused'; readonly trouble: Trouble };

export interface SubmissionHost {
  readonly sleep: (ms: number) => Promise<void>;
  readonly random: () => number;
  /** True once the job's row came by another way (the feed): no need to ask on. */
  readonly alreadyThere?: () => Job | null;
  /** False: the browser knows that there is no network. The submit waits for it, and no try is counted. */
  readonly isOnline?: () => boolean;
}

/** About a minute of trying; after that the person decides, and a retry still carries the same id. */
export const ATTEMPTS_MAX = 7;
const PAUSE_MAX_MS = 20_000;
/** Between two looks whether the network is back. */
const OFFLINE_LOOK_MS = 500;

export const troubleOf = (error: unknown): Trouble =>
  error instanceof Problem
    ? {
        code: error.code,
        message: error.message,
        required: error.number('required'),
        available: error.number('available'),
      }
    : {
        code: 'unreachable',
        message: 'The server could not be reached. Nothing is lost: retrying cannot make it twice.',
        required: null,
        available: null,
      };

/** 429 and 5xx may pass; everything else is an answer. */
const mayPass = (error: unknown): boolean =>
  error instanceof Unreachable || (error instanceof Problem && (error.status === 429 || error.status >= 500));

/**
 * Submits one job, as often as it takes, always under the same id: the server makes it once (J2). If the last
 * try went unanswered too, the job is looked up before anybody is told that it failed.
 */
export async function submitJob(
  api: Api,
  project: string,
  request: JobRequest,
  host: SubmissionHost,
): Promise<Outcome> {
  // A template brings its own model and input; ours are only what the tile shows meanwhile.
  const body = request.template === undefined ? request : { ...request, model: undefined, input: undefined };
  let last: unknown = null;
  const accepted = ({ data, seq }: Answer<Job>): Outcome => ({
    kind: 'accepted',
    job: data,
    seq,
    isFirstTry: last === null,
  });
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    while (host.isOnline?.() === false) await host.sleep(OFFLINE_LOOK_MS);
    const job = host.alreadyThere?.() ?? null;
    if (job !== null) return { kind: 'accepted', job, seq: null, isFirstTry: false };
    try {
      return accepted(await api.call<Job>('POST', `/v1/projects/${project}/jobs`, { body }));
    } catch (error) {
      last = error;
      if (!mayPass(error)) return { kind: 'refused', trouble: troubleOf(error) };
      const asked = error instanceof Problem ? (error.retryAfterS ?? 0) * 1000 : 0;
      const pause = Math.max(asked, 300 + fullJitter(attempt, host.random(), 500, PAUSE_MAX_MS));
      if (attempt < ATTEMPTS_MAX - 1) await host.sleep(Math.min(pause, PAUSE_MAX_MS));
    }
  }
  try {
    return accepted(await api.call<Job>('GET', `/v1/jobs/${request.id}?leave_out=input`));
  } catch {
    return { kind: 'refused', trouble: troubleOf(last) };
  }
}
