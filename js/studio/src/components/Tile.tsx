import type { DraggableAttributes, DraggableSyntheticListeners } from '@dnd-kit/core';
import { type Model, type Tile as TileOf, useProject } from '@safelight/react';
import { Check, GripVertical, Star, X } from 'lucide-react';
import { type CSSProperties, type MouseEvent, memo, useState } from 'react';
import { toast } from 'sonner';
import { useActs } from '../acts';
import type { Box } from '../justify';
import { promptOf, useLayers } from '../layers';
import { wasPainted } from '../painted';
import { toggle, useIsSelected, useIsSelecting } from '../selection';
import { elapsed } from '../words';
import { Broken } from './Broken';
import { Developing } from './Developing';
import { Ended } from './Ended';
import { TileMedia } from './TileMedia';

interface TileProps {
  readonly tile: TileOf;
  readonly box: Box;
  readonly model: Model | undefined;
  readonly focusable: boolean;
  readonly onFocus: (id: string) => void;
  readonly onOpen: (id: string) => void;
  /** Chosen together with those before it. */
  readonly onExtend: (id: string) => void;
  /** Where it can be taken by hand. */
  readonly grip?: Grip | undefined;
}

/** How drag and drop holds a tile. */
export interface Grip {
  readonly ref: (element: HTMLElement | null) => void;
  readonly listeners: DraggableSyntheticListeners;
  /** Of a handle, for the keyboard; absent: by pointer only. */
  readonly handle?: DraggableAttributes;
  readonly dx: number;
  readonly dy: number;
  readonly transition?: string | undefined;
  readonly isHeld: boolean;
}

const same = (a: TileProps, b: TileProps): boolean =>
  a.focusable === b.focusable &&
  a.model === b.model &&
  a.box.x === b.box.x &&
  a.box.y === b.box.y &&
  a.box.width === b.box.width &&
  a.box.height === b.box.height &&
  a.tile.row === b.tile.row &&
  a.tile.job === b.tile.job &&
  a.tile.draft === b.tile.draft &&
  a.tile.state === b.tile.state &&
  a.onExtend === b.onExtend &&
  a.onOpen === b.onOpen &&
  a.grip === b.grip;

/** One result from its first moment on. The same element from submit to picture: nothing is swapped (F3). */
export const Tile = memo(function Tile(props: TileProps) {
  const { tile, box, model, focusable, onFocus, onOpen, onExtend, grip } = props;
  const acts = useActs();
  const { layers, state, onDecoded, onPainted } = useLayers(tile);
  const [hovered, setHovered] = useState(false);
  const { row } = tile;
  const ended = tile.state === 'failed' || tile.state === 'canceled';

  const prompt = promptOf(tile);
  const size = { width: box.width, height: box.height };
  // Drag and drop measures places without transforms: where tiles are sorted, only what it moves is one.
  const style: CSSProperties = grip?.handle
    ? {
        ...size,
        left: box.x,
        top: box.y,
        transform: `translate(${grip.dx}px, ${grip.dy}px)`,
        transition: grip.transition,
      }
    : { ...size, transform: `translate(${box.x}px, ${box.y}px)` };
  const isSelected = useIsSelected(tile.id);
  const isSelecting = useIsSelecting();
  const press = (event: MouseEvent): void => {
    if (row === null) return;
    if (event.shiftKey) onExtend(tile.id);
    else if (event.metaKey || event.ctrlKey || isSelecting) toggle(tile.id);
    else onOpen(tile.id);
  };
  const star = (): void => {
    if (row !== null) acts.star([row.id], !row.starred);
  };

  return (
    <li
      className="tile"
      data-tile={tile.id}
      data-job={tile.jobId ?? ''}
      data-state={state}
      data-kind={row?.kind ?? model?.kind ?? 'image'}
      aria-busy={state === 'pending' || state === 'processing'}
      data-selected={isSelected || undefined}
      data-selecting={isSelecting || undefined}
      data-held={grip?.isHeld || undefined}
      style={style}
      ref={grip?.ref}
      {...(row ? pointersOf(grip?.listeners) : {})}
      onPointerEnter={(event) => setHovered(event.pointerType === 'mouse')}
      onPointerLeave={() => setHovered(false)}
    >
      {ended ? (
        <Ended tile={tile} />
      ) : (
        layers.placeholder && (
          <Developing tile={tile} model={model} prompt={prompt} quiet={wasPainted(tile.id)} />
        )
      )}
      {layers.media && row && (
        <Broken instead={() => <p className="tile-broken">This result cannot be shown.</p>}>
          <TileMedia
            row={row}
            width={box.width}
            visible={layers.mediaVisible}
            playing={hovered}
            onDecoded={onDecoded}
            onPainted={onPainted}
          />
        </Broken>
      )}
      {!ended && (
        <button
          type="button"
          className="tile-open"
          tabIndex={focusable ? 0 : -1}
          aria-label={row ? `Open: ${prompt || row.kind}` : `Being made: ${prompt}`}
          onFocus={() => onFocus(tile.id)}
          aria-pressed={isSelecting ? isSelected : undefined}
          onClick={press}
          onKeyDown={(event) => {
            if (event.metaKey || event.ctrlKey || event.altKey || row === null) return;
            if (event.key === 'x') toggle(tile.id);
            else if (isSelecting)
              return; // then the keys are for all that is chosen
            else if (event.key === 's' || event.key === '.') star();
            else if (event.key === 'Delete') acts.remove([row.id]);
          }}
        />
      )}
      {row && (
        <>
          {row.duration_s !== null && row.kind === 'video' && (
            <span className="tile-length">{elapsed(Math.max(1, Math.round(row.duration_s)))}</span>
          )}
          <button
            type="button"
            className="tile-check"
            tabIndex={-1}
            aria-pressed={isSelected}
            aria-label="Choose"
            onClick={(event) => (event.shiftKey ? onExtend(tile.id) : toggle(tile.id))}
          >
            <Check size={14} strokeWidth={3} aria-hidden="true" />
          </button>
          {grip?.handle && (
            <button
              type="button"
              className="tile-grip"
              {...grip.handle}
              {...grip.listeners}
              aria-label={`Move: ${prompt || row.kind}`}
            >
              <GripVertical size={15} aria-hidden="true" />
            </button>
          )}
          <button
            type="button"
            className="tile-star"
            tabIndex={-1}
            aria-pressed={row.starred}
            aria-label={row.starred ? 'Unstar' : 'Star'}
            onClick={star}
          >
            <Star size={16} aria-hidden="true" fill={row.starred ? 'currentColor' : 'none'} />
          </button>
        </>
      )}
      {!row && !ended && tile.jobId !== null && <Cancel jobId={tile.jobId} started={tile.job !== null} />}
    </li>
  );
}, same);

/** Pointer and touch hold the whole tile; the keyboard holds its handle. */
function pointersOf(listeners: DraggableSyntheticListeners): DraggableSyntheticListeners {
  if (!listeners) return undefined;
  const { onKeyDown: _, ...pointers } = listeners;
  return pointers;
}

export function Cancel({ jobId, started }: { readonly jobId: string; readonly started: boolean }) {
  const room = useProject();
  if (!started) return null;
  return (
    <button
      type="button"
      className="tile-cancel"
      aria-label="Cancel"
      title="Cancel"
      onClick={() => {
        room
          .cancel(jobId)
          .catch((error: Error) => toast.error('Not canceled', { description: error.message }));
      }}
    >
      <X size={15} strokeWidth={2.4} aria-hidden="true" />
    </button>
  );
}
