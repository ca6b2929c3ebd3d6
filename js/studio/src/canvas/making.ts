import {
  type Canvas,
  type CanvasEdge,
  type CanvasNode,
  type Generation,
  type Model,
  newJobId,
  type Project,
} from '@safelight/react';
import { toast } from 'sonner';
import { failing } from '../acts';
import { jobRequest } from '../request';
import { inputsOf, kindOf, lacking, mayJoin, modelOf, modelsFor, type NodeKind, placeFor } from './wiring';

/** The canvas at this moment, as the acts below read it. */
export interface Scene {
  readonly nodes: readonly CanvasNode[];
  readonly edges: readonly CanvasEdge[];
  readonly models: readonly Model[];
  readonly shown: (node: CanvasNode) => Generation | null;
  readonly isBusy: (id: string) => boolean;
}

export type Place = Pick<CanvasNode, 'id' | 'x' | 'y'>;

export interface Making {
  /** Beside `from` and joined to it, where that makes sense; it is there before this returns. */
  readonly create: (kind: NodeKind, from: Place | null, center: { x: number; y: number }) => Place;
  readonly join: (source: string, target: string) => void;
  readonly remove: (nodes: readonly string[], edges: readonly string[]) => void;
  readonly undo: () => void;
  /** Of a prompt: everything that is joined to it, or a first picture. */
  readonly generate: (id: string) => void;
}

const UNDO_MS = 8_000;
const UNDOS_MAX = 50;

export function createMaking(room: Project, acts: Canvas['acts'], scene: () => Scene): Making {
  const making = new Map<string, Promise<unknown>>();
  const undos: (() => void)[] = [];

  function put(node: Pick<CanvasNode, 'id' | 'type' | 'x' | 'y' | 'data'>): Promise<void> {
    const made = acts.create(node).catch((error: unknown) => {
      failing('The node was not made')(error);
      throw error;
    });
    making.set(node.id, made);
    const over = (): boolean => making.delete(node.id);
    made.then(over, over);
    return made;
  }

  const join = (source: string, target: string): void => {
    const { nodes, edges } = scene();
    if (!mayJoin(source, target, nodes, edges)) return;
    acts.join({ id: newJobId(), source, target }).catch(failing('Not joined'));
  };

  function create(kind: NodeKind, from: Place | null, center: { x: number; y: number }): Place {
    const beside = kind === 'prompt' ? null : from;
    const made = { id: newJobId(), ...placeFor(scene().nodes, beside, center) };
    void put({ ...made, type: kind, data: {} }).catch(() => undefined);
    // Both ends are there or on their way: the lanes keep the order.
    if (beside !== null)
      acts.join({ id: newJobId(), source: beside.id, target: made.id }).catch(failing('Not joined'));
    return made;
  }

  function remove(nodeIds: readonly string[], edgeIds: readonly string[]): void {
    const { nodes, edges } = scene();
    const gone = new Set(nodeIds);
    const lost = nodes.filter(({ id }) => gone.has(id));
    const hanging = edges.filter(({ source, target }) => gone.has(source) || gone.has(target));
    const cut = edges.filter((edge) => edgeIds.includes(edge.id) && !hanging.includes(edge));
    if (lost.length + cut.length === 0) return;
    let undone = false;
    const undo = (): void => {
      if (undone) return;
      undone = true;
      toast.dismiss(notice);
      for (const { id, type, x, y, data } of lost) void put({ id, type, x, y, data }).catch(() => undefined);
      for (const { id, source, target } of [...hanging, ...cut]) {
        acts.join({ id, source, target }).catch(failing('Not joined again'));
      }
    };
    for (const { id } of lost) acts.removeNode(id).catch(failing('Not deleted'));
    for (const { id } of cut) acts.part(id).catch(failing('Not deleted'));
    undos.push(undo);
    undos.splice(0, undos.length - UNDOS_MAX);
    const title =
      lost.length > 1 ? `${lost.length} nodes deleted` : lost.length === 1 ? 'Node deleted' : 'Unjoined';
    const notice = toast(title, { duration: UNDO_MS, action: { label: 'Undo', onClick: undo } });
  }

  async function makeOn(node: CanvasNode, prompt?: string): Promise<void> {
    const { nodes, edges, models, shown } = scene();
    const kind = kindOf(node);
    if (kind === null || kind === 'prompt' || scene().isBusy(node.id)) return;
    const found = inputsOf(node, new Map(nodes.map((each) => [each.id, each])), edges, shown);
    const inputs = prompt === undefined ? found : { ...found, prompt };
    const model = modelOf(node, modelsFor(kind, models), inputs.start);
    const why = lacking(kind, model, inputs);
    if (model === undefined || why !== null) {
      toast(why);
      return;
    }
    await making.get(node.id)?.catch(() => undefined); // the server knows the node before it hears of the job
    const wish = { prompt: inputs.prompt, n: 1, fields: {}, start: inputs.start?.id ?? null };
    room.submit({ ...jobRequest(model, wish, room.serverNow()), target: { node_id: node.id } });
  }

  function generate(id: string): void {
    const { nodes, edges } = scene();
    const node = nodes.find((each) => each.id === id);
    if (node === undefined) return;
    if (kindOf(node) !== 'prompt') {
      void makeOn(node);
      return;
    }
    const words = inputsOf(node, new Map(), [], () => null).prompt;
    if (words === '') {
      toast('Write a prompt first');
      return;
    }
    const joined = new Set(edges.filter(({ source }) => source === id).map(({ target }) => target));
    const targets = nodes.filter((each) => joined.has(each.id) && kindOf(each) !== null);
    for (const target of targets) void makeOn(target);
    if (targets.length > 0) return;
    const made = create('picture', node, node);
    void makeOn({ ...node, ...made, type: 'picture', data: {} }, words);
  }

  return { create, join, remove, generate, undo: () => undos.pop()?.() };
}
