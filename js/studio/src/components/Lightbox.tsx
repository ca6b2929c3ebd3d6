import type { Generation, Tile } from '@safelight/react';
import { useProject } from '@safelight/react';
import { ChevronLeft, ChevronRight, Download, ImagePlus, PenLine, Star, Trash2, X } from 'lucide-react';
import { type KeyboardEvent, useEffect, useRef, useState } from 'react';
import { useActs } from '../acts';
import { thumbOf } from '../source';
import { elapsed, fileSize } from '../words';
import type { Seed } from './Composer';

interface LightboxProps {
  readonly tiles: readonly Tile[];
  readonly openId: string | null;
  readonly onOpen: (id: string | null) => void;
  readonly onReuse: (seed: Seed) => void;
}

/** One result, large. The native dialog keeps the focus inside and gives it back. */
export function Lightbox({ tiles, openId, onOpen, onReuse }: LightboxProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const rows = openId === null ? [] : tiles.flatMap(({ row }) => (row ? [row] : []));
  const at = rows.findIndex(({ id }) => id === openId);
  const row = rows[at];
  const shown = row !== undefined;

  useEffect(() => {
    const element = dialog.current;
    if (shown && !element?.open) element?.showModal();
    if (!shown && element?.open) element.close();
  }, [shown]);

  const go = (step: number): void => {
    const next = rows[at + step];
    if (next) onOpen(next.id);
  };

  return (
    <dialog
      ref={dialog}
      className="lightbox"
      aria-label="Result"
      onCancel={(event) => {
        event.preventDefault();
        onOpen(null);
      }}
    >
      {row && (
        <Sheet
          key={row.id}
          row={row}
          first={at === 0}
          last={at === rows.length - 1}
          go={go}
          onClose={() => onOpen(null)}
          onLeave={() => onOpen(rows[at + 1]?.id ?? rows[at - 1]?.id ?? null)}
          onReuse={onReuse}
        />
      )}
    </dialog>
  );
}

interface SheetProps {
  readonly row: Generation;
  readonly first: boolean;
  readonly last: boolean;
  readonly go: (step: number) => void;
  readonly onClose: () => void;
  readonly onLeave: () => void;
  readonly onReuse: (seed: Seed) => void;
}

