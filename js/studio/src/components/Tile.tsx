import type { DraggableAttributes, DraggableSyntheticListeners } from '@dnd-kit/core';
import type { Model, Tile as TileOf } from '@safelight/react';
import { type CSSProperties, memo, useState } from 'react';
import type { Box } from '../justify';
import { promptOf, useLayers } from '../layers';
import { comesQuietly } from '../painted';
import { useIsSelected, useIsSelecting } from '../selection';
import { Broken } from './Broken';
import { Developing } from './Developing';
import { Ended } from './Ended';
import { Cancel, TileControls } from './TileControls';
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

/** Whether there is nothing new to draw, though the list was made anew. */
export const same = (a: TileProps, b: TileProps): boolean =>
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
  const { layers, state, onDecoded, onPainted } = useLayers(tile);
  const [hovered, setHovered] = useState(false);
  const [reached, setReached] = useState(false);
  const { row } = tile;
  const [quiet] = useState(() => row !== null && comesQuietly(tile.id));
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
      onPointerEnter={(event) => {
        setHovered(event.pointerType === 'mouse');
        setReached(true);
      }}
      onPointerLeave={() => setHovered(false)}
      onFocus={() => setReached(true)}
    >
      {ended ? (
        <Ended tile={tile} />
      ) : (
        layers.placeholder && <Developing tile={tile} model={model} prompt={prompt} quiet={quiet} />
      )}
      {layers.media && row && (
        <Broken instead={() => <p className="tile-broken">This result cannot be shown.</p>}>
          <TileMedia
            row={row}
            width={box.width}
            visible={layers.mediaVisible}
            playing={hovered}
            plain={quiet}
            onDecoded={onDecoded}
            onPainted={onPainted}
          />
        </Broken>
      )}
      {!ended && (
        <TileControls
          id={tile.id}
          row={row}
          prompt={prompt}
          focusable={focusable}
          isSelected={isSelected}
          isSelecting={isSelecting}
          isReached={reached}
          onFocus={onFocus}
          onOpen={onOpen}
          onExtend={onExtend}
          handle={grip?.handle}
          listeners={grip?.handle && grip.listeners}
        />
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
