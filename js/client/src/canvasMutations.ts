import type { Api } from './api';
import type { Cache } from './cache';
import { keys } from './keys';
import type { MutationsHost } from './mutations';
import { type Layer, type Patch, passed } from './optimism';
import type { List } from './patch';
import type { CanvasEdge, CanvasNode } from './resources';
import { seqOf } from './seqs';
import { createStore, type Store } from './store';
import { createWriter } from './writer';

/** What a person may do on the canvas: as `Mutations`, shown at once and taken back if it was refused. */
export interface CanvasMutations {
  readonly nodes: Store<Layer<CanvasNode>>;
  readonly edges: Store<Layer<CanvasEdge>>;
  /** Made here (or brought back), and not come back from the server yet. */
  readonly newNodes: Store<readonly CanvasNode[]>;
  readonly newEdges: Store<readonly CanvasEdge[]>;
  /** There before this returns. With the id of a deleted node it brings that one back. */
  create(node: NewNode): Promise<void>;
  move(id: string, x: number, y: number): Promise<void>;
  /** Merged into its data at the first level; null removes a key. */
  write(id: string, data: Readonly<Record<string, unknown>>): Promise<void>;
  /** Its edges go with it. */
  removeNode(id: string): Promise<void>;
  join(edge: NewEdge): Promise<void>;
  part(edge: string): Promise<void>;
  passed(): void;
}

export type NewNode = Pick<CanvasNode, 'id' | 'type' | 'x' | 'y' | 'data'>;
export type NewEdge = Pick<CanvasEdge, 'id' | 'source' | 'target'>;

export type CanvasHost = Pick<MutationsHost, 'learn' | 'kick' | 'at'>;

const gone = (): null => null;

const written =
  (given: Readonly<Record<string, unknown>>): Patch<CanvasNode> =>
  (node) => ({
    ...node,
    data: Object.fromEntries(
      Object.entries({ ...node.data, ...given }).filter(([, value]) => value !== null),
    ),
  });

export function createCanvasMutations(
  api: Api,
  project: string,
  cache: Cache,
  host: CanvasHost,
): CanvasMutations {
  const base = `/v1/projects/${project}`;
  const nodes = createStore<Layer<CanvasNode>>([]);
  const edges = createStore<Layer<CanvasEdge>>([]);
  const newNodes = createStore<readonly CanvasNode[]>([]);
  const newEdges = createStore<readonly CanvasEdge[]>([]);
  const { inLane, mutate } = createWriter(host.kick);

  /** The seq at which a row of the list under `key` is held. */
  const knownIn = (key: readonly unknown[]) => (id: string) =>
    seqOf((cache.getQueryData(key) as List<CanvasNode> | undefined)?.seqs, id);

  function prune(): void {
    nodes.set((layer) => passed(layer, host.at(), knownIn(keys.nodes(project))));
    edges.set((layer) => passed(layer, host.at(), knownIn(keys.edges(project))));
  }

  async function patchNode(id: string, patch: Patch<CanvasNode>, body: object): Promise<void> {
    const { data, seq } = await mutate<CanvasNode, CanvasNode>(
      nodes,
      [id],
      () => patch,
      () => api.call<CanvasNode>('PATCH', `/v1/nodes/${id}`, { body }),
    );
    if (seq !== null) host.learn('nodes', data, seq);
    prune();
  }

  /** Shown until its row is here, or the server refused it. */
  async function make<T extends { readonly id: string }>(
    table: 'nodes' | 'edges',
    pending: Store<readonly T[]>,
    layer: Store<Layer<T>>,
    row: T,
    body: object,
    lane: readonly string[],
  ): Promise<void> {
    const others = (all: readonly T[]): readonly T[] => all.filter(({ id }) => id !== row.id);
    // What was asked of one that is gone does not concern the one that takes its place.
    layer.set((all) =>
      all.some(({ entity }) => entity === row.id) ? all.filter((m) => m.entity !== row.id) : all,
    );
    pending.set((all) => [...others(all), row]);
    try {
      const { data, seq } = await inLane(lane, () => api.call<T>('POST', `${base}/${table}`, { body }));
      if (seq === null) host.kick();
      else host.learn(table, data, seq);
    } finally {
      pending.set(others);
      prune();
    }
  }

  async function remove<T>(
    store: Store<Layer<T>>,
    path: string,
    id: string,
    lane: readonly string[],
  ): Promise<void> {
    await mutate<T, null>(
      store,
      [id],
      () => gone,
      () => api.call<null>('DELETE', path),
      lane,
    );
    prune();
  }

  return {
    nodes,
    edges,
    newNodes,
    newEdges,
    create(node) {
      const at = new Date().toISOString();
      const row = { ...node, project_id: project, width: null, height: null, created_at: at, updated_at: at };
      return make('nodes', newNodes, nodes, row, node, [node.id]);
    },
    move: (id, x, y) => patchNode(id, (node) => ({ ...node, x, y }), { x, y }),
    write: (id, data) => patchNode(id, written(data), { data }),
    removeNode: (id) => remove(nodes, `/v1/nodes/${id}`, id, [id]),
    join(edge) {
      const row = { ...edge, project_id: project, data: {}, created_at: new Date().toISOString() };
      return make('edges', newEdges, edges, row, edge, [edge.id, edge.source, edge.target]);
    },
    part: (id) => remove(edges, `/v1/edges/${id}`, id, [id]),
    passed: prune,
  };
}
