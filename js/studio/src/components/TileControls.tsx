import type { DraggableAttributes, DraggableSyntheticListeners } from '@dnd-kit/core';
import { type Generation, useProject } from '@safelight/react';
import { Check, GripVertical, Star, X } from 'lucide-react';
import { type MouseEvent, memo } from 'react';
import { toast } from 'sonner';
import { useActs } from '../acts';
import { toggle } from '../selection';
import { elapsed } from '../words';

interface TileControlsProps {
  readonly id: string;
  readonly row: Generation | null;
  readonly prompt: string;
  readonly focusable: boolean;
  readonly isSelected: boolean;
  readonly isSelecting: boolean;
  /** By pointer or focus, ever: what can be seen only then is in the page only from then on. */
  readonly isReached: boolean;
  readonly onFocus: (id: string) => void;
  readonly onOpen: (id: string) => void;
  readonly onExtend: (id: string) => void;
  /** Of a handle, for the keyboard; absent: by pointer only. */
  readonly handle?: DraggableAttributes | undefined;
  readonly listeners: DraggableSyntheticListeners;
}

/** What a hand can do with a tile. By itself: a picture that is decoded, painted and hovered does not draw it anew. */
export const TileControls = memo(function TileControls(props: TileControlsProps) {
  const { id, row, prompt, focusable, isSelected, isSelecting, isReached } = props;
  const { onFocus, onOpen, onExtend, handle, listeners } = props;
  const acts = useActs();
  const press = (event: MouseEvent): void => {
    if (row === null) return;
    if (event.shiftKey) onExtend(id);
    else if (event.metaKey || event.ctrlKey || isSelecting) toggle(id);
    else onOpen(id);
  };
  const star = (): void => {
    if (row !== null) acts.star([row.id], !row.starred);
  };
  return (
    <>
      <button
        type="button"
        className="tile-open"
        tabIndex={focusable ? 0 : -1}
        aria-label={row ? `Open: ${prompt || row.kind}` : `Being made: ${prompt}`}
        onFocus={() => onFocus(id)}
        aria-pressed={isSelecting ? isSelected : undefined}
        onClick={press}
        onKeyDown={(event) => {
          if (event.metaKey || event.ctrlKey || event.altKey || row === null) return;
          if (event.key === 'x') toggle(id);
          else if (isSelecting)
            return; // then the keys are for all that is chosen
          else if (event.key === 's' || event.key === '.') star();
          else if (event.key === 'Delete') acts.remove([row.id]);
        }}
      />
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
            onClick={(event) => (event.shiftKey ? onExtend(id) : toggle(id))}
          >
            {isSelected && <Check size={14} strokeWidth={3} aria-hidden="true" />}
          </button>
          {handle && (
            <button
              type="button"
              className="tile-grip"
              {...handle}
              {...listeners}
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
            {(isReached || row.starred) && (
              <Star size={16} aria-hidden="true" fill={row.starred ? 'currentColor' : 'none'} />
            )}
          </button>
        </>
      )}
    </>
  );
});

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
