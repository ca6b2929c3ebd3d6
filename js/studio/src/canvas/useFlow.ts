import type { CanvasEdge, CanvasMutations, CanvasNode, Tile } from '@safelight/react';
import {
  applyEdgeChanges,
  applyNodeChanges,
  type Edge,
  type EdgeChange,
  type NodeChange,
} from '@xyflow/react';
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { failing } from '../acts';
import { type FlowNode, mergeEdges, mergeNodes, type Seen } from './flow';
import { inputsOf, kindOf, NAMES, textOf } from './wiring';

/** After the last key of a move by keyboard, ms. */
const KEYS_PAUSE_MS = 400;
const LABEL_LENGTH = 60;

const STATES: Readonly<Record<Tile['state'], string>> = {
  pending: 'waiting',
  processing: 'being made',
  ready: 'ready',
  failed: 'failed',
  canceled: 'canceled',
};

function labelOf(row: CanvasNode, tile: Tile | null, prompt: string): string {
  const kind = kindOf(row);
  const words = (kind === 'prompt' ? textOf(row) : prompt).replaceAll('\n', ' ').slice(0, LABEL_LENGTH);
  const state = kind === 'prompt' ? '' : tile === null ? ', empty' : `, ${STATES[tile.state]}`;
  return `${kind === null ? row.type : NAMES[kind]}${words && `: ${words}`}${state}`;
}

/** What each node draws; the same object for as long as nothing of its own changed. */
export function useSeen(
  nodes: readonly CanvasNode[],
  edges: readonly CanvasEdge[],
  tiles: ReadonlyMap<string, Tile>,
): readonly Seen[] {
  return useMemo(() => {
    const byId = new Map(nodes.map((node) => [node.id, node]));
    const into = new Map<string, CanvasEdge[]>();
    for (const edge of edges) into.set(edge.target, [...(into.get(edge.target) ?? []), edge]);
    return nodes.map((row) => {
      const tile = tiles.get(row.id) ?? null;
      const inputs = inputsOf(row, byId, into.get(row.id) ?? [], ({ id }) => tiles.get(id)?.row ?? null);
      return { row, tile, ...inputs, label: labelOf(row, tile, inputs.prompt) };
    });
  }, [nodes, edges, tiles]);
}

type Then = (place: { readonly x: number; readonly y: number }) => void;

export type Flow = ReturnType<typeof useFlow>;

/** xyflow's side of the canvas: what is held in the hand, measured and chosen here, merged with what the log says. */
export function useFlow(
  seen: readonly Seen[],
  edgeRows: readonly CanvasEdge[],
  acts: Pick<CanvasMutations, 'move'>,
) {
  const held = useRef(new Set<string>());
  const dragged = useRef(new Set<string>());
  const byKeys = useRef<{ places: Map<string, { x: number; y: number }>; timer: number | null }>({
    places: new Map(),
    timer: null,
  });
  const rows = useRef(seen);
  rows.current = seen;
  const awaited = useRef<{ id: string; then: Then } | null>(null);
  const [nodes, setNodes] = useState<FlowNode[]>(() => mergeNodes([], seen, held.current));
  const [edges, setEdges] = useState<Edge[]>([]);

  // Before the paint: a node is never seen where it is no more.
  useLayoutEffect(() => {
    const wanted = awaited.current;
    setNodes((now) => {
      const merged = mergeNodes(now, seen, held.current);
      if (wanted === null || !merged.some(({ id }) => id === wanted.id)) return merged;
      return merged.map((node) => ({ ...node, selected: node.id === wanted.id }));
    });
    const row = wanted && seen.find((each) => each.row.id === wanted.id)?.row;
    if (wanted && row) {
      awaited.current = null;
      wanted.then({ x: row.x, y: row.y });
    }
  }, [seen]);

  useLayoutEffect(() => {
    const labels = new Map(seen.map(({ row, label }) => [row.id, label]));
    const busy = new Set(
      seen.flatMap(({ row, tile }) =>
        tile?.state === 'pending' || tile?.state === 'processing' ? row.id : [],
      ),
    );
    setEdges((now) => mergeEdges(now, edgeRows, (id) => labels.get(id) ?? '', busy));
  }, [edgeRows, seen]);

  const settle = useCallback(
    (places: Iterable<readonly [string, { readonly x: number; readonly y: number }]>) => {
      const there = new Set(rows.current.map(({ row }) => row.id));
      for (const [id, { x, y }] of places) {
        // Shown before it is let go; one that was deleted meanwhile goes now.
        if (there.has(id)) acts.move(id, x, y).catch(failing('Not moved'));
        else setNodes((now) => now.filter((node) => node.id !== id));
        held.current.delete(id);
      }
    },
    [acts],
  );

  const settleKeys = useCallback(() => {
    const { places, timer } = byKeys.current;
    if (timer !== null) window.clearTimeout(timer);
    byKeys.current = { places: new Map(), timer: null };
    settle(places);
  }, [settle]);
  useEffect(() => settleKeys, [settleKeys]);

  const onNodesChange = useCallback(
    (changes: NodeChange<FlowNode>[]) => {
      setNodes((now) =>
        applyNodeChanges(
          changes.filter(({ type }) => type !== 'remove'),
          now,
        ),
      );
      const landed: [string, { x: number; y: number }][] = [];
      for (const change of changes) {
        if (change.type !== 'position' || change.position === undefined) continue;
        const { id, position } = change;
        held.current.add(id);
        if (change.dragging) dragged.current.add(id);
        else if (dragged.current.delete(id)) landed.push([id, position]);
        else {
          byKeys.current.places.set(id, position);
          if (byKeys.current.timer !== null) window.clearTimeout(byKeys.current.timer);
          byKeys.current.timer = window.setTimeout(settleKeys, KEYS_PAUSE_MS);
        }
      }
      settle(landed);
    },
    [settle, settleKeys],
  );
  const onEdgesChange = useCallback(
    (changes: EdgeChange[]) =>
      setEdges((now) =>
        applyEdgeChanges(
          changes.filter(({ type }) => type !== 'remove'),
          now,
        ),
      ),
    [],
  );

  return {
    nodes,
    edges,
    onNodesChange,
    onEdgesChange,
    /** Chooses the one that is just being made, as soon as it is there. */
    choose(id: string, then: Then) {
      awaited.current = { id, then };
    },
  };
}
