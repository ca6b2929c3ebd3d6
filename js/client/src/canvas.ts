import type { List } from './patch';
import { type Draft, expectedIds, type Tile, tilesOf } from './placeholders';
import { type CanvasNode, type Generation, isUnfinished, type Job } from './resources';
import { seqOf } from './seqs';

/** Which tile a node of the canvas shows (J9, U5). Pure. */

export interface NodeShelf {
  readonly node: CanvasNode;
  /** The seq at which the node's row is true, and the result that it names: `node` may be of a moment before. */
  readonly nodeSeq: number;
  readonly named: string | null;
  /** Results that are loaded, by id. */
  readonly rows: ReadonlyMap<string, Generation>;
  readonly jobs: List<Job>;
  readonly drafts: readonly Draft[];
  readonly arrived: ReadonlySet<string>;
  readonly dismissed: ReadonlySet<string>;
}

const aims = (node: string, target: Job['target']): boolean => target?.node_id === node;
const newest = (tiles: readonly Tile[]): Tile | null =>
  tiles.reduce<Tile | null>(
    (best, tile) => (best === null || Date.parse(tile.createdAt) >= Date.parse(best.createdAt) ? tile : best),
    null,
  );

export const resultOf = (node: CanvasNode): string | null =>
  typeof node.data.generation_id === 'string' ? node.data.generation_id : null;

/**
 * What is on its way comes first, since it will take the place; then what landed. A failure is shown for as long as
 * nothing newer landed and nobody put it away. Entries of one transaction come one after the other: a result that is
 * here, of a job that ended after the node's row as we know it, has landed though the node does not name it yet.
 */
export function tileOfNode({
  node,
  nodeSeq,
  named,
  rows,
  jobs,
  drafts,
  arrived,
  dismissed,
}: NodeShelf): Tile | null {
  const mine = jobs.rows.filter((job) => aims(node.id, job.target));
  const unsent = drafts.filter(({ request }) => aims(node.id, request.target));
  const shown = resultOf(node) ?? named;
  const justEnded = mine.filter((job) => isUnfinished(job) || (seqOf(jobs.seqs, job.id) ?? 0) > nodeSeq);
  const ids = new Set([...(shown === null ? [] : [shown]), ...justEnded.flatMap(expectedIds)]);
  const landed = [...ids].flatMap((id) => rows.get(id) ?? []);
  const tiles = tilesOf({ rows: landed, jobs: mine, drafts: unsent, arrived, dismissed });
  const coming = tiles.filter(({ state }) => state === 'pending' || state === 'processing');
  const ready = tiles.filter(({ state }) => state === 'ready');
  const result = newest(ready.filter(({ id }) => id !== shown)) ?? ready[0] ?? null;
  const ended = newest(tiles.filter(({ state }) => state === 'failed' || state === 'canceled'));
  if (coming.length > 0) return newest(coming);
  const asked = (tile: Tile): number => Date.parse(tile.job?.created_at ?? tile.createdAt);
  return ended !== null && (result === null || asked(ended) > asked(result)) ? ended : result;
}
