import type { Tile } from '@safelight/react';
import { useProject } from '@safelight/react';
import { ImagePlus, X } from 'lucide-react';
import { useEffect, useRef } from 'react';
import { toast } from 'sonner';
import { usePanel } from '../panel';
import { thumbOf } from '../source';
import { uploadImage } from '../upload';

/** A picture to start from: an upload, or a result of this gallery. */
export interface Start {
  /** Null while its bytes are on their way. */
  readonly id: string | null;
  readonly state: 'sending' | 'ready';
  readonly preview: string;
}

interface PickerProps {
  readonly onStart: (start: Start | null) => void;
  /** The model makes nothing without one. */
  readonly needed: boolean;
  readonly tiles: readonly Tile[];
}

const RECENT = 8;

function Picker({ onStart, needed, tiles }: PickerProps) {
  const { api, project } = useProject();
  const { place, open, setOpen } = usePanel();
  const file = useRef<HTMLInputElement>(null);
  const recent = tiles.flatMap(({ row }) => (row?.kind === 'image' ? [row] : [])).slice(0, RECENT);

  const take = useRef<(picture: File) => Promise<void>>(async () => undefined);
  take.current = async (picture) => {
    setOpen(false);
    const preview = URL.createObjectURL(picture);
    onStart({ id: null, state: 'sending', preview });
    try {
      onStart({ id: await uploadImage(api, project, picture), state: 'ready', preview });
    } catch (error) {
      URL.revokeObjectURL(preview);
      onStart(null);
      toast.error('The picture was not taken', { description: error instanceof Error ? error.message : '' });
    }
  };

  // Keeps in step with: the window's drag and drop and clipboard.
  useEffect(() => {
    const pictureOf = (data: DataTransfer | null): File | undefined =>
      [...(data?.files ?? [])].find((each) => each.type.startsWith('image/'));
    const over = (event: DragEvent): void => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    };
    const drop = (event: DragEvent): void => {
      const picture = pictureOf(event.dataTransfer);
      if (!picture) return;
      event.preventDefault();
      void take.current(picture);
    };
    const paste = (event: ClipboardEvent): void => {
      const picture = pictureOf(event.clipboardData);
      if (picture) void take.current(picture);
    };
    window.addEventListener('dragover', over);
    window.addEventListener('drop', drop);
    window.addEventListener('paste', paste);
    return () => {
      window.removeEventListener('dragover', over);
      window.removeEventListener('drop', drop);
      window.removeEventListener('paste', paste);
    };
  }, []);

  return (
    <div className="start" ref={place}>
      <button
        type="button"
        className="select start-button"
        data-needed={needed || undefined}
        aria-expanded={open}
        aria-label="Start image"
        title="Start from a picture"
        onClick={() => (recent.length === 0 ? file.current?.click() : setOpen(!open))}
      >
        <ImagePlus size={17} aria-hidden="true" />
        {needed && <span>Add a picture</span>}
      </button>
      <input
        ref={file}
        type="file"
        accept="image/*"
        hidden
        data-testid="start-file"
        onChange={(event) => {
          const picture = event.target.files?.[0];
          if (picture) void take.current(picture);
          event.target.value = '';
        }}
      />
      {open && (
        <div className="panel start-panel">
          <p>Start from one of these, or drop a picture anywhere.</p>
          <div className="start-grid">
            {recent.map((row) => (
              <button
                key={row.id}
                type="button"
                aria-label={`Start from ${row.prompt ?? 'this picture'}`}
                onClick={() => {
                  onStart({ id: row.id, state: 'ready', preview: thumbOf(row, 96) });
                  setOpen(false);
                }}
              >
                <img src={thumbOf(row, 96)} alt="" />
              </button>
            ))}
          </div>
          <button type="button" className="button" onClick={() => file.current?.click()}>
            Choose a file
          </button>
        </div>
      )}
    </div>
  );
}

function Chip({ start, onRemove }: { readonly start: Start; readonly onRemove: () => void }) {
  return (
    <span className="start-chip" aria-busy={start.state === 'sending'}>
      <img src={start.preview} alt="What it starts from" />
      <button type="button" aria-label="Remove the start image" onClick={onRemove}>
        <X size={13} strokeWidth={2.6} aria-hidden="true" />
      </button>
    </span>
  );
}

export const StartImage = { Picker, Chip };
