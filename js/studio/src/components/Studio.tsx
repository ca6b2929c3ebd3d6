import { type Session, type Tile, useGallery, useProject } from '@safelight/react';
import { lazy, Suspense, useCallback, useMemo, useState } from 'react';
import { go, openTile, useRoute } from '../route';
import { useTitle } from '../title';
import { Announcer } from './Announcer';
import { Broken, brokenPage } from './Broken';
import { Compare } from './Compare';
import { Composer, type Seed } from './Composer';
import { CreditsPage } from './CreditsPage';
import { Empty } from './Empty';
import { Filters } from './Filters';
import { Gallery } from './Gallery';
import { Header } from './Header';
import { Keyboard } from './Keyboard';
import { Lightbox } from './Lightbox';
import { OtherVersion } from './OtherVersion';
import { QueuePage } from './QueuePage';
import { SelectionBar } from './SelectionBar';
import { ShortcutSheet } from './ShortcutSheet';
import { ShotDock } from './ShotDock';
import { ShotPage } from './ShotPage';
import { ShotsPage } from './ShotsPage';
import { TemplatesPage } from './TemplatesPage';

// What few open at first is not part of the first load.
const Palette = lazy(() => import('./Palette'));
const DiagnosticsPage = lazy(() =>
  import('./DiagnosticsPage').then(({ DiagnosticsPage: page }) => ({ default: page })),
);
const CanvasPage = lazy(() => import('./canvas/CanvasPage'));
const SettingsPage = lazy(() => import('./SettingsPage'));

interface StudioProps {
  readonly session: Session;
  readonly project: string;
  readonly onProject: (project: string) => void;
}

const NO_TILES: readonly Tile[] = [];

export function Studio({ session, project, onProject }: StudioProps) {
  const route = useRoute();
  const { page, shot, filters } = route;
  const isGallery = page === 'gallery';
  const isNarrowed = Object.keys(filters).length > 0;
  const room = useProject();
  const gallery = useGallery(shot !== null ? { shot } : isGallery ? filters : {});
  const [seed, setSeed] = useState<Seed | null>(null);
  const [palette, setPalette] = useState(false);
  const [sheet, setSheet] = useState(false);
  const [compared, setCompared] = useState<readonly [string, string] | null>(null);
  useTitle();

  const reuse = useCallback((next: Seed) => {
    setSeed(next);
    openTile(null);
    window.scrollTo({ top: 0 });
  }, []);
  const openPalette = useCallback(() => setPalette(true), []);
  const openSheet = useCallback(() => setSheet(true), []);
  const target = useMemo(() => (shot === null ? null : { shot_id: shot }), [shot]);
  const shown = isGallery || shot !== null ? gallery.tiles : NO_TILES;

  return (
    <>
      <Header session={session} project={project} onProject={onProject} onPalette={openPalette} />
      <OtherVersion />
      <main className="studio">
        <Broken key={`${page} ${shot}`} instead={brokenPage}>
          {(isGallery || shot !== null) && <Composer seed={seed} tiles={gallery.tiles} target={target} />}
          {isGallery && (
            <ShotDock tiles={gallery.tiles}>
              <Filters filters={filters} />
              <Gallery
                key={room.project}
                tiles={gallery.tiles}
                loaded={gallery.loaded}
                hasMore={gallery.hasMore}
                loadMore={gallery.loadMore}
                empty={isNarrowed ? <NothingFound /> : <Empty onReuse={reuse} />}
                onOpen={openTile}
              />
            </ShotDock>
          )}
          {page === 'shots' &&
            (shot === null ? <ShotsPage /> : <ShotPage key={shot} id={shot} gallery={gallery} />)}
          {page === 'canvas' && (
            <Suspense fallback={<section className="canvas" aria-busy="true" />}>
              <CanvasPage onReuse={reuse} />
            </Suspense>
          )}
          {page === 'queue' && <QueuePage />}
          {page === 'templates' && <TemplatesPage />}
          {page === 'credits' && <CreditsPage />}
          {page === 'diagnostics' && (
            <Suspense fallback={null}>
              <DiagnosticsPage />
            </Suspense>
          )}
          {page === 'settings' && (
            <Suspense fallback={<section className="page" aria-busy="true" />}>
              <SettingsPage session={session} />
            </Suspense>
          )}
        </Broken>
      </main>
      <SelectionBar tiles={shown} {...(shot === null ? {} : { shot })} onCompare={setCompared} />
      {page !== 'canvas' && <Lightbox tiles={shown} openId={route.open} onOpen={openTile} onReuse={reuse} />}
      <Compare ids={compared} tiles={shown} onClose={() => setCompared(null)} />
      <Keyboard tiles={shown} onPalette={openPalette} onSheet={openSheet} />
      <ShortcutSheet open={sheet} onClose={() => setSheet(false)} />
      {palette && (
        <Broken instead={() => null}>
          <Suspense fallback={null}>
            <Palette open={palette} onClose={() => setPalette(false)} onReuse={reuse} onSheet={openSheet} />
          </Suspense>
        </Broken>
      )}
      <Announcer />
    </>
  );
}

const NothingFound = () => (
  <section className="empty">
    <h1>Nothing like that</h1>
    <p>No result matches what you search for.</p>
    <div className="ideas">
      <button type="button" className="idea" onClick={() => go({ filters: {} }, true)}>
        Show everything
      </button>
    </div>
  </section>
);
