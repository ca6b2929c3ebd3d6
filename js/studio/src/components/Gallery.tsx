import type { Tile as TileOf } from '@safelight/react';
import { useModels } from '@safelight/react';
import {
  type KeyboardEvent,
  type ReactNode,
  type RefObject,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import { aspectOf } from '../aspect';
import { OVERSCAN_ROWS, useInView } from '../inView';
import { type Box, justify, rowAt } from '../justify';
import { scrolling } from '../motion';
import { extendTo } from '../selection';
import { DraggableTile } from './DraggableTile';

interface GalleryProps {
  readonly tiles: readonly TileOf[];
  readonly loaded: boolean;
  readonly hasMore: boolean;
  readonly loadMore: () => Promise<void>;
  readonly empty: ReactNode;
  readonly onOpen: (id: string) => void;
}

/** Scrolled further than this, new tiles must not push away what somebody looks at. */
const READING_PX = 160;

const targetHeight = (width: number): number => (width < 560 ? 190 : width < 1000 ? 230 : 270);
const gapOf = (width: number): number => (width < 560 ? 6 : 10);

function useWidth(): [RefObject<HTMLUListElement | null>, number, number] {
  const ref = useRef<HTMLUListElement>(null);
  const [box, setBox] = useState({ width: 0, top: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = (): void => {
      const { width, top } = element.getBoundingClientRect();
      const next = { width: Math.floor(width), top: Math.round(top + window.scrollY) };
      setBox((now) => (now.width === next.width && now.top === next.top ? now : next));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, []);
  return [ref, box.width, box.top];
}

/** Of the tiles at the top, so many are remembered: what is before all of them is new. */
const TOP_MAX = 20;

/** While somebody reads further down, what lands at the top waits there: nothing moves under their eyes. */
function useStill(tiles: readonly TileOf[], reading: boolean): readonly TileOf[] {
  const top = useRef<ReadonlySet<string>>(new Set());
  return useMemo(() => {
    const from = reading ? tiles.findIndex(({ id }) => top.current.has(id)) : 0;
    const still = from > 0 ? tiles.slice(from) : tiles;
    top.current = new Set(still.slice(0, TOP_MAX).map(({ id }) => id));
    return still;
  }, [tiles, reading]);
}

export function Gallery({ tiles: all, loaded, hasMore, loadMore, empty, onOpen }: GalleryProps) {
  const { models } = useModels();
  const [ref, width, top] = useWidth();
  const [focusId, setFocusId] = useState<string | null>(null);
  const [reading, setReading] = useState(false);
  const tiles = useStill(all, reading);
  const unseen = all.length - tiles.length;

  const shapes = useRef<readonly number[]>([]);
  const aspects = useMemo(() => {
    const byId = new Map(models.map((model) => [model.id, model]));
    const next = tiles.map((tile) =>
      aspectOf(tile, byId.get(tile.job?.model ?? tile.draft?.request.model ?? tile.row?.model ?? '')),
    );
    // Most news change no shape: then nothing is laid out or measured anew.
    const before = shapes.current;
    if (before.length !== next.length || next.some((aspect, at) => aspect !== before[at]))
      shapes.current = next;
    return shapes.current;
  }, [tiles, models]);
  const layout = useMemo(() => justify(aspects, width, targetHeight(width), gapOf(width)), [aspects, width]);

  const { first, end, view } = useInView(layout.rows, top);

  // Keeps in step with: the scroll position, so that what is being looked at stays where it is (no yank).
  const anchor = useRef<{ id: string; y: number } | null>(null);
  useLayoutEffect(() => setReading(view.y > READING_PX), [view]);
  useLayoutEffect(() => {
    const before = anchor.current;
    if (before !== null && view.y > READING_PX) {
      const index = tiles.findIndex((tile) => tile.id === before.id);
      const moved = index < 0 ? 0 : (layout.boxes[index]?.y ?? before.y) - before.y;
      if (moved !== 0) {
        window.scrollBy({ top: moved, behavior: 'instant' });
        view.y = window.scrollY;
      }
    }
    const remember = (): void => {
      const index = layout.rows[rowAt(layout.rows, view.y - top)]?.from ?? -1;
      const tile = tiles[index];
      const box = layout.boxes[index];
      anchor.current = tile && box ? { id: tile.id, y: box.y } : null;
    };
    const onScroll = (): void => {
      setReading(view.y > READING_PX);
      remember();
    };
    remember();
    window.addEventListener('scroll', onScroll, { passive: true });
    return () => window.removeEventListener('scroll', onScroll);
  }, [tiles, layout, top, view]);

  const order = useRef<readonly TileOf[]>(tiles);
  order.current = tiles;
  const extend = useCallback((id: string) => {
    extendTo(
      id,
      order.current.flatMap((tile) => (tile.row ? [tile.id] : [])),
    );
  }, []);

  const nearEnd = hasMore && end >= layout.rows.length - OVERSCAN_ROWS;
  const loading = useRef(false);
  useEffect(() => {
    if (!nearEnd || loading.current) return;
    loading.current = true;
    loadMore().then(
      () => {
        loading.current = false;
      },
      () => {
        // the next scroll asks again
        window.setTimeout(() => {
          loading.current = false;
        }, 3000);
      },
    );
  }, [nearEnd, loadMore]);

  const from = layout.rows[first]?.from ?? 0;
  const to = layout.rows[end - 1]?.to ?? 0;
  const shown = tiles.slice(from, to);
  const roving = focusId !== null && shown.some((tile) => tile.id === focusId) ? focusId : shown[0]?.id;

  /** As little of a scroll as shows all of it. */
  function reveal(box: Box | undefined): void {
    if (!box) return;
    const y = top + box.y;
    if (y < view.y) window.scrollTo({ top: y, behavior: 'instant' });
    else if (y + box.height > view.y + view.height)
      window.scrollTo({ top: y + box.height - view.height, behavior: 'instant' });
  }

  function onKey(event: KeyboardEvent<HTMLElement>): void {
    const id = (event.target as HTMLElement).closest<HTMLElement>('[data-tile]')?.dataset.tile;
    const at = tiles.findIndex((tile) => tile.id === id);
    const box = layout.boxes[at];
    if (at < 0 || !box) return;
    const beside = (down: boolean): number => {
      const row = layout.rows.findIndex((each) => at >= each.from && at < each.to);
      const next = layout.rows[row + (down ? 1 : -1)];
      if (!next) return at;
      const centre = box.x + box.width / 2;
      let best = next.from;
      for (let i = next.from; i < next.to; i++) {
        const distance = (j: number): number => {
          const other = layout.boxes[j];
          return other ? Math.abs(other.x + other.width / 2 - centre) : Number.POSITIVE_INFINITY;
        };
        if (distance(i) < distance(best)) best = i;
      }
      return best;
    };
    const steps: Record<string, () => number> = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => beside(true),
      ArrowUp: () => beside(false),
      Home: () => 0,
      End: () => tiles.length - 1,
    };
    const target = tiles[steps[event.key]?.() ?? -1];
    if (!target) return;
    event.preventDefault();
    setFocusId(target.id);
    reveal(layout.boxes[tiles.indexOf(target)]);
    requestAnimationFrame(() => {
      document
        .querySelector<HTMLElement>(
          `[data-tile="${target.id}"] :is(.tile-open, .ended .button, .ended-dismiss)`,
        )
        ?.focus();
    });
  }

  return (
    <section className="gallery" aria-label="Results" aria-busy={!loaded}>
      {unseen > 0 && (
        <button
          type="button"
          className="new-pill"
          onClick={() => window.scrollTo({ top: 0, behavior: scrolling() })}
        >
          {unseen} new
        </button>
      )}
      {loaded && all.length === 0 && empty}
      <ul
        ref={ref}
        className="grid"
        data-still={reading || undefined}
        style={{ height: layout.height }}
        onKeyDown={onKey}
      >
        {shown.map((tile, offset) => {
          const box = layout.boxes[from + offset];
          return (
            box && (
              <DraggableTile
                key={tile.id}
                tile={tile}
                box={box}
                model={models.find(({ id }) => id === (tile.job?.model ?? tile.draft?.request.model))}
                focusable={tile.id === roving}
                onFocus={setFocusId}
                onOpen={onOpen}
                onExtend={extend}
              />
            )
          );
        })}
      </ul>
    </section>
  );
}
