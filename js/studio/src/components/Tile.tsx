import { layersOf, type Model, type Tile as TileOf, useProject } from '@safelight/react';
import { Star, X } from 'lucide-react';
import { type CSSProperties, memo, useCallback, useState } from 'react';
import { toast } from 'sonner';
import { useActs } from '../acts';
import type { Box } from '../justify';
import { wasPainted } from '../painted';
import { elapsed } from '../words';
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
  a.tile.state === b.tile.state;

/** One result from its first moment on. The same element from submit to picture: nothing is swapped (F3). */
export const Tile = memo(function Tile({ tile, box, model, focusable, onFocus, onOpen }: TileProps) {
  const acts = useActs();
  const [decoded, setDecoded] = useState(false);
  const [painted, setPainted] = useState(false);
  const [hovered, setHovered] = useState(false);
  const { row } = tile;
  const layers = layersOf(row !== null, decoded, painted);
  const state = tile.state === 'ready' && !decoded ? 'processing' : tile.state;
  const ended = tile.state === 'failed' || tile.state === 'canceled';

  const onDecoded = useCallback(() => setDecoded(true), []);
  const onPainted = useCallback(() => setPainted(true), []);

  const prompt = row?.prompt ?? promptOf(tile);
  const style: CSSProperties = {
    width: box.width,
    height: box.height,
    transform: `translate(${box.x}px, ${box.y}px)`,
  };
  const open = (): void => (row !== null ? onOpen(tile.id) : undefined);
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
      style={style}
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
        <TileMedia
          row={row}
          width={box.width}
          visible={layers.mediaVisible}
          playing={hovered}
          onDecoded={onDecoded}
          onPainted={onPainted}
        />
      )}
      {!ended && (
        <button
          type="button"
          className="tile-open"
          tabIndex={focusable ? 0 : -1}
          aria-label={row ? `Open: ${prompt || row.kind}` : `Being made: ${prompt}`}
          onFocus={() => onFocus(tile.id)}
          onClick={open}
          onKeyDown={(event) => {
            if (event.key === 's' || event.key === '.') star();
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

const promptOf = (tile: TileOf): string => {
  const said = (tile.job?.input ?? tile.draft?.request.input)?.prompt;
  return typeof said === 'string' ? said : '';
};

function Cancel({ jobId, started }: { readonly jobId: string; readonly started: boolean }) {
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
