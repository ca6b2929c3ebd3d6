import {
  closestCenter,
  DndContext,
  type DragEndEvent,
  KeyboardSensor,
  MouseSensor,
  TouchSensor,
  useSensor,
  useSensors,
} from '@dnd-kit/core';
import { rectSortingStrategy, SortableContext, sortableKeyboardCoordinates } from '@dnd-kit/sortable';
import { type Gallery, placeIn, useModels, useShots } from '@safelight/react';
import { ArrowLeft, Trash2 } from 'lucide-react';
import { useCallback, useLayoutEffect, useRef, useState } from 'react';
import { failing } from '../acts';
import type { Box } from '../justify';
import { moved, provisional } from '../positions';
import { go, openTile } from '../route';
import { extendTo } from '../selection';
import { contents } from './ShotsPage';
import { SortableTile } from './SortableTile';

/** Named once: sensors that are new ones at every drawing would draw every tile anew. */
const MOUSE = { activationConstraint: { distance: 8 } };
const TOUCH = { activationConstraint: { delay: 320, tolerance: 8 } };
const KEYS = { coordinateGetter: sortableKeyboardCoordinates };
const GAP = 10;
const CELL_MIN = 168;

/** Cells of one size, as many as fit beside each other. */
function useCells(count: number): {
  ref: React.RefObject<HTMLUListElement | null>;
  boxes: Box[];
  height: number;
} {
  const ref = useRef<HTMLUListElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.getBoundingClientRect().width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const columns = Math.max(2, Math.floor((width + GAP) / (CELL_MIN + GAP)));
  const side = Math.max(1, Math.floor((width - GAP * (columns - 1)) / columns));
  const boxes = Array.from({ length: width > 0 ? count : 0 }, (_, i) => ({
    x: (i % columns) * (side + GAP),
    y: Math.floor(i / columns) * (side + GAP),
    width: side,
    height: side,
  }));
  return { ref, boxes, height: Math.ceil(count / columns) * (side + GAP) };
}

/** One shot: its results in its own order, changed by hand. */
export function ShotPage({ id, gallery }: { readonly id: string; readonly gallery: Gallery }) {
  const { shots, loaded, rename, remove, reorder } = useShots();
  const { models } = useModels();
  const { tiles } = gallery;
  const shot = shots.find((each) => each.id === id);
  const { ref, boxes, height } = useCells(tiles.length);
  const [focusId, setFocusId] = useState<string | null>(null);
  const [sure, setSure] = useState(false);
  const sensors = useSensors(
    useSensor(MouseSensor, MOUSE),
    useSensor(TouchSensor, TOUCH),
    useSensor(KeyboardSensor, KEYS),
  );
  const order = useRef(tiles);
  order.current = tiles;
  const extend = useCallback(
    (tile: string) =>
      extendTo(
        tile,
        order.current.map((each) => each.id),
      ),
    [],
  );

  function drop({ active, over }: DragEndEvent): void {
    if (over === null || active.id === over.id) return;
    const ids = tiles.flatMap(({ row }) => (row ? [row.id] : []));
    const next = moved(ids, String(active.id), String(over.id));
    // What had no place keeps having none, unless it is what was moved.
    const hasPlace = new Set(tiles.flatMap(({ row }) => (row && placeIn(row, id) ? [row.id] : [])));
    const arranged = next.filter((each) => hasPlace.has(each) || each === active.id);
    reorder(id, arranged, provisional(arranged)).catch(failing('Not reordered'));
  }

  if (loaded && !shot) {
    return (
      <section className="page">
        <p className="nothing">
          This shot is not there any more. <a href="#/shots">All shots</a>
        </p>
      </section>
    );
  }
  const roving = tiles.some((tile) => tile.id === focusId) ? focusId : tiles[0]?.id;
  return (
    <section className="page" aria-busy={!gallery.loaded}>
      <header className="page-head">
        <a className="icon" href="#/shots" aria-label="All shots">
          <ArrowLeft size={18} aria-hidden="true" />
        </a>
        <input
          key={shot?.name}
          className="title-field"
          aria-label="Name of the shot"
          defaultValue={shot?.name ?? ''}
          maxLength={200}
          onKeyDown={(event) => event.key === 'Enter' && event.currentTarget.blur()}
          onBlur={(event) => {
            const name = event.target.value.trim();
            if (shot && name && name !== shot.name) rename(id, name).catch(failing('Not renamed'));
          }}
        />
        <small data-testid="shot-counts">{shot && contents(shot)}</small>
        <button
          type="button"
          className="button push"
          onClick={() => {
            if (!sure) return setSure(true);
            go({ page: 'shots', shot: null });
            remove(id).catch(failing('Not deleted'));
          }}
          onBlur={() => setSure(false)}
        >
          <Trash2 size={15} aria-hidden="true" />
          {sure ? 'Really? Its results stay' : 'Delete shot'}
        </button>
      </header>
      {gallery.loaded && tiles.length === 0 && (
        <p className="nothing">Nothing in it yet. What you generate on this page lands here.</p>
      )}
      <DndContext sensors={sensors} collisionDetection={closestCenter} onDragEnd={drop}>
        <SortableContext items={tiles.map((tile) => tile.id)} strategy={rectSortingStrategy}>
          <ul ref={ref} className="grid" style={{ height }} data-testid="shot-grid">
            {tiles.map((tile, index) => {
              const box = boxes[index];
              return (
                box && (
                  <SortableTile
                    key={tile.id}
                    tile={tile}
                    box={box}
                    model={models.find((each) => each.id === (tile.job?.model ?? tile.draft?.request.model))}
                    focusable={tile.id === roving}
                    onFocus={setFocusId}
                    onOpen={openTile}
                    onExtend={extend}
                  />
                )
              );
            })}
          </ul>
        </SortableContext>
      </DndContext>
    </section>
  );
}
