import { useProject, useRunning } from '@safelight/react';
import { useEffect, useState } from 'react';

/** What runs and what is done, in the tab's title and on its icon; hidden tabs too. */
export const titleOf = (running: number, done: number): string =>
  running > 0 ? `(${running}) Safelight` : done > 0 ? `✓ ${done} done · Safelight` : 'Safelight';

const SHADE = 'M7 18a9 9 0 0 1 18 0z';
const LIGHT = 'M9.5 20.5h13L26 30H6z';

/** The mark, with a dot while something runs and a green one when something was finished unseen. */
export function iconOf(running: number, done: number): string {
  const dot = running > 0 ? '#f5b14c' : done > 0 ? '#6fcf8e' : null;
  const badge = dot ? `<circle cx="25" cy="7" r="6" fill="${dot}"/>` : '';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="${SHADE}" fill="#ff5d38"/><path d="${LIGHT}" fill="#ff5d38" opacity=".35"/>${badge}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

export function useTitle(): void {
  const room = useProject();
  const running = useRunning();
  const [done, setDone] = useState(0);

  // Keeps in step: what finished while nobody looked.
  useEffect(() => {
    const stop = room.onNews(({ kind }) => {
      if (kind === 'finished' && document.visibilityState === 'hidden') setDone((count) => count + 1);
    });
    const seen = (): void => {
      if (document.visibilityState === 'visible') setDone(0);
    };
    document.addEventListener('visibilitychange', seen);
    return () => {
      stop();
      document.removeEventListener('visibilitychange', seen);
    };
  }, [room]);

  useEffect(() => {
    document.title = titleOf(running, done);
    document.querySelector<HTMLLinkElement>('link[rel="icon"]')?.setAttribute('href', iconOf(running, done));
  }, [running, done]);
}
