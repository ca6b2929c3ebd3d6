import { isUnfinished, type Session } from '@safelight/client';
import { useCallback, useEffect, useState } from 'react';
import { useJobs, useTiles } from '../tiles';
import { Announcer } from './Announcer';
import { Composer, type Seed } from './Composer';
import { Gallery } from './Gallery';
import { Header } from './Header';
import { Lightbox } from './Lightbox';

interface StudioProps {
  readonly session: Session;
  readonly onProject: (project: string) => void;
}

/** The picture that is open is part of the address: Back closes it, a reload keeps it. */
function useOpenTile(): [string | null, (id: string | null) => void] {
  const read = (): string | null => /^#\/g\/([\w-]+)$/.exec(window.location.hash)?.[1] ?? null;
  const [id, setId] = useState(read);
  useEffect(() => {
    const follow = (): void => setId(read());
    window.addEventListener('popstate', follow);
    return () => window.removeEventListener('popstate', follow);
  });
  const open = useCallback((next: string | null) => {
    const at = window.history.state as { opened?: boolean } | null;
    if (next === null && at?.opened) window.history.back();
    else if (next === null) window.history.replaceState(null, '', window.location.pathname);
    else if (read() === null) window.history.pushState({ opened: true }, '', `#/g/${next}`);
    else window.history.replaceState(at, '', `#/g/${next}`);
    setId(next);
  }, []);
  return [id, open];
}

/** Tells in the tab's title that something is being made, also while nobody looks. */
function useTitle(): void {
  const running = useJobs()?.rows.filter(isUnfinished).length ?? 0;
  useEffect(() => {
    document.title = running > 0 ? `(${running}) Safelight` : 'Safelight';
  }, [running]);
}

export function Studio({ session, onProject }: StudioProps) {
  const { tiles, loaded } = useTiles();
  const [openId, setOpenId] = useOpenTile();
  const [seed, setSeed] = useState<Seed | null>(null);
  useTitle();

  const reuse = useCallback(
    (next: Seed) => {
      setSeed(next);
      setOpenId(null);
      window.scrollTo({ top: 0 });
    },
    [setOpenId],
  );

  return (
    <>
      <Header session={session} onProject={onProject} />
      <main className="studio">
        <Composer seed={seed} tiles={tiles} />
        <Gallery tiles={tiles} loaded={loaded} onOpen={setOpenId} onReuse={reuse} />
      </main>
      <Lightbox tiles={tiles} openId={openId} onOpen={setOpenId} onReuse={reuse} />
      <Announcer />
    </>
  );
}
