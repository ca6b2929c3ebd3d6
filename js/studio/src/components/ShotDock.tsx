import {
  DndContext,
  type DragEndEvent,
  DragOverlay,
  getClientRect,
  type Modifier,
  MouseSensor,
  pointerWithin,
  TouchSensor,
  useDroppable,
  useSensor,
  useSensors,
} from '@dnd-kit/core';
import { type Generation, type Shot, type Tile, useShots } from '@safelight/react';
import { FolderPlus } from 'lucide-react';
import { type ReactNode, useState } from 'react';
import { useActs } from '../acts';
import { clearSelection, selected } from '../selection';
import { thumbOf } from '../source';

const NEW = 'new-shot';
/** Named once: sensors that are new ones at every drawing would give every tile new listeners, and draw it anew. */
const MOUSE = { activationConstraint: { distance: 8 } };
const TOUCH = { activationConstraint: { delay: 320, tolerance: 8 } };
const HELD_PX = 96;
/** Tiles stand where they stand by a transform. */
const MEASURING = { draggable: { measure: getClientRect } };

/** What is held hangs at the pointer, however large the tile is. */
const underPointer: Modifier = ({ activatorEvent, draggingNodeRect, transform }) => {
  if (draggingNodeRect === null || !(activatorEvent instanceof MouseEvent)) return transform;
  return {
    ...transform,
    x: transform.x + activatorEvent.clientX - draggingNodeRect.left - HELD_PX / 2,
    y: transform.y + activatorEvent.clientY - draggingNodeRect.top - HELD_PX / 2,
  };
};

/** Below the gallery while something is dragged: the shots it can be dropped on. */
export function ShotDock({
  tiles,
  children,
}: {
  readonly tiles: readonly Tile[];
  readonly children: ReactNode;
}) {
  const acts = useActs();
  const { shots } = useShots();
  const [held, setHeld] = useState<Generation | null>(null);
  const sensors = useSensors(useSensor(MouseSensor, MOUSE), useSensor(TouchSensor, TOUCH));
  /** What is dragged: all that is chosen, if it is one of them. */
  const idsOf = (id: string): string[] => (selected().has(id) ? [...selected()] : [id]);

  function drop({ active, over }: DragEndEvent): void {
    setHeld(null);
    if (over === null) return;
    const ids = idsOf(String(active.id));
    const shot = shots.find(({ id }) => id === over.id);
    if (shot) acts.place(shot, ids);
    else if (over.id === NEW) acts.createShot(`Shot ${shots.length + 1}`, ids);
    clearSelection();
  }

  const count = held === null ? 0 : idsOf(held.id).length;
  return (
    <DndContext
      sensors={sensors}
      measuring={MEASURING}
      collisionDetection={pointerWithin}
      onDragStart={({ active }) => setHeld(tiles.find(({ id }) => id === active.id)?.row ?? null)}
      onDragEnd={drop}
      onDragCancel={() => setHeld(null)}
    >
      {children}
      {held !== null && (
        <aside className="dock" aria-label="Shots to drop on">
          {shots.map((shot) => (
            <Target key={shot.id} id={shot.id} shot={shot} />
          ))}
          <Target id={NEW} shot={null} />
        </aside>
      )}
      <DragOverlay dropAnimation={null} modifiers={[underPointer]}>
        {held !== null && (
          <div className="held">
            <img src={thumbOf(held, 120)} alt="" />
            {count > 1 && <b>{count}</b>}
          </div>
        )}
      </DragOverlay>
    </DndContext>
  );
}

function Target({ id, shot }: { readonly id: string; readonly shot: Shot | null }) {
  const { setNodeRef, isOver } = useDroppable({ id });
  return (
    <div ref={setNodeRef} className="dock-shot" data-over={isOver || undefined} data-drop={id}>
      {shot === null ? (
        <>
          <FolderPlus size={16} aria-hidden="true" />
          New shot
        </>
      ) : (
        <>
          <span>{shot.name}</span>
          <small>{shot.counts.total}</small>
        </>
      )}
    </div>
  );
}
