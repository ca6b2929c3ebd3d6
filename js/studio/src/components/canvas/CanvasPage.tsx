import '@xyflow/react/dist/base.css';
import '../../styles/canvas.css';
import { type Canvas, useCanvas, useModels, useNodeTiles, useProject, useStore } from '@safelight/react';
import {
  Background,
  type Connection,
  MiniMap,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
} from '@xyflow/react';
import { Frame } from 'lucide-react';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { useHotkeys } from 'react-hotkeys-hook';
import { BoardContext } from '../../canvas/context';
import type { FlowNode } from '../../canvas/flow';
import { createMaking, type Scene } from '../../canvas/making';
import { createTyping } from '../../canvas/typing';
import { glide, useCreating } from '../../canvas/useCreating';
import { useFlow, useSeen } from '../../canvas/useFlow';
import { mayJoin, type NodeKind } from '../../canvas/wiring';
import { go, openTile, useRoute } from '../../route';
import { clearSelection } from '../../selection';
import { useTheme } from '../../theme';
import type { Seed } from '../Composer';
import { Lightbox } from '../Lightbox';
import { CanvasBar, KEYS } from './CanvasBar';
import { NodeCard } from './NodeCard';

interface CanvasPageProps {
  readonly onReuse: (seed: Seed) => void;
}

/** Nodes and what they make of each other, in every window alike (U5). */
export default function CanvasPage({ onReuse }: CanvasPageProps) {
  const canvas = useCanvas();
  return (
    <section className="canvas" aria-label="Canvas" aria-busy={!canvas.loaded}>
      <h1 className="unseen">Canvas</h1>
      {canvas.loaded && (
        <ReactFlowProvider>
          <Surface canvas={canvas} onReuse={onReuse} />
        </ReactFlowProvider>
      )}
    </section>
  );
}

const TYPES = { node: NodeCard };
const DELETE_KEYS = ['Delete', 'Backspace'];
/** Beyond this, what cannot be seen is not drawn. */
const DRAWN_MAX = 150;
/** Clear of the bar, which is above on a desk and below on a phone. */
const isPhone = window.matchMedia('(max-width: 620px)').matches;
const PADDING = isPhone
  ? ({ top: '28px', right: '16px', bottom: '92px', left: '16px' } as const)
  : ({ top: '88px', right: '40px', bottom: '40px', left: '40px' } as const);
const FIT = { padding: PADDING, maxZoom: 1, minZoom: 0.1 };
/** On a phone a part that can be read is worth more than a whole that cannot. */
const FIRST_FIT = { ...FIT, minZoom: isPhone ? 0.6 : 0.2 };
const isLarge = (): boolean => document.querySelector('dialog[open]') !== null;

