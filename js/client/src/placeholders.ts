import { generationIds } from './generationId';
import { type Generation, isUnfinished, type Job, type JobRequest } from './resources';
import type { Trouble } from './submission';

/**
 * F3: a placeholder is a row the server has not confirmed yet, under the id the row will have. It becomes the
 * real tile in place; there is no swap, so there is no frame with neither and none with both.
 */

/** A job we asked for and whose row we have not seen yet. */
export interface Draft {
  readonly request: JobRequest;
  readonly createdAt: string;
  /** Set when the server refused, or when nobody answered for long. */
  readonly trouble: Trouble | null;
}

export type TileState = 'pending' | 'processing' | 'ready' | 'failed' | 'canceled';

export interface Tile {
  readonly id: string;
  readonly jobId: string | null;
  readonly index: number;
  /** `ready` means that the row is here; the page says `ready` once it is painted, too. */
  readonly state: TileState;
  readonly createdAt: string;
  readonly job: Job | null;
  readonly draft: Draft | null;
  readonly row: Generation | null;
}

export interface Shelf {
  readonly rows: readonly Generation[];
  readonly jobs: readonly Job[];
  readonly drafts: readonly Draft[];
  /** Generation ids whose row was ever here: what is deleted later must not wait for itself again. */
  readonly arrived: ReadonlySet<string>;
  /** Job ids whose failed or canceled tiles the user put away. */
  readonly dismissed: ReadonlySet<string>;
}

/** Which outputs a job still owes. A finished job says itself which rows it made; before, we derive them. */
export function expectedIds(job: Pick<Job, 'id' | 'n' | 'status' | 'generations'>): readonly string[] {
  return job.status === 'completed' && job.generations.length > 0
    ? job.generations
    : generationIds(job.id, Math.max(1, job.n));
}

function stateOf(job: Job): Exclude<TileState, 'ready'> {
  switch (job.status) {
    case 'pending':
    case 'processing':
    case 'failed':
    case 'canceled':
      return job.status;
    case 'completed':
      return 'processing'; // its row has not reached us: the tile goes on as it was
  }
}

/** Every tile of the gallery, each id once; a row always wins over its placeholder. */
export function tilesOf({ rows, jobs, drafts, arrived, dismissed }: Shelf): Tile[] {
  const tiles: Tile[] = [];
  const jobById = new Map(jobs.map((job) => [job.id, job]));
  const asked = new Set([...jobById.keys(), ...drafts.map(({ request }) => request.id)]);
  // Of a gallery of thousands, only rows of these jobs can be what one of them owes.
  const here = new Set<string>();
  for (const row of rows) {
    if (row.job_id === null || asked.has(row.job_id)) here.add(row.id);
    tiles.push({
      id: row.id,
      jobId: row.job_id,
      index: row.output_index,
      state: 'ready',
      createdAt: row.created_at,
      job: (row.job_id !== null && jobById.get(row.job_id)) || null,
      draft: null,
      row,
    });
  }
  const owed = (id: string): boolean => !here.has(id) && !arrived.has(id);
  const put = (tile: Tile): void => {
    here.add(tile.id);
    tiles.push(tile);
  };
  for (const job of jobs) {
    if (!isUnfinished(job) && dismissed.has(job.id)) continue;
    const derived = generationIds(job.id, Math.max(1, job.n));
    for (const id of expectedIds(job)) {
      if (!owed(id)) continue;
      const index = Math.max(0, derived.indexOf(id));
      const base = { id, jobId: job.id, index, createdAt: job.created_at, draft: null, row: null };
      put({ ...base, state: stateOf(job), job });
    }
  }
  for (const draft of drafts) {
    const { id: jobId, n } = draft.request;
    if (jobById.has(jobId) || dismissed.has(jobId)) continue;
    generationIds(jobId, Math.max(1, n)).forEach((id, index) => {
      if (!owed(id)) return;
      const state = draft.trouble === null ? 'pending' : 'failed';
      put({ id, jobId, index, state, createdAt: draft.createdAt, job: null, draft, row: null });
    });
  }
  return tiles;
}

/** Jobs that say they are done while rows they name never came: the net under a feed that should not need one. */
export function overdue(shelf: Shelf, now: number, graceMs: number): string[] {
  const have = new Set(shelf.rows.map((row) => row.id));
  return shelf.jobs
    .filter(
      (job) => job.status === 'completed' && now - Date.parse(job.completed_at ?? job.created_at) > graceMs,
    )
    .flatMap(expectedIds)
    .filter((id) => !have.has(id) && !shelf.arrived.has(id));
}

/** What a tile draws. The placeholder goes only after the browser has painted the media over it. */
export interface Layers {
  readonly placeholder: boolean;
  readonly media: boolean;
  readonly mediaVisible: boolean;
}

export const layersOf = (hasRow: boolean, decoded: boolean, painted: boolean): Layers => ({
  placeholder: !(hasRow && decoded && painted),
  media: hasRow,
  mediaVisible: hasRow && decoded,
});
