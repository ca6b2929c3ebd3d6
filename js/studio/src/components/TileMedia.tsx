import type { Generation } from '@safelight/react';
import { useProject } from '@safelight/react';
import { Music } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { isStill } from '../motion';
import { afterPaint, rememberPainted, wasPainted } from '../painted';
import { type Source, tileSource } from '../source';

interface TileMediaProps {
  readonly row: Generation;
  /** CSS pixels, to choose a thumbnail by. */
  readonly width: number;
  readonly visible: boolean;
  readonly playing: boolean;
  readonly onDecoded: () => void;
  readonly onPainted: () => void;
}

/** Longest a reveal may take before the placeholder under it goes anyway. */
const REVEAL_MS = 1_100;
const LOADS_MAX = 4;

/** The file chosen first stays, however often it is signed anew; only a failed load asks for a new address. */
function useLastingSource(row: Generation): { source: Source; failures: number; onBroken: () => void } {
  const room = useProject();
  const [source, setSource] = useState(() => tileSource(row));
  const [failures, setFailures] = useState(0);
  const latest = useRef(row);
  latest.current = row;
  useEffect(() => {
    if (failures === 0 || failures >= LOADS_MAX) return;
    const timer = window.setTimeout(async () => {
      await room.renew(latest.current.id).catch(() => undefined); // then the old address is tried again
      setSource(tileSource(latest.current));
    }, 600 * failures);
    return () => window.clearTimeout(timer);
  }, [failures, room]);
  return { source, failures, onBroken: () => setFailures((count) => count + 1) };
}

/** The picture itself. It is shown only once it is decoded, over the placeholder, which goes after that frame. */
export function TileMedia({ row, width, visible, playing, onDecoded, onPainted }: TileMediaProps) {
  const room = useProject();
  const { source, failures, onBroken } = useLastingSource(row);
  const [sizes] = useState(`${width}px`);
  const [plain] = useState(() => wasPainted(row.id));
  const image = useRef<HTMLImageElement>(null);
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
    let timer: number | null = null;
    const stop = afterPaint(() => {
      rememberPainted(row.id);
      room.painted(latest.current);
      if (plain) onPainted();
      else timer = window.setTimeout(onPainted, REVEAL_MS);
    });
    return () => {
      stop();
      if (timer !== null) window.clearTimeout(timer);
    };
  }, [visible, plain, row.id, onPainted, room]);

  const lost = failures >= LOADS_MAX;
  useEffect(() => {
    if (lost) onDecoded();
  }, [lost, onDecoded]);

  const shown = visible || undefined;
  const alt = row.prompt ?? '';
  if (lost) return <p className="media lost">This one cannot be loaded just now.</p>;
  if (row.kind === 'audio') return <AudioFace onDecoded={onDecoded} />;
  return (
    <div className="media" data-shown={shown} data-plain={plain || undefined}>
      {source.as === 'picture' ? (
        <img
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
