import type { Generation, Tile } from '@safelight/react';
import { useState } from 'react';
import { Sheet } from './Sheet';

interface CompareProps {
  readonly ids: readonly [string, string] | null;
  readonly tiles: readonly Tile[];
  readonly onClose: () => void;
}

/** Two results over each other, with a slider between; clips stand side by side. */
export function Compare({ ids, tiles, onClose }: CompareProps) {
  const [at, setAt] = useState(50);
  const rowOf = (id: string | undefined): Generation | null =>
    tiles.find((tile) => tile.id === id)?.row ?? null;
  const [left, right] = [rowOf(ids?.[0]), rowOf(ids?.[1])];
  const both = left !== null && right !== null;
  const slides = both && left.kind === 'image' && right.kind === 'image';
  return (
    <Sheet title="Compare" open={both} wide onClose={onClose}>
      {both && slides && (
        <div
          className="compare"
          style={
            {
              aspectRatio: `${left.width ?? 1} / ${left.height ?? 1}`,
              '--at': `${at}%`,
            } as React.CSSProperties
          }
        >
          <img src={right.urls.original} alt={right.prompt ?? ''} />
          <img className="compare-left" src={left.urls.original} alt={left.prompt ?? ''} />
          <span className="compare-line" aria-hidden="true" />
          <input
            type="range"
            min={0}
            max={100}
            value={at}
            aria-label="How much of the first"
            onChange={(event) => setAt(Number(event.target.value))}
          />
        </div>
      )}
      {both && !slides && (
        <div className="compare-both">
          {[left, right].map((row) =>
            row.kind === 'image' ? (
              <img key={row.id} src={row.urls.original} alt={row.prompt ?? ''} />
            ) : (
              <video key={row.id} src={row.urls.original} controls muted loop aria-label={row.prompt ?? ''} />
            ),
          )}
        </div>
      )}
      {both && (
        <div className="compare-words">
          <p>{left.prompt}</p>
          <p>{right.prompt}</p>
        </div>
      )}
    </Sheet>
  );
}
