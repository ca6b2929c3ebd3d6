import type { CanvasEdge, CanvasNode, Generation, Model } from '@safelight/react';
import { takesStart, wantsPrompt } from '../request';

/** What the kinds of nodes are, and what they take from each other along the edges. Pure. */

export const KINDS = ['prompt', 'picture', 'video', 'edit'] as const;
export type NodeKind = (typeof KINDS)[number];

export const NAMES: Readonly<Record<NodeKind, string>> = {
  prompt: 'Prompt',
  picture: 'Picture',
  video: 'Video',
  edit: 'Edit',
};

/** Canvas units. */
export const WIDTH = 264;
const GAP = 72;
const STEP = 48;
/** As much room as the tallest usual node needs: a picture with words under it. */
const HEIGHT = 450;

/** Null: some program's own kind. It is shown, joined and moved like the others. */
export const kindOf = ({ type }: Pick<CanvasNode, 'type'>): NodeKind | null =>
  KINDS.find((kind) => kind === type) ?? null;

export const textOf = ({ data }: Pick<CanvasNode, 'data'>): string =>
  typeof data.text === 'string' ? data.text : '';

/** Whether an edge from one to the other means something: a prompt is where things begin, and once is enough. */
export function mayJoin(
  source: string | null,
  target: string | null,
  nodes: readonly CanvasNode[],
  edges: readonly CanvasEdge[],
): boolean {
  if (source === null || target === null || source === target) return false;
  const to = nodes.find(({ id }) => id === target);
  return (
    to !== undefined &&
    kindOf(to) !== 'prompt' &&
    nodes.some(({ id }) => id === source) &&
    !edges.some((edge) => edge.source === source && edge.target === target)
  );
}

export interface Inputs {
  readonly prompt: string;
  readonly start: Generation | null;
}

/** What flows into a node: the words of the prompts before it (top to bottom), its own, and the first picture. */
export function inputsOf(
  node: CanvasNode,
  nodes: ReadonlyMap<string, CanvasNode>,
  edges: readonly CanvasEdge[],
  shown: (node: CanvasNode) => Generation | null,
): Inputs {
  const before = edges
    .filter(({ target }) => target === node.id)
    .flatMap(({ source }) => nodes.get(source) ?? [])
    .sort((a, b) => a.y - b.y || (a.id < b.id ? -1 : 1));
  const words = before.filter((each) => kindOf(each) === 'prompt').map(textOf);
  const pictures = before.flatMap((each) => shown(each) ?? []).filter(({ kind }) => kind === 'image');
  return {
    prompt: [...words, textOf(node)]
      .map((text) => text.trim())
      .filter(Boolean)
      .join('\n'),
    start: pictures[0] ?? null,
  };
}

/** The models that make what such a node shows. */
export function modelsFor(kind: NodeKind, models: readonly Model[]): readonly Model[] {
  const able = models.filter(({ enabled }) => enabled);
  switch (kind) {
    case 'prompt':
      return [];
    case 'picture':
      return able.filter((model) => model.kind === 'image' && !model.needs_start);
    case 'video':
      return able.filter((model) => model.kind === 'video');
    case 'edit':
      return able.filter((model) => model.kind === 'image' && takesStart(model));
  }
}

/**
 * The chosen one if it fits; else one that can begin with what there is. A picture that was joined to a clip or an edit
 * is meant: then the cheapest that begins with it.
 */
export function modelOf(
  node: Pick<CanvasNode, 'type' | 'data'>,
  fitting: readonly Model[],
  start: Generation | null,
): Model | undefined {
  const chosen = fitting.find(({ id }) => id === node.data.model);
  if (chosen !== undefined) return chosen;
  const beginning = start === null || kindOf(node) === 'picture' ? [] : fitting.filter(takesStart);
  const [cheapest] = [...beginning].sort((a, b) => a.price.amount - b.price.amount);
  return cheapest ?? fitting.find((model) => !model.needs_start) ?? fitting[0];
}

/** Why nothing can be made yet, in words; null: it can. */
export function lacking(kind: NodeKind, model: Model | undefined, { prompt, start }: Inputs): string | null {
  if (model === undefined) return 'No model here makes this';
  if (start === null && (kind === 'edit' || model.needs_start)) return 'Join a picture to start from';
  if (prompt === '' && wantsPrompt(model))
    return kind === 'edit' ? 'Say what should change' : 'Join a prompt';
  return null;
}

/** A free place beside `from`, or at `center`: nodes never cover each other when they are made. */
export function placeFor(
  nodes: readonly Pick<CanvasNode, 'x' | 'y'>[],
  from: Pick<CanvasNode, 'x' | 'y'> | null,
  center: { readonly x: number; readonly y: number },
): { x: number; y: number } {
  const x = Math.round(from === null ? center.x - WIDTH / 2 : from.x + WIDTH + GAP);
  let y = Math.round(from === null ? center.y - 150 : from.y);
  const taken = (): boolean =>
    nodes.some((node) => Math.abs(node.x - x) < WIDTH + 16 && Math.abs(node.y - y) < HEIGHT);
  while (taken()) y += STEP;
  return { x, y };
}
