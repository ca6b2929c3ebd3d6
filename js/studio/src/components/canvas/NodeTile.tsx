import type { Model, Tile } from '@safelight/react';
import { Maximize2 } from 'lucide-react';
import { useState } from 'react';
import { aspectOf } from '../../aspect';
import { WIDTH } from '../../canvas/wiring';
import { promptOf, useLayers } from '../../layers';
import { wasPainted } from '../../painted';
import { elapsed } from '../../words';
import { Developing } from '../Developing';
import { Ended } from '../Ended';
import { Cancel } from '../TileControls';
import { TileMedia } from '../TileMedia';

interface NodeTileProps {
  readonly tile: Tile;
  readonly model: Model | undefined;
  readonly onOpen: (tile: Tile) => void;
}

/** A node's result from its first moment on: the gallery's own tile, on the canvas. */
export function NodeTile({ tile, model, onOpen }: NodeTileProps) {
  const [hovered, setHovered] = useState(false);
  const { layers, state, onDecoded, onPainted } = useLayers(tile);
  const { row } = tile;
  const prompt = promptOf(tile);
  const ended = state === 'failed' || state === 'canceled';
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the double click is a shortcut of the button below
    <div
      className="tile node-tile"
      data-tile={tile.id}
      data-job={tile.jobId ?? ''}
      data-state={state}
      data-kind={row?.kind ?? model?.kind ?? 'image'}
      aria-busy={state === 'pending' || state === 'processing'}
      style={{ aspectRatio: ended ? 'auto' : aspectOf(tile, model) }}
      onPointerEnter={(event) => setHovered(event.pointerType === 'mouse')}
      onPointerLeave={() => setHovered(false)}
      onDoubleClick={() => row && onOpen(tile)}
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
          width={WIDTH * 1.5}
          visible={layers.mediaVisible}
          playing={hovered}
          plain={wasPainted(tile.id)}
          onDecoded={onDecoded}
          onPainted={onPainted}
        />
      )}
      {row && (
        <>
          {row.duration_s !== null && row.kind === 'video' && (
            <span className="tile-length">{elapsed(Math.max(1, Math.round(row.duration_s)))}</span>
          )}
          <button
            type="button"
            className="tile-star nodrag"
            aria-label={`Open: ${prompt || row.kind}`}
            title="Open large"
            onClick={() => onOpen(tile)}
          >
            <Maximize2 size={15} aria-hidden="true" />
          </button>
        </>
      )}
      {!row && !ended && tile.jobId !== null && <Cancel jobId={tile.jobId} started={tile.job !== null} />}
    </div>
  );
}
