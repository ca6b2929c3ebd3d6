import type { Api } from './api';
import { appendPage, JOBS, type List, listOf, type Page } from './patch';
import { isUnfinished, type Job } from './resources';

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
  return merged ?? { rows: [], seqs: {}, seq: 0, nextCursor: null };
}
