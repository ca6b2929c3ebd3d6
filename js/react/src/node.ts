import type { CanvasNode, Generation } from '@safelight/client';
import { isUnfinished, resultOf } from '@safelight/client';
import { useNodeRows, useResults } from './canvas';
import { useJobs } from './lists';

export interface NodeView {
  readonly node: CanvasNode | undefined;
  /** What it shows; null while there is none. */
  readonly result: Generation | null;
  readonly isGenerating: boolean;
}

/** One node of the canvas: its row, and the result that landed on it (J9). */
export function useNode(id: string): NodeView {
  const node = useNodeRows()?.rows.find((each) => each.id === id);
  const shown = node === undefined ? null : resultOf(node);
  const rows = useResults(shown === null ? NONE : [shown]);
  const jobs = useJobs()?.rows ?? [];
  return {
    node,
    result: (shown !== null && rows.get(shown)) || null,
    isGenerating: jobs.some((job) => job.target?.node_id === id && isUnfinished(job)),
  };
}

const NONE: readonly string[] = [];
