import { type Tile, useShots } from '@safelight/react';
import { Columns2, FolderPlus, Star, Trash2, X } from 'lucide-react';
import { useEffect } from 'react';
import { useActs } from '../acts';
import { usePanel } from '../panel';
import { clearSelection, useSelection } from '../selection';

interface SelectionBarProps {
  readonly tiles: readonly Tile[];
  /** The shot that is looked into, if any. */
  readonly shot?: string;
  readonly onCompare: (ids: readonly [string, string]) => void;
}

/** What can be done to everything that is chosen. */
export function SelectionBar({ tiles, shot, onCompare }: SelectionBarProps) {
  const acts = useActs();
  const chosen = useSelection();
  const rows = chosen.size === 0 ? [] : tiles.flatMap(({ row }) => (row && chosen.has(row.id) ? [row] : []));
  const ids = rows.map(({ id }) => id);

  // Keeps in step: what is chosen with what is there.
  useEffect(() => {
    if (chosen.size > 0 && ids.length === 0) clearSelection();
  }, [chosen, ids.length]);

  if (ids.length === 0) return null;
  const unstarred = rows.some(({ starred }) => !starred);
  const [first, second] = ids;
  return (
    <section className="selection" aria-label="Chosen results" data-testid="selection">
      <span className="selection-count">{ids.length} chosen</span>
      <button type="button" className="button" onClick={() => acts.star(ids, unstarred)}>
        <Star size={15} aria-hidden="true" />
        <span>{unstarred ? 'Star' : 'Unstar'}</span>
      </button>
      <AddToShot ids={ids} />
      {first !== undefined && second !== undefined && ids.length === 2 && (
        <button type="button" className="button" onClick={() => onCompare([first, second])}>
          <Columns2 size={15} aria-hidden="true" />
          <span>Compare</span>
        </button>
      )}
      {shot !== undefined && (
        <button
          type="button"
          className="button"
          onClick={() => {
            acts.takeOut(shot, ids);
            clearSelection();
          }}
        >
          <X size={15} aria-hidden="true" />
          <span>Take out</span>
        </button>
      )}
      <button
        type="button"
        className="button"
        onClick={() => {
          acts.remove(ids);
          clearSelection();
        }}
      >
        <Trash2 size={15} aria-hidden="true" />
        <span>Delete</span>
      </button>
      <button type="button" className="icon" aria-label="Choose nothing" onClick={clearSelection}>
        <X size={17} aria-hidden="true" />
      </button>
    </section>
  );
}

/** Into a shot that is there, or into a new one. */
export function AddToShot({ ids }: { readonly ids: readonly string[] }) {
  const acts = useActs();
  const { shots } = useShots();
  const { place, open, setOpen } = usePanel();
  return (
    <div className="start" ref={place}>
      <button type="button" className="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <FolderPlus size={15} aria-hidden="true" />
        <span>Add to shot</span>
      </button>
      {open && (
        <div className="panel menu" role="menu" aria-label="Shots">
          {shots.map((shot) => (
            <button
              key={shot.id}
              type="button"
              role="menuitem"
              onClick={() => {
                acts.place(shot, ids);
                clearSelection();
                setOpen(false);
              }}
            >
              <span>{shot.name}</span>
              <small>{shot.counts.total}</small>
            </button>
          ))}
          <button
            type="button"
            role="menuitem"
            className="menu-new"
            onClick={() => {
              acts.createShot(`Shot ${shots.length + 1}`, ids);
              clearSelection();
              setOpen(false);
            }}
          >
            New shot with {ids.length === 1 ? 'it' : 'these'}
          </button>
        </div>
      )}
    </div>
  );
}
