import type { Answer, Api } from './api';
import { appendPage, JOBS, type List, listOf, type Page } from './patch';
import type { WalletAt } from './patcher';
import { type Generation, isUnfinished, type Job, type Wallet } from './resources';
import { NO_SEQS } from './seqs';

const UNFINISHED_MAX = 200;
const FAILED_MAX = 20;
/** Failures older than this are history, not news. */
const FAILED_NEWS_MS = 24 * 3600 * 1000;

const isNews = (job: Job, now: number): boolean =>
  isUnfinished(job) || now - Date.parse(job.completed_at ?? job.created_at) < FAILED_NEWS_MS;

/** The jobs that have a tile: the unfinished ones, and those that failed lately. */
export async function readJobs(api: Api, project: string, now: number): Promise<List<Job>> {
  // Pending before processing: a job that moves on between the two reads is in both, never in neither.
  const wanted = [
    ['pending', UNFINISHED_MAX],
    ['processing', UNFINISHED_MAX],
    ['failed', FAILED_MAX],
  ] as const;
  let merged: List<Job> | null = null;
  for (const [status, limit] of wanted) {
    const path = `/v1/projects/${project}/jobs?status=${status}&limit=${limit}`;
    const { data, seq } = await api.call<Page<Job>>('GET', path);
    const page = { items: data.items.filter((job) => isNews(job, now)), next_cursor: null };
    merged = merged === null ? listOf(page, seq ?? 0) : appendPage(merged, page, seq ?? 0, JOBS);
  }
  return merged ?? { rows: [], seqs: NO_SEQS, seq: 0, nextCursor: null };
}

interface Rest {
  readonly list: List<Generation>;
  readonly wallet: WalletAt;
  readonly missing: readonly Answer<Job>[];
}

/** Results, the wallet, and jobs that the lists of jobs do not name any more; after the jobs (see `readJobs`). */
export async function readRest(
  api: Api,
  project: string,
  limit: number,
  missingIds: readonly string[],
): Promise<Rest> {
  const base = `/v1/projects/${project}`;
  const [results, wallet, ...missing] = await Promise.all([
    api.call<Page<Generation>>('GET', `${base}/generations?limit=${limit}`),
    api.call<Wallet>('GET', `${base}/credits`),
    // One that was not accepted yet is not there: no matter.
    ...missingIds.map((id) => api.call<Job>('GET', `/v1/jobs/${id}?leave_out=input`).catch(() => null)),
  ]);
  return {
    list: listOf(results.data, results.seq ?? 0),
    wallet: { wallet: wallet.data, seq: wallet.seq ?? 0 },
    missing: missing.filter((found) => found !== null),
  };
}
