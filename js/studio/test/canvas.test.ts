import { describe, expect, it } from 'vitest';
import type { CanvasNode, Generation, Model } from '../../client/src';
import { aGeneration } from '../../client/test/builders';
import { mergeEdges, mergeNodes, type Seen } from '../src/canvas/flow';
import { inputsOf, lacking, mayJoin, modelOf, modelsFor, placeFor, WIDTH } from '../src/canvas/wiring';

const aNode = (id: string, over: Partial<CanvasNode> = {}): CanvasNode => ({
  id,
  project_id: 'p',
  type: 'picture',
  x: 0,
  y: 0,
  width: null,
  height: null,
  data: {},
  created_at: '2026-11-21T08:00:00Z',
  updated_at: '2026-11-21T08:00:00Z',
  ...over,
});
const anEdge = (source: string, target: string) => ({
  id: `${source}-${target}`,
  project_id: 'p',
  source,
  target,
  data: {},
  created_at: '2026-11-21T08:00:00Z',
});
const seen = (row: CanvasNode): Seen => ({ row, tile: null, prompt: '', start: null, label: row.id });
const NOBODY: ReadonlySet<string> = new Set();

describe('places of nodes', () => {
  const before = mergeNodes([], [seen(aNode('a')), seen(aNode('b', { x: 9 }))], NOBODY);

  it('are mine while I hold the node, and theirs otherwise', () => {
    const mine = before.map((node) => (node.id === 'a' ? { ...node, position: { x: 50, y: 50 } } : node));
    const theirs = [seen(aNode('a', { x: -7 })), seen(aNode('b', { x: 30 }))];
    const held = mergeNodes(mine, theirs, new Set(['a']));
    expect(held.map(({ position }) => position.x)).toEqual([50, 30]);
    expect(held[0]?.data.row.x).toBe(-7);
    const free = mergeNodes(held, theirs, NOBODY);
    expect(free.map(({ position }) => position.x)).toEqual([-7, 30]);
  });

  it('keep what was chosen and measured here, and untouched nodes stay the same object', () => {
    const [a, b] = before;
    const chosen = before.map((node) => ({ ...node, selected: true, measured: { width: 1, height: 2 } }));
    const rows = [a, b].flatMap((node) => (node ? [node.data] : []));
    const same = mergeNodes(chosen, rows, NOBODY);
    expect(same[0]).toBe(chosen[0]);
    const moved = mergeNodes(chosen, [seen(aNode('a', { x: 4 })), ...rows.slice(1)], NOBODY);
    expect(moved[0]).toMatchObject({ selected: true, measured: { width: 1 }, position: { x: 4 } });
    expect(moved[1]).toBe(chosen[1]);
  });

  it('a node that was deleted elsewhere stays in the hand that holds it, and goes when it is let go', () => {
    const rows = [seen(aNode('b', { x: 9 }))];
    const held = mergeNodes(before, rows, new Set(['a']));
    expect(held.map(({ id }) => id).sort()).toEqual(['a', 'b']);
    expect(mergeNodes(held, rows, NOBODY).map(({ id }) => id)).toEqual(['b']);
  });

  it('are free when a node is made: nothing covers anything', () => {
    const taken = [aNode('a'), aNode('b', { x: WIDTH + 72 })];
    const place = placeFor(taken, aNode('a'), { x: 0, y: 0 });
    expect(place.x).toBe(WIDTH + 72);
    expect(place.y).toBeGreaterThanOrEqual(450);
  });
});

describe('edges', () => {
  it('keep whether they are chosen, and say when something is on its way along them', () => {
    const [edge] = mergeEdges([], [anEdge('a', 'b')], (id) => id.toUpperCase(), NOBODY);
    expect(edge).toMatchObject({ ariaLabel: 'From A to B', className: 'idle' });
    const chosen = edge ? [{ ...edge, selected: true }] : [];
    expect(mergeEdges(chosen, [anEdge('a', 'b')], (id) => id.toUpperCase(), NOBODY)[0]).toBe(chosen[0]);
    const busy = mergeEdges(chosen, [anEdge('a', 'b')], (id) => id.toUpperCase(), new Set(['b']));
    expect(busy[0]).toMatchObject({ selected: true, className: 'busy' });
  });

  it('go once from one to another, and never into a prompt', () => {
    const nodes = [aNode('p', { type: 'prompt' }), aNode('a'), aNode('b')];
    const edges = [anEdge('p', 'a')];
    expect(mayJoin('a', 'b', nodes, edges)).toBe(true);
    expect(mayJoin('p', 'a', nodes, edges)).toBe(false);
    expect(mayJoin('a', 'p', nodes, edges)).toBe(false);
    expect(mayJoin('a', 'a', nodes, edges)).toBe(false);
    expect(mayJoin('a', 'gone', nodes, edges)).toBe(false);
    expect(mayJoin('a', null, nodes, edges)).toBe(false);
  });
});

