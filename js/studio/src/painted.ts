/** Tiles that this page has shown once: coming back into view they need no ceremony. */
const PAINTED_MAX = 5_000;
const painted = new Set<string>();

export const wasPainted = (id: string): boolean => painted.has(id);

/** Somebody is scrolling until so long after the last step of it. */
const SCROLLING_MS = 200;
let scrolledAt = Number.NEGATIVE_INFINITY;
// The first to hear of it: what is drawn because of this step of the scroll asks already.
window.addEventListener(
  'scroll',
  () => {
    scrolledAt = performance.now();
  },
  { capture: true, passive: true },
);

/** A result that was there before its tile: it is shown at once where the eye has seen it, or hurries past. */
export const comesQuietly = (id: string): boolean =>
  painted.has(id) || performance.now() - scrolledAt < SCROLLING_MS;

export function rememberPainted(id: string): void {
  if (painted.size >= PAINTED_MAX) painted.clear();
  painted.add(id);
}

/** Calls back once the browser has put a frame with the current DOM on the screen (or would, were it visible). */
export function afterPaint(done: () => void): () => void {
  let over = false;
  const finish = (): void => {
    if (over) return;
    over = true;
    window.clearTimeout(timer);
    done();
  };
  // A hidden tab paints nothing and runs no frames.
  const timer = window.setTimeout(finish, 1500);
  requestAnimationFrame(() => requestAnimationFrame(finish));
  return () => {
    over = true;
    window.clearTimeout(timer);
  };
}