function Sheet({ row, first, last, go, onClose, onLeave, onReuse }: SheetProps) {
  const acts = useActs();
  const sheet = useRef<HTMLElement>(null);
  useEffect(() => sheet.current?.focus(), []);

  const star = (): void => acts.star([row.id], !row.starred);
  const remove = (): void => {
    onLeave();
    acts.remove([row.id]);
  };

  function onKey(event: KeyboardEvent): void {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const acts: Record<string, () => void> = {
      ArrowLeft: () => go(-1),
      ArrowRight: () => go(1),
      s: star,
      '.': star,
      Delete: remove,
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  const name = `${(row.prompt ?? row.kind).slice(0, 40).replace(/[^\p{L}\p{N}]+/gu, '-')}.${row.mime.split('/')[1] ?? 'bin'}`;
  return (
    <article ref={sheet} className="sheet" tabIndex={-1} onKeyDown={onKey} data-open={row.id}>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it by keyboard */}
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the dark around the picture closes it */}
      <div className="stage" onClick={(event) => event.target === event.currentTarget && onClose()}>
        <Large row={row} />
        <button
          type="button"
          className="step step-back"
          aria-label="Previous"
          disabled={first}
          onClick={() => go(-1)}
        >
          <ChevronLeft size={26} aria-hidden="true" />
        </button>
        <button
          type="button"
          className="step step-on"
          aria-label="Next"
          disabled={last}
          onClick={() => go(1)}
        >
          <ChevronRight size={26} aria-hidden="true" />
        </button>
      </div>
      <aside className="facts">
        <button type="button" className="icon close" aria-label="Close" onClick={onClose}>
          <X size={18} aria-hidden="true" />
        </button>
        <p className="facts-prompt">{row.prompt || 'No prompt'}</p>
        <div className="acts">
          <button type="button" className="button" aria-pressed={row.starred} onClick={star}>
            <Star size={15} aria-hidden="true" fill={row.starred ? 'currentColor' : 'none'} />
            {row.starred ? 'Starred' : 'Star'}
          </button>
          <a className="button" href={row.urls.original} download={name}>
            <Download size={15} aria-hidden="true" />
            Download
          </a>
          {row.prompt && (
            <button type="button" className="button" onClick={() => onReuse({ prompt: row.prompt ?? '' })}>
              <PenLine size={15} aria-hidden="true" />
              Use the prompt
            </button>
          )}
          {row.kind === 'image' && (
            <button
              type="button"
              className="button"
              onClick={() => onReuse({ start: { id: row.id, state: 'ready', preview: thumbOf(row, 96) } })}
            >
              <ImagePlus size={15} aria-hidden="true" />
              Start from this
            </button>
          )}
          <button type="button" className="button" onClick={remove}>
            <Trash2 size={15} aria-hidden="true" />
            Delete
          </button>
        </div>
        <dl>
          {row.model && (
            <>
              <dt>Model</dt>
              <dd>{row.model}</dd>
            </>
          )}
          {row.width !== null && row.height !== null && (
            <>
              <dt>Size</dt>
              <dd>
                {row.width} × {row.height}
              </dd>
            </>
          )}
          {row.duration_s !== null && (
            <>
              <dt>Length</dt>
              <dd>{elapsed(Math.max(1, row.duration_s))}</dd>
            </>
          )}
          {row.bytes !== null && (
            <>
              <dt>File</dt>
              <dd>
                {row.mime.split('/')[1]?.toUpperCase()}, {fileSize(row.bytes)}
              </dd>
            </>
          )}
          <dt>Made</dt>
          <dd>{new Date(row.created_at).toLocaleString()}</dd>
        </dl>
      </aside>
    </article>
  );
}

/** What is already here is shown at once; the original comes over it when it is decoded. */
function Large({ row }: { readonly row: Generation }) {
  const room = useProject();
  const [sharp, setSharp] = useState(false);
  const image = useRef<HTMLImageElement>(null);
  const [src, setSrc] = useState(row.urls.original);
  const tried = useRef(false);
  const latest = useRef(row);
  latest.current = row;

  useEffect(() => {
    let gone = false;
    image.current?.decode().then(
      () => gone || setSharp(true),
      async () => {
        if (gone || tried.current) return;
        tried.current = true; // the address may have expired: one new one
        await room.renew(latest.current.id).catch(() => undefined);
        if (!gone) setSrc(latest.current.urls.original);
      },
    );
    return () => {
      gone = true;
    };
  }, [room, src]);

  const ratio = `${row.width ?? 1} / ${row.height ?? 1}`;
  const frame = { aspectRatio: ratio, '--w': row.width ?? 1024, '--r': (row.width ?? 1) / (row.height ?? 1) };
  if (row.kind === 'video') {
    return (
      <div className="large" style={frame}>
        <video
          src={row.urls.original}
          poster={row.urls.poster ?? thumbOf(row, 600)}
          controls
          autoPlay
          muted
          loop
          playsInline
          aria-label={row.prompt ?? 'Video'}
        />
      </div>
    );
  }
  if (row.kind === 'audio') {
    // biome-ignore lint/a11y/useMediaCaption: there is no text of a generated sound
    return <audio src={row.urls.original} controls />;
  }
  return (
    <div className="large" style={frame}>
      <img src={thumbOf(row, 320)} alt="" aria-hidden="true" />
      <img
        ref={image}
        src={src}
        alt={row.prompt ?? ''}
        data-sharp={sharp || undefined}
        className="original"
      />
    </div>
  );
}
