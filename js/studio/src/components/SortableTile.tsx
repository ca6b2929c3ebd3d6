import { useSortable } from '@dnd-kit/sortable';
import { type ComponentProps, useMemo } from 'react';
import { Tile } from './Tile';

type TileProps = Omit<ComponentProps<typeof Tile>, 'grip'>;

/** A tile of a shot: its place is changed by hand, or from its handle with the keyboard. */
export function SortableTile(props: TileProps) {
  const { tile } = props;
  const { setNodeRef, listeners, attributes, transform, transition, isDragging } = useSortable({
    id: tile.id,
    disabled: tile.row === null,
  });
  const dx = Math.round(transform?.x ?? 0);
  const dy = Math.round(transform?.y ?? 0);
  const grip = useMemo(
    () => ({ ref: setNodeRef, listeners, handle: attributes, dx, dy, transition, isHeld: isDragging }),
    [setNodeRef, listeners, attributes, dx, dy, transition, isDragging],
  );
  return <Tile {...props} grip={grip} />;
}
