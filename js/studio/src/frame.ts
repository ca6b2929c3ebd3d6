import { flushSync } from 'react-dom';

/** A tab that was hidden meanwhile gets its frame only when it is seen again. */
const LATE_MS = 100;

type Act = () => void;

/** Calls back in the next frame. A tab that nobody looks at has none, and a busy machine has them late. */
function nextFrame(act: Act): void {
  const hidden = document.visibilityState === 'hidden';
  const once = (): void => {
    clearTimeout(late);
    cancelAnimationFrame(frame);
    act();
  };
  const late = setTimeout(once, hidden ? 0 : LATE_MS);
  const frame = hidden ? 0 : requestAnimationFrame(once);
}

/** All of it as one drawing. */
function draw(acts: Act[]): void {
  const now = acts.splice(0);
  flushSync(() => {
    for (const act of now) act();
  });
}

const steps: Act[] = [];

/** Steps of single tiles (decoded, painted): those of one frame are one drawing, before it is laid out. */
export function inFrame(act: Act): void {
  if (steps.push(act) === 1) nextFrame(() => draw(steps));
}

const news: Act[] = [];
let isShown = true;

function tell(): void {
  isShown = false;
  nextFrame(() => {
    isShown = true;
    if (news.length > 0) setTimeout(tell, 0);
  });
  draw(news);
}

/**
 * What the feed brings: at once, and then no more than once a frame. A hundred results in ten seconds are a thousand
 * entries, and each touches several lists. Between frames, so that drawing and laying out are two tasks of half the
 * length, and a key that is pressed meanwhile comes between them.
 */
export function betweenFrames(act: Act): void {
  if (news.push(act) === 1 && isShown) setTimeout(tell, 0);
}
