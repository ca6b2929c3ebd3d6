import type { Tile } from '@safelight/react';
import { useHotkeys } from 'react-hotkeys-hook';
import { type Acts, useActs } from '../acts';
import { go, type PageName } from '../route';
import { choose, clearSelection, selected } from '../selection';

interface KeyboardProps {
  readonly tiles: readonly Tile[];
  readonly onPalette: () => void;
  readonly onSheet: () => void;
}

const PLACES: Readonly<Record<string, PageName>> = {
  g: 'gallery',
  s: 'shots',
  b: 'canvas',
  q: 'queue',
  t: 'templates',
  c: 'credits',
  d: 'diagnostics',
  comma: 'settings',
};

const focusOn = (selector: string): void => document.querySelector<HTMLElement>(selector)?.focus();
/** A panel that is open takes the Escape for itself. */
const hasPanel = (): boolean => document.querySelector('[aria-expanded="true"]') !== null;
const isLarge = (): boolean => document.querySelector('dialog[open]') !== null;

/** The keys that work wherever the person is. */
export function Keyboard({ tiles, onPalette, onSheet }: KeyboardProps) {
  const acts = useActs();
  const even = { preventDefault: true };
  useHotkeys('mod+k', onPalette, { ...even, enableOnFormTags: true });
  useHotkeys('shift+slash, ?', () => isLarge() || onSheet(), { ...even, useKey: true });
  useHotkeys('slash', () => isLarge() || focusOn('[data-testid="search"]'), even);
  useHotkeys('n', () => isLarge() || focusOn('[data-testid="prompt"]'), even);
  useHotkeys(
    Object.keys(PLACES).map((key) => `g>${key}`),
    (_, { keys }) => {
      const page = PLACES[keys?.at(-1) ?? ''];
      if (page && !isLarge()) go({ page });
    },
  );
  useHotkeys('escape', () => isLarge() || hasPanel() || clearSelection());
  useHotkeys('mod+a', () => isLarge() || choose(tiles.flatMap(({ row }) => (row ? [row.id] : []))), even);
  useHotkeys('s, .', () => withSelection(tiles, acts, 'star'), even);
  useHotkeys('delete, backspace', () => withSelection(tiles, acts, 'remove'));
  return null;
}

function withSelection(tiles: readonly Tile[], acts: Acts, act: 'star' | 'remove'): void {
  const ids = [...selected()];
  if (ids.length === 0 || isLarge()) return;
  if (act === 'remove') {
    acts.remove(ids);
    clearSelection();
    return;
  }
  const rows = tiles.flatMap(({ row }) => (row && selected().has(row.id) ? [row] : []));
  acts.star(
    ids,
    rows.some(({ starred }) => !starred),
  );
}
