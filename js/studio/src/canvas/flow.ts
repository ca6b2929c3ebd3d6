import type { CanvasEdge, CanvasNode, Generation, Tile } from '@safelight/react';
import type { Edge, Node } from '@xyflow/react';
import { WIDTH } from './wiring';

/** What the change log says, laid over what the hand does just now. Pure. */

/** Everything that one node draws. */
export interface Seen extends Record<string, unknown> {
  readonly row: CanvasNode;
  readonly tile: Tile | null;
  /** What the nodes before it say. */
  readonly prompt: string;
  /** What the nodes before it show. */
  readonly start: Generation | null;
  /** Said to a screen reader, and on the map. */
  readonly label: string;
}

export type FlowNode = Node<Seen>;

/** Before it was measured: near enough for the map and the first fit. */
const HEIGHT_GUESS = 300;

const sameSeen = (a: Seen, b: Seen): boolean =>
  a.row === b.row && a.tile === b.tile && a.prompt === b.prompt && a.start === b.start && a.label === b.label;

/**
 * Every node where it belongs: mine while I hold it, where the log puts it otherwise. A held one stays even if it was
 * deleted meanwhile, until it is let go. What did not change stays the very same object.
 */
export function mergeNodes(
  before: readonly FlowNode[],
  seen: readonly Seen[],
  held: ReadonlySet<string>,
): FlowNode[] {
  const known = new Map(before.map((node) => [node.id, node]));
  const merged = seen.map((data): FlowNode => {
    const { id, x, y } = data.row;
    const old = known.get(id);
    known.delete(id);
    if (old === undefined) {
      return {
        id,
        type: 'node',
        position: { x, y },
        data,
        ariaLabel: data.label,
        initialWidth: WIDTH,
        initialHeight: HEIGHT_GUESS,
      };
    }
    const moved = !held.has(id) && (old.position.x !== x || old.position.y !== y);
    if (!moved && sameSeen(old.data, data)) return old;
    return { ...old, data, ariaLabel: data.label, ...(moved ? { position: { x, y } } : {}) };
  });
  return [...merged, ...[...known.values()].filter(({ id }) => held.has(id))];
}

/** Edges, with what is chosen among them. `busy`: something is on its way to that node. */
export function mergeEdges(
  before: readonly Edge[],
  rows: readonly CanvasEdge[],
  labelOf: (id: string) => string,
  busy: ReadonlySet<string>,
): Edge[] {
  const known = new Map(before.map((edge) => [edge.id, edge]));
  return rows.map(({ id, source, target }) => {
    const className = busy.has(target) ? 'busy' : 'idle';
    const ariaLabel = `From ${labelOf(source)} to ${labelOf(target)}`;
    const old = known.get(id);
    if (old?.className === className && old.ariaLabel === ariaLabel) return old;
    return { ...old, id, source, target, className, ariaLabel };
  });
}
