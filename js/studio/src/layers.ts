import { type Layers, layersOf, type Tile, type TileState } from '@safelight/react';
import { useCallback, useState } from 'react';
import { inFrame } from './frame';

export interface Shown {
  readonly layers: Layers;
  /** `ready` only once it can be seen. */
  readonly state: TileState;
  readonly onDecoded: () => void;
  readonly onPainted: () => void;
}

/** What a tile draws at this moment: its placeholder goes only after the media was painted over it (F3). */
export function useLayers(tile: Tile): Shown {
  const [decoded, setDecoded] = useState(false);
  const [painted, setPainted] = useState(false);
  const onDecoded = useCallback(() => inFrame(() => setDecoded(true)), []);
  const onPainted = useCallback(() => inFrame(() => setPainted(true)), []);
  return {
    layers: layersOf(tile.row !== null, decoded, painted),
    state: tile.state === 'ready' && !decoded ? 'processing' : tile.state,
    onDecoded,
    onPainted,
  };
}

export const promptOf = (tile: Tile): string => {
  const said = tile.row?.prompt ?? (tile.job?.input ?? tile.draft?.request.input)?.prompt;
  return typeof said === 'string' ? said : '';
};
