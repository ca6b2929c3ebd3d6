import {
  GENERATIONS,
  type Generation,
  inOrder,
  inShot,
  type Job,
  keys,
  type List,
  type Narrowing,
  narrowedTo,
  type OrderKeys,
  orderKeys,
  overlay,
  placeIn,
  type Rule,
  type Tile,
  tilesOf,
} from '@safelight/client';
import { notifyManager, skipToken, useQuery } from '@tanstack/react-query';
import { useCallback, useMemo, useRef, useSyncExternalStore } from 'react';
import { usePart, useProject, useStore } from './context';
import { LASTING, useGenerations, useJobs } from './lists';

export interface GalleryView extends Omit<Narrowing, 'ids'> {
  /** The shot's own order, instead of newest first. */
  readonly shot?: string | undefined;
}

export interface Gallery {
  /** Results and what is being made, each id once. */
  readonly tiles: readonly Tile[];
  readonly loaded: boolean;
  readonly hasMore: boolean;
  readonly loadMore: () => Promise<void>;
  readonly star: (ids: readonly string[], starred: boolean) => Promise<void>;
  readonly remove: (ids: readonly string[]) => Promise<void>;
  readonly restore: (ids: readonly string[]) => Promise<void>;
}

interface Source {
  readonly key: readonly unknown[];
  /** Ends with `?` or `&`. */
  readonly path: string;
  readonly rule: Rule<Generation>;
  readonly whole: boolean;
}

const PAGE = 60;
/** A shot is arranged by hand: it is read whole, as far as a page goes. */
const SHOT_PAGE = 200;

function sourceOf(project: string, { shot, ...narrowing }: GalleryView): Source {
  if (shot !== undefined) {
    return { key: keys.shot(shot), path: `/generations?shot_id=${shot}&`, rule: inShot(shot), whole: false };
  }
  const said = Object.entries(narrowing).filter(([, value]) => value !== undefined && value !== '');
  if (said.length === 0) {
    return { key: keys.generations(project), path: '/generations?', rule: GENERATIONS, whole: true };
  }
  const filter = Object.fromEntries(said) as Narrowing;
  const query = new URLSearchParams(said.map(([name, value]) => [name, String(value)]));
  return {
    key: keys.narrowed(project, filter),
    path: `/generations?${query}&`,
    rule: narrowedTo(filter),
    whole: false,
  };
}

/** Whether what is still being made belongs into this view: a search cannot know yet. */
const expects = (view: GalleryView, target: Job['target']): boolean =>
  view.shot !== undefined
    ? target?.shot_id === view.shot
    : view.starred === undefined &&
      view.q === undefined &&
      view.kind === undefined &&
      view.model === undefined;

/** Everything to show in one gallery, with the person's own wishes (star, delete, place) already in it. */
export function useGallery(view: GalleryView = {}): Gallery {
  const room = useProject();
  const { project, mutations } = room;
  const text = JSON.stringify(view);
  const source = useMemo(() => sourceOf(project, JSON.parse(text) as GalleryView), [project, text]);
  const all = useGenerations();
  const narrowed = useQuery<List<Generation>>({
    queryKey: source.whole ? ['unified-generations', 'none', project] : source.key,
    queryFn: source.whole
      ? skipToken
      : () =>
          room.readList(
            `${source.path}limit=${view.shot === undefined ? PAGE : SHOT_PAGE}`,
            'generations',
            source.rule,
          ),
    ...LASTING,
    gcTime: 5 * 60_000,
  }).data;
  const list = source.whole ? all : narrowed;
  const jobs = useJobs();
  const { local } = room;
  const drafts = usePart(local, (value) => value.drafts);
  const dismissed = usePart(local, (value) => value.dismissed);
  // Changes with the lists, and is told with them: not a drawing of its own.
  const arrived = useSyncExternalStore(
    useCallback((changed) => local.subscribe(() => notifyManager.schedule(changed)), [local]),
    () => local.get().arrived,
    () => local.get().arrived,
  );
  const wishes = useStore(mutations.generations);
  const known = useRef<OrderKeys>(new Map());

  const tiles = useMemo(() => {
    const asked = JSON.parse(text) as GalleryView;
    const base = list?.rows ?? [];
    // What was just put into this shot is in no list of it yet, but in the project's.
    const wished = new Set(source.whole ? [] : wishes.map(({ entity }) => entity));
    const here = new Set(wished.size === 0 ? [] : base.map(({ id }) => id));
    const moved =
      wished.size === 0 ? [] : (all?.rows ?? []).filter(({ id }) => !here.has(id) && wished.has(id));
    const rows = overlay(wishes, [...base, ...moved]).filter(source.rule.belongs);
    const waiting = (jobs?.rows ?? []).filter((job) => expects(asked, job.target));
    const asking = drafts.filter(({ request }) => expects(asked, request.target));
    const found = tilesOf({ rows, jobs: waiting, drafts: asking, arrived, dismissed });
    if (asked.shot !== undefined) return inShotOrder(found, source.rule, asked.shot);
    known.current = orderKeys(known.current, found);
    return inOrder(found, known.current);
  }, [list, all, jobs, drafts, arrived, dismissed, wishes, source, text]);

  return {
    tiles,
    loaded: list !== undefined,
    hasMore: Boolean(list?.nextCursor),
    loadMore: () => room.loadMore(source.key, source.path, source.rule),
    star: mutations.star,
    remove: mutations.remove,
    restore: mutations.restore,
  };
}

/** The shot's own order; what has no place in it, and what is being made for it, at the end. */
function inShotOrder(tiles: readonly Tile[], rule: Rule<Generation>, shot: string): Tile[] {
  const isPlaced = (tile: Tile): boolean => Boolean(tile.row && placeIn(tile.row, shot));
  const rest = inOrder(
    tiles.filter((tile) => !isPlaced(tile)),
    orderKeys(new Map(), tiles),
  );
  const placed = tiles.filter(isPlaced);
  placed.sort((a, b) => (a.row && b.row ? rule.compare(a.row, b.row) : 0));
  return [...placed, ...rest];
}
