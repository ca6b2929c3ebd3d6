import type { Change, Generation, Job } from '../src';

export const JOB_ID = '01970000-0000-7000-8000-000000000001';

export const aJob = (over: Partial<Job> = {}): Job => ({
  id: JOB_ID,
  project_id: 'p',
  status: 'pending',
  stage: 'queued',
  model: 'local/picture',
  provider: 'local',
  attempt: 1,
  input: { prompt: 'a red fox' },
  n: 1,
  progress: null,
  credits: { quoted: 1, charged: null },
  error: null,
  generations: [],
  created_at: '2026-11-21T08:00:00Z',
  submitted_at: null,
  completed_at: null,
  ...over,
});

export const aGeneration = (id: string, over: Partial<Generation> = {}): Generation => ({
  id,
  project_id: 'p',
  job_id: JOB_ID,
  output_index: 0,
  kind: 'image',
  mime: 'image/png',
  width: 100,
  height: 100,
  duration_s: null,
  bytes: 1,
  thumbhash: null,
  urls: { original: `/media/${id}` },
  starred: false,
  prompt: 'a red fox',
  model: 'local/picture',
  created_at: '2026-11-21T08:00:05Z',
  deleted_at: null,
  ...over,
});

export const aChange = (seq: number, row: { id: string } | null, over: Partial<Change> = {}): Change => ({
  seq,
  at: '2026-11-21T08:00:06Z',
  table: 'generations',
  op: 'insert',
  id: row?.id ?? 'x',
  row,
  old: null,
  keys: [],
  ...over,
});