function Surface({ canvas, onReuse }: { readonly canvas: Canvas } & CanvasPageProps) {
  const room = useProject();
  const { shade } = useTheme();
  const { open } = useRoute();
  const { models } = useModels();
  const view = useReactFlow<FlowNode>();
  const { acts } = canvas;
  const { tiles, settled } = useNodeTiles(canvas.nodes);
  const surface = useRef<HTMLDivElement>(null);
  const [typing] = useState(() => createTyping(acts));
  const texts = useStore(typing.texts);
  useEffect(() => typing.flush, [typing]);
  useEffect(clearSelection, []); // what was chosen in the gallery is not what Delete means here

  // With the words that are being written here: what is made is made of what is seen.
  const nodes = useMemo(
    () =>
      canvas.nodes.map((node) => {
        const text = texts.get(node.id);
        return text === undefined ? node : { ...node, data: { ...node.data, text } };
      }),
    [canvas.nodes, texts],
  );
  const scene: Scene = {
    nodes,
    edges: canvas.edges,
    models,
    shown: (node) => tiles.get(node.id)?.row ?? null,
    isBusy: (id) => ['pending', 'processing'].includes(tiles.get(id)?.state ?? ''),
  };
  const latest = useRef(scene);
  latest.current = scene;
  const making = useMemo(() => createMaking(room, acts, () => latest.current), [room, acts]);
  const seen = useSeen(nodes, canvas.edges, tiles);
  const flow = useFlow(seen, canvas.edges, acts);
  const onOpen = useCallback((tile: { id: string }) => openTile(tile.id), []);
  const board = useMemo(
    () => ({ acts, making, typing, models, settled, onOpen }),
    [acts, making, typing, models, settled, onOpen],
  );

  const chosen = flow.nodes.filter(({ selected }) => selected);
  const only = chosen.length === 1 ? chosen[0] : undefined;
  const beside = only?.data.row ?? null;
  const joinable = seen.filter(({ row }) => only && mayJoin(only.id, row.id, nodes, canvas.edges));
  const cut = flow.edges.filter(({ selected }) => selected);
  const remove = (): void =>
    making.remove(
      chosen.map(({ id }) => id),
      cut.map(({ id }) => id),
    );
  const fit = (): void => void view.fitView({ ...FIT, duration: glide() });

  const { create, begin } = useCreating(surface, making, flow);
  const even = { preventDefault: true };
  const kinds = Object.entries(KEYS) as [NodeKind, string][];
  useHotkeys(
    kinds.map(([, key]) => key.toLowerCase()),
    (_, { keys }) => {
      const kind = kinds.find(([, key]) => key.toLowerCase() === keys?.at(-1))?.[0];
      if (kind && !isLarge()) create(kind, beside);
    },
    even,
  );
  useHotkeys('f', () => isLarge() || fit(), even);
  useHotkeys('mod+z', () => isLarge() || making.undo(), even);
  useHotkeys(
    'mod+enter',
    () => {
      if (!isLarge()) for (const { id } of chosen) making.generate(id);
    },
    even,
  );

  const results = useMemo(() => [...tiles.values()], [tiles]);
  return (
    <BoardContext value={board}>
      <div className="canvas-surface" ref={surface}>
        <ReactFlow
          nodes={flow.nodes}
          edges={flow.edges}
          nodeTypes={TYPES}
          onNodesChange={flow.onNodesChange}
          onEdgesChange={flow.onEdgesChange}
          onConnect={({ source, target }: Connection) => making.join(source, target)}
          isValidConnection={({ source, target }) => mayJoin(source, target, nodes, canvas.edges)}
          onBeforeDelete={async (gone) => {
            making.remove(
              gone.nodes.map(({ id }) => id),
              gone.edges.map(({ id }) => id),
            );
            return false; // the rows say when they are gone
          }}
          deleteKeyCode={open === null ? DELETE_KEYS : null}
          colorMode={shade}
          fitView
          fitViewOptions={FIRST_FIT}
          minZoom={0.1}
          maxZoom={2.5}
          nodeDragThreshold={4}
          connectionRadius={36}
          zoomOnDoubleClick={false}
          onlyRenderVisibleElements={flow.nodes.length > DRAWN_MAX}
        >
          <Background gap={26} size={1.4} />
          {nodes.length > 0 && (
            <MiniMap
              pannable
              zoomable
              ariaLabel="Map of the canvas"
              nodeBorderRadius={10}
              nodeClassName={mapClass}
            />
          )}
        </ReactFlow>
        {nodes.length === 0 && <Begin onBegin={begin} />}
        {canvas.cut && <p className="canvas-cut">This canvas is very large: only a part of it is shown.</p>}
        <CanvasBar
          onCreate={(kind) => create(kind, beside)}
          onRemove={chosen.length + cut.length > 0 ? remove : null}
          onUndo={making.undo}
          onFit={fit}
          joinable={joinable}
          onJoin={(target) => only && making.join(only.id, target)}
        />
      </div>
      <Lightbox
        tiles={results}
        openId={open}
        onOpen={openTile}
        onReuse={(seed) => {
          go({ page: 'gallery' });
          onReuse(seed);
        }}
      />
    </BoardContext>
  );
}

const mapClass = ({ data }: FlowNode): string =>
  `map-${data.row.type === 'prompt' ? 'prompt' : (data.tile?.state ?? 'empty')}`;

function Begin({ onBegin }: { readonly onBegin: () => void }) {
  return (
    <div className="canvas-begin">
      <Frame size={30} strokeWidth={1.4} aria-hidden="true" />
      <h2>A canvas for ideas</h2>
      <p>Write a prompt, join it to pictures and clips, and make one of the other.</p>
      <button type="button" className="button strong" data-testid="begin" onClick={onBegin}>
        Begin with a prompt and a picture
      </button>
    </div>
  );
}
