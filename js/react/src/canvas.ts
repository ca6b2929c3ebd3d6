import {
  type CanvasEdge,
  type CanvasMutations,
  type CanvasNode,
  EDGES,
  type Generation,
  type Job,
  keys,
  type List,
  NO_SEQS,
  NODES,
  narrowedTo,
  overlay,
  resultOf,
  seqOf,
  type Tile,
  tileOfNode,
} from '@safelight/client';
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useMemo, useRef } from 'react';
import { useProject, useStore } from './context';
import { LASTING, useGenerations, useJobs } from './lists';

export interface Canvas {
  /** As the person should see them: with what was just done here, and what others did. */
  readonly nodes: readonly CanvasNode[];
  /** Only between nodes that are there. */
  readonly edges: readonly CanvasEdge[];
  readonly loaded: boolean;
  /** The canvas is larger than what is read of it. */
  readonly cut: boolean;
  readonly acts: CanvasMutations;
}

/** As many as one question may name. */
const IDS_MAX = 500;

export function useNodeRows(): List<CanvasNode> | undefined {
  const { project, readList } = useProject();
  return useQuery<List<CanvasNode>>({
    queryKey: keys.nodes(project),
    queryFn: () => readList('/nodes?limit=200', 'nodes', NODES, { whole: true }),
    ...LASTING,
  }).data;
}

/** Rows through the layer, and the new ones that no list holds yet. */
function useSeen<T extends { readonly id: string }>(
  list: List<T> | undefined,
  layer: Parameters<typeof overlay<T>>[0],
  made: readonly T[],
): readonly T[] {
  return useMemo(() => {
    const rows = list?.rows ?? [];
    const known = new Set(rows.map(({ id }) => id));
    const fresh = made.filter(({ id }) => !known.has(id));
    return overlay(layer, fresh.length === 0 ? rows : [...rows, ...fresh]);
  }, [list, layer, made]);
}

/** The canvas of the project (U5), kept live by the change log. */
export function useCanvas(): Canvas {
  const { project, readList, canvas } = useProject();
  const nodeList = useNodeRows();
  const edgeList = useQuery<List<CanvasEdge>>({
    queryKey: keys.edges(project),
    queryFn: () => readList('/edges?limit=200', 'edges', EDGES, { whole: true }),
    ...LASTING,
  }).data;
  const nodes = useSeen(nodeList, useStore(canvas.nodes), useStore(canvas.newNodes));
  const all = useSeen(edgeList, useStore(canvas.edges), useStore(canvas.newEdges));
  const edges = useMemo(() => {
    const there = new Set(nodes.map(({ id }) => id));
    return all.filter(({ source, target }) => there.has(source) && there.has(target));
  }, [nodes, all]);
  return {
    nodes,
    edges,
    loaded: nodeList !== undefined && edgeList !== undefined,
    cut: Boolean(nodeList?.nextCursor ?? edgeList?.nextCursor),
    acts: canvas,
  };
}

/** Results by id: those the gallery holds, and the older ones, which are read once and kept right by the log. */
export const useResults = (ids: readonly string[]): ReadonlyMap<string, Generation> => useRead(ids).rows;

interface Read {
  readonly rows: ReadonlyMap<string, Generation>;
  /** Everything that was asked for is here, or nowhere. */
  readonly settled: boolean;
}

function useRead(ids: readonly string[]): Read {
  const { project, readList, mutations } = useProject();
  const all = useGenerations();
  const wishes = useStore(mutations.generations);
  const held = useMemo(() => new Set(all?.rows.map(({ id }) => id)), [all]);
  const missing = [...new Set(ids)].filter((id) => !held.has(id)).sort();
  const asked = missing.slice(0, IDS_MAX);
  const { data: older, isPlaceholderData } = useQuery<List<Generation>>({
    queryKey: keys.narrowed(project, { ids: asked }),
    queryFn: () =>
      readList('/generations/by-ids', 'generations', narrowedTo({ ids: asked }), { body: { ids: asked } }),
    enabled: all !== undefined && asked.length > 0,
    placeholderData: keepPreviousData,
    ...LASTING,
    gcTime: 5 * 60_000,
  });
  const rows = useMemo(
    () =>
      new Map(
        overlay(wishes, [...(older?.rows ?? []), ...(all?.rows ?? [])])
          .filter(({ deleted_at }) => !deleted_at)
          .map((row) => [row.id, row]),
      ),
    [all, older, wishes],
  );
  const isRead = asked.length === 0 || (older !== undefined && !isPlaceholderData);
  return { rows, settled: all !== undefined && isRead };
}

const NO_JOBS: List<Job> = { rows: [], seqs: NO_SEQS, seq: 0, nextCursor: null };

export interface NodeTiles {
  readonly tiles: ReadonlyMap<string, Tile>;
  /** All results are here: a node without a tile shows nothing. */
  readonly settled: boolean;
}

/** What each node shows: its placeholder, its result, or why there is none. */
export function useNodeTiles(nodes: readonly CanvasNode[]): NodeTiles {
  const room = useProject();
  const { rows, settled } = useRead(nodes.flatMap((node) => resultOf(node) ?? []));
  const list = useNodeRows();
  const jobs = useJobs() ?? NO_JOBS;
  const { drafts, arrived, dismissed } = useStore(room.local);
  const before = useRef<ReadonlyMap<string, Tile>>(new Map());
  const tiles = useMemo(() => {
    const tiles = new Map<string, Tile>();
    const named = new Map(list?.rows.map((row) => [row.id, resultOf(row)]));
    for (const node of nodes) {
      const its = { nodeSeq: seqOf(list?.seqs, node.id) ?? 0, named: named.get(node.id) ?? null };
      const tile = tileOfNode({ node, ...its, rows, jobs, drafts, arrived, dismissed });
      if (tile === null) continue;
      const known = before.current.get(node.id);
      tiles.set(node.id, known && isSame(known, tile) ? known : tile);
    }
    before.current = tiles;
    return tiles;
  }, [nodes, list, rows, jobs, drafts, arrived, dismissed]);
  return { tiles, settled };
}

/** So that a node is drawn anew only when something of its own changed. */
const isSame = (a: Tile, b: Tile): boolean =>
  a.id === b.id && a.state === b.state && a.row === b.row && a.job === b.job && a.draft === b.draft;
