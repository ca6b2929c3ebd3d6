import type { Generation } from '@safelight/client';
import { isUnfinished, keys } from '@safelight/client';
import { useQuery } from '@tanstack/react-query';
import { useProject } from './context';
import { useGenerations, useJobs } from './lists';

export interface CanvasNode {
  readonly id: string;
  readonly type: string;
  readonly x: number;
  readonly y: number;
  readonly width: number | null;
  readonly height: number | null;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface NodeView {
  readonly node: CanvasNode | undefined;
  /** What it shows; null while there is none. */
  readonly result: Generation | null;
  readonly isGenerating: boolean;
}

/** One node of the canvas: its row, and the result that landed on it (J9). */
export function useNode(id: string): NodeView {
  const { api, project } = useProject();
  const { data } = useQuery({
    queryKey: keys.nodes(project),
    queryFn: async ({ signal }) =>
      (await api.call<{ items: CanvasNode[] }>('GET', `/v1/projects/${project}/nodes?limit=200`, { signal }))
        .data.items,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const rows = useGenerations()?.rows ?? [];
  const jobs = useJobs()?.rows ?? [];
  const node = data?.find((each) => each.id === id);
  const shown = node?.data.generation_id;
  return {
    node,
    result: rows.find((row) => row.id === shown) ?? null,
    isGenerating: jobs.some((job) => job.target?.node_id === id && isUnfinished(job)),
  };
}
