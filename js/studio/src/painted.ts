/** Tiles that this page has shown once: coming back into view they need no ceremony. */
const PAINTED_MAX = 5_000;
const painted = new Set<string>();

export const wasPainted = (id: string): boolean => painted.has(id);

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
