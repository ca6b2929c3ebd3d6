import { useModels } from '@safelight/react';
import { Film, Image, Search, Star, X } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { type Filters as FiltersOf, go, here } from '../route';

const PAUSE_MS = 220;

/** Search and what the gallery is narrowed to; all of it is in the address. */
export function Filters({ filters }: { readonly filters: FiltersOf }) {
  const { models } = useModels();
  const [text, setText] = useState(filters.q ?? '');
  const typed = useRef<number | null>(null);

  // Keeps in step: the address, when somebody goes back or comes by a link.
  useEffect(() => {
    if (typed.current === null) setText(filters.q ?? '');
  }, [filters.q]);

  const set = (change: Partial<Record<keyof FiltersOf, string | boolean | undefined>>): void => {
    const next = { ...here().filters, ...change };
    const kept = Object.entries(next).filter(
      ([, value]) => value !== undefined && value !== '' && value !== false,
    );
    go({ filters: Object.fromEntries(kept) as FiltersOf }, true);
  };
  const search = (value: string): void => {
    setText(value);
    if (typed.current !== null) window.clearTimeout(typed.current);
    typed.current = window.setTimeout(() => {
      typed.current = null;
      set({ q: value.trim() });
    }, PAUSE_MS);
  };
  const isNarrowed = Object.keys(filters).length > 0;
  const chip = (name: string, on: boolean, icon: React.ReactNode, press: () => void) => (
    <button type="button" className="chip" aria-pressed={on} onClick={press}>
      {icon}
      {name}
    </button>
  );
  return (
    <search className="filters" aria-label="Results">
      <label className="find">
        <Search size={15} aria-hidden="true" />
        <input
          type="search"
          data-testid="search"
          aria-label="Search results"
          placeholder="Search"
          value={text}
          maxLength={200}
          onChange={(event) => search(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Escape') return;
            search('');
            event.currentTarget.blur();
          }}
        />
      </label>
      {chip('Starred', filters.starred ?? false, <Star size={14} aria-hidden="true" />, () =>
        set({ starred: !filters.starred }),
      )}
      {chip('Pictures', filters.kind === 'image', <Image size={14} aria-hidden="true" />, () =>
        set({ kind: filters.kind === 'image' ? undefined : 'image' }),
      )}
      {chip('Videos', filters.kind === 'video', <Film size={14} aria-hidden="true" />, () =>
        set({ kind: filters.kind === 'video' ? undefined : 'video' }),
      )}
      <select
        className="select by-model"
        aria-label="Made with"
        data-on={filters.model ? true : undefined}
        value={filters.model ?? ''}
        onChange={(event) => set({ model: event.target.value })}
      >
        <option value="">Any model</option>
        {models.map(({ id, name }) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
      </select>
      {isNarrowed && (
        <button
          type="button"
          className="chip clear"
          onClick={() => {
            search('');
            go({ filters: {} }, true);
          }}
        >
          <X size={14} aria-hidden="true" />
          Clear
        </button>
      )}
    </search>
  );
}
