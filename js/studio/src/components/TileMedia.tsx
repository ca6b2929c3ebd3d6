import type { Generation } from '@safelight/react';
import { useProject } from '@safelight/react';
import { Music } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { isStill } from '../motion';
import { afterPaint, rememberPainted } from '../painted';
import { type Source, tileSource } from '../source';

interface TileMediaProps {
  readonly row: Generation;
  /** CSS pixels, to choose a thumbnail by. */
  readonly width: number;
  readonly visible: boolean;
  readonly playing: boolean;
  /** Shown without ceremony; what it is at first counts. */
  readonly plain: boolean;
  readonly onDecoded: () => void;
  readonly onPainted: () => void;
}

/** After so many it is said; the trying goes on, because servers come back. */
const SAID_AFTER = 4;
const RELOAD_MAX_MS = 10_000;

interface Lasting {
  readonly source: Source;
  /** Another try is another element: a browser does not ask again for the address that it failed to load. */
  readonly tries: number;
  readonly failures: number;
  readonly onBroken: () => void;
}

/** The file chosen first stays, however often it is signed anew; only a failed load asks for a new address. */
function useLastingSource(row: Generation): Lasting {
  const room = useProject();
  const [{ source, tries }, setChosen] = useState(() => ({ source: tileSource(row), tries: 0 }));
  const [failures, setFailures] = useState(0);
  const latest = useRef(row);
  latest.current = row;
  useEffect(() => {
    if (failures === 0) return;
    let gone = false;
    const timer = window.setTimeout(
      async () => {
        await room.renew(latest.current.id).catch(() => undefined); // then the old address is tried again
        if (!gone) setChosen({ source: tileSource(latest.current), tries: failures });
      },
      Math.min(RELOAD_MAX_MS, 600 * failures),
    );
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, [failures, room]);
  return { source, tries, failures, onBroken: () => setFailures((count) => count + 1) };
}

/** The picture itself. It is shown only once it is decoded, over the placeholder, which goes after that frame. */
export function TileMedia(props: TileMediaProps) {
  const { row, width, visible, playing, onDecoded, onPainted } = props;
  const room = useProject();
  const { source, tries, failures, onBroken } = useLastingSource(row);
  const [sizes] = useState(`${width}px`);
  const [plain] = useState(props.plain);
  const image = useRef<HTMLImageElement>(null);
  const layer = useRef<HTMLDivElement>(null);
  const latest = useRef(row);
  latest.current = row;
  const broke = useRef(onBroken);
  broke.current = onBroken;

  useEffect(() => {
    const element = image.current;
    if (element === null || source.as !== 'picture') return;
    let gone = false;
    element.decode().then(
      () => gone || onDecoded(),
      () => gone || broke.current(),
    );
    return () => {
      gone = true;
    };
  }, [source, onDecoded]);

  useEffect(() => {
    if (!visible) return;
    let gone = false;
    const stop = afterPaint(() => {
      rememberPainted(row.id);
      room.painted(latest.current);
      if (plain) return onPainted();
      // Asked for between two frames: within one, the browser would lay out first what is being changed.
      window.setTimeout(() => {
        if (gone) return;
        // The reveal ends when the browser has drawn its end, and not after a time: frames may be seconds apart.
        const reveals = layer.current?.getAnimations() ?? [];
        void Promise.allSettled(reveals.map(({ finished }) => finished)).then(() => gone || onPainted());
      }, 0);
    });
    return () => {
      gone = true;
      stop();
    };
  }, [visible, plain, row.id, onPainted, room]);

  const shown = visible || undefined;
  const alt = row.prompt ?? '';
  if (row.kind === 'audio') return <AudioFace onDecoded={onDecoded} />;
  return (
    <>
      <div ref={layer} className="media" data-shown={shown} data-plain={plain || undefined}>
        {source.as === 'picture' ? (
          <img
            key={tries}
            ref={image}
            src={source.src}
            srcSet={source.srcSet ?? undefined}
            sizes={sizes}
            alt={alt}
            decoding="async"
            draggable={false}
          />
        ) : (
          <video
            key={tries}
            src={source.src}
            muted
            playsInline
            preload="auto"
            aria-label={alt}
            onLoadedData={onDecoded}
            onError={onBroken}
          />
        )}
        {row.kind === 'video' && playing && <Preview src={row.urls.original} />}
      </div>
      {/* The placeholder stays below until there is something to see (F3). */}
      {!visible && failures >= SAID_AFTER && (
        <p className="media lost" data-shown data-plain>
          This one cannot be loaded just now. We try again.
        </p>
      )}
    </>
  );
}

/** Plays over the poster, and is seen only once it really plays. */
function Preview({ src }: { readonly src: string }) {
  const [first] = useState(src);
  const [on, setOn] = useState(false);
  if (isStill()) return null;
  return (
    <video
      className="preview"
      data-on={on || undefined}
      src={first}
      muted
      loop
      autoPlay
      playsInline
      aria-hidden="true"
      tabIndex={-1}
      onPlaying={() => setOn(true)}
    />
  );
}

function AudioFace({ onDecoded }: { readonly onDecoded: () => void }) {
  useEffect(onDecoded, [onDecoded]);
  return (
    <div className="media audio-face" data-shown>
      <Music size={28} aria-hidden="true" />
    </div>
  );
}
