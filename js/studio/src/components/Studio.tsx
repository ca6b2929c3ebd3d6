import { type Session, useGallery } from '@safelight/react';
import { useCallback, useState } from 'react';
import { openTile, useRoute } from '../route';
import { Announcer } from './Announcer';
import { Composer, type Seed } from './Composer';
import { Empty } from './Empty';
import { Gallery } from './Gallery';
import { Header } from './Header';
import { Lightbox } from './Lightbox';

interface StudioProps {
  readonly session: Session;
  readonly project: string;
  readonly onProject: (project: string) => void;
}

export function Studio({ session, onProject }: StudioProps) {
  const route = useRoute();
  const { tiles, loaded, hasMore, loadMore } = useGallery();
  const [seed, setSeed] = useState<Seed | null>(null);

  const reuse = useCallback((next: Seed) => {
    setSeed(next);
    openTile(null);
    window.scrollTo({ top: 0 });
  }, []);

  return (
    <>
      <Header session={session} onProject={onProject} />
      <main className="studio">
        <Composer seed={seed} tiles={tiles} />
        <Gallery
          tiles={tiles}
          loaded={loaded}
          hasMore={hasMore}
          loadMore={loadMore}
          empty={<Empty onReuse={reuse} />}
          onOpen={openTile}
        />
      </main>
      <Lightbox tiles={tiles} openId={route.open} onOpen={openTile} onReuse={reuse} />
      <Announcer />
    </>
  );
}
