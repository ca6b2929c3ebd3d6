import type { Api } from './api';
import type { Job } from './resources';

/** An input above 64 kB is cut in lists and in entries of the log: its files are not in it. */
export const isWhole = (job: Pick<Job, 'left_out'>): boolean => (job.left_out ?? []).length === 0;

/** A job with everything that was asked for: for whoever asks for the same again. Rejects as any request does. */
export const wholeJob = async (api: Api, job: Job, options?: { signal: AbortSignal }): Promise<Job> =>
  isWhole(job) ? job : (await api.call<Job>('GET', `/v1/jobs/${job.id}`, options)).data;

/** The same job told anew: what somebody has read whole is not taken back. A job's input never changes. */
export const keepingInput = (row: Job, known: Job | undefined): Job =>
  isWhole(row) || known === undefined || !isWhole(known) ? row : { ...row, input: known.input, left_out: [] };
