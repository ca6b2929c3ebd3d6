import { useDraggable } from '@dnd-kit/core';
import { type ComponentProps, memo, useMemo } from 'react';
import { same, Tile } from './Tile';

type TileProps = Omit<ComponentProps<typeof Tile>, 'grip'>;

/** A tile of the gallery: dragged onto a shot. It stays where it is; its shadow goes. */
export const DraggableTile = memo(function DraggableTile(props: TileProps) {
  const { tile } = props;
  const { setNodeRef, listeners, isDragging } = useDraggable({ id: tile.id, disabled: tile.row === null });
  const grip = useMemo(
    () => ({ ref: setNodeRef, listeners, dx: 0, dy: 0, isHeld: isDragging }),
    [setNodeRef, listeners, isDragging],
  );
  return <Tile {...props} grip={grip} />;
}, same);
