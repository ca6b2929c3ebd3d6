import { useMemo, useSyncExternalStore } from 'react';

/**
 * Where the person is, as the address says it (`#/shots/{id}/g/{tile}?q=fox`): Back goes back, a reload stays, and a
 * link shows somebody else the same. Behind the `#`, because the page is served at one place only.
 */

export const PAGES = [
  'gallery',
  'shots',
  'canvas',
  'queue',
  'templates',
  'credits',
  'diagnostics',
  'settings',
] as const;
export type PageName = (typeof PAGES)[number];

export interface Filters {
  readonly q?: string;
  readonly kind?: string;
  readonly starred?: boolean;
  readonly model?: string;
}

export interface Route {
  readonly page: PageName;
  /** The shot that is looked into. */
  readonly shot: string | null;
  /** The result that is open, large. */
  readonly open: string | null;
  readonly filters: Filters;
}

const ID = /^[\w-]{1,64}$/;
const KINDS = ['image', 'video', 'audio'];

/** Reads an address; what makes no sense in it is left out. */
export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parts = path.split('/').filter((part) => ID.test(part));
  const at = parts.indexOf('g');
  const open = at >= 0 ? (parts[at + 1] ?? null) : null;
  const [first, second] = at >= 0 ? parts.slice(0, at) : parts;
  const page = PAGES.find((name) => name === first) ?? 'gallery';
  const query = new URLSearchParams(search);
  const q = query.get('q')?.slice(0, 200).trim();
  const kind = query.get('kind');
  const model = query.get('model')?.slice(0, 200);
  const filters: Filters = {
    ...(q ? { q } : {}),
    ...(kind && KINDS.includes(kind) ? { kind } : {}),
    ...(query.get('starred') === '1' ? { starred: true } : {}),
    ...(model ? { model } : {}),
  };
  return { page, shot: page === 'shots' ? (second ?? null) : null, open, filters };
}

export function hashOf({ page, shot, open, filters }: Route): string {
  const path = [page === 'gallery' ? null : page, shot, open && 'g', open].filter(Boolean).join('/');
  const query = new URLSearchParams(
    Object.entries(filters).map(([name, value]) => [name, value === true ? '1' : String(value)]),
  ).toString();
  return `#/${path}${query && `?${query}`}`;
}

const listeners = new Set<() => void>();
const tell = (): void => {
  for (const listener of [...listeners]) listener();
};

function subscribe(listener: () => void): () => void {
  if (listeners.size === 0) {
    window.addEventListener('popstate', tell);
    window.addEventListener('hashchange', tell);
  }
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    window.removeEventListener('popstate', tell);
    window.removeEventListener('hashchange', tell);
  };
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, () => window.location.hash);
  return useMemo(() => parseRoute(hash), [hash]);
}

export const here = (): Route => parseRoute(window.location.hash);

/** `replace`: a step that Back should not lead to (typing in a search). */
export function go(change: Partial<Route>, replace = false): void {
  const from = here();
  const to = { ...from, ...change };
  if (change.page !== undefined && change.page !== from.page) {
    to.shot = change.shot ?? null;
    to.open = change.open ?? null;
    to.filters = change.filters ?? {};
  }
  const hash = hashOf(to);
  if (hash === window.location.hash) return;
  if (replace) window.history.replaceState(window.history.state, '', hash);
  else window.history.pushState({ within: true }, '', hash);
  tell();
}

/** Opens, changes or closes the large view: closing goes back, so that Back never opens it again. */
export function openTile(id: string | null): void {
  const { open } = here();
  const state = window.history.state as { opened?: boolean } | null;
  if (id === null && state?.opened) window.history.back();
  else if (id === null) go({ open: null }, true);
  else if (open === null) {
    window.history.pushState({ opened: true }, '', hashOf({ ...here(), open: id }));
    tell();
  } else go({ open: id }, true);
}