describe('what flows into a node', () => {
  const first = aNode('p1', { type: 'prompt', y: 0, data: { text: ' A fox ' } });
  const second = aNode('p2', { type: 'prompt', y: 90, data: { text: 'at night' } });
  const picture = aNode('a');
  const edit = aNode('e', { type: 'edit', data: { text: 'in snow' } });
  const all = new Map([first, second, picture, edit].map((node) => [node.id, node]));
  const row = aGeneration('g');
  const shown = (node: CanvasNode): Generation | null => (node.id === 'a' ? row : null);

  it('is the words above it from top to bottom, then its own, and the first picture', () => {
    const edges = [anEdge('p2', 'e'), anEdge('p1', 'e'), anEdge('a', 'e')];
    expect(inputsOf(edit, all, edges, shown)).toEqual({ prompt: 'A fox\nat night\nin snow', start: row });
  });

  it('is no clip to start a picture from, and nothing of nodes that are gone', () => {
    const clip = aGeneration('v', { kind: 'video' });
    const edges = [anEdge('a', 'e'), anEdge('gone', 'e')];
    expect(inputsOf(edit, all, edges, () => clip)).toEqual({ prompt: 'in snow', start: null });
  });
});

describe('models of a node', () => {
  const model = (id: string, over: Partial<Model>): Model => ({
    id,
    name: id,
    provider: 'local',
    kind: 'image',
    description: '',
    price: { unit: 'flat', amount: 1 },
    max_outputs: 1,
    fields: [{ name: 'prompt', type: 'text', label: 'Prompt', required: true }],
    start_field: null,
    needs_start: false,
    eta_s: 1,
    enabled: true,
    ...over,
  });
  const plain = model('plain', {});
  const editing = model('editing', { start_field: 'image', needs_start: true });
  const moving = model('moving', { kind: 'video', start_field: 'image', needs_start: true });
  const dear = model('dear', { ...moving, id: 'dear', price: { unit: 'flat', amount: 900 } });
  const clip = model('clip', { kind: 'video' });
  const models = [plain, editing, dear, moving, clip, model('off', { enabled: false })];
  const names = (found: readonly Model[]): string[] => found.map(({ id }) => id);

  it('are those that make what it shows', () => {
    expect(names(modelsFor('picture', models))).toEqual(['plain']);
    expect(names(modelsFor('edit', models))).toEqual(['editing']);
    expect(names(modelsFor('video', models))).toEqual(['dear', 'moving', 'clip']);
    expect(modelsFor('prompt', models)).toEqual([]);
  });

  it('begin with what there is, unless one was chosen', () => {
    const node = aNode('v', { type: 'video' });
    const fitting = modelsFor('video', models);
    expect(modelOf(node, fitting, null)).toBe(clip);
    expect(modelOf(node, fitting, aGeneration('g'))).toBe(moving);
    expect(modelOf({ ...node, data: { model: 'moving' } }, fitting, null)).toBe(moving);
    expect(modelOf({ ...node, data: { model: 'unknown' } }, fitting, null)).toBe(clip);
  });

  it('say what is missing, in words', () => {
    expect(lacking('picture', plain, { prompt: '', start: null })).toBe('Join a prompt');
    expect(lacking('picture', plain, { prompt: 'a', start: null })).toBeNull();
    expect(lacking('edit', editing, { prompt: 'a', start: null })).toBe('Join a picture to start from');
    expect(lacking('video', undefined, { prompt: 'a', start: null })).toBe('No model here makes this');
  });
});
