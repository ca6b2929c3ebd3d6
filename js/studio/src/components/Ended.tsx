import type { Tile } from '@safelight/react';
import { useProject, useStore } from '@safelight/react';
import { CircleSlash, RotateCcw, TriangleAlert, X } from 'lucide-react';
import { toast } from 'sonner';
import { credits } from '../words';

interface Story {
  readonly title: string;
  readonly text: string;
  readonly charged: number;
  readonly retry: boolean;
}

function storyOf({ state, job, draft }: Tile): Story {
  if (state === 'canceled') return { title: 'Canceled', text: '', charged: 0, retry: false };
  if (draft?.trouble) {
    const { code, message, required, available } = draft.trouble;
    if (code === 'insufficient_credits' && required !== null && available !== null) {
      const text = `This needs ${credits(required)} credits; ${credits(available)} are available.`;
      return { title: 'Not enough credits', text, charged: 0, retry: true };
    }
    return {
      title: code === 'unreachable' ? 'Not sent' : 'Not accepted',
      text: message,
      charged: 0,
      retry: true,
    };
  }
  const text = job?.error?.message ?? 'It ended without a reason.';
  // A retry is offered always: the person may know what changed. `retryable` only colours the words.
  return { title: 'Failed', text, charged: job?.credits?.charged ?? 0, retry: true };
}

/** A tile that became no picture: says why, what it cost, and what can be done (F3, J7). */
export function Ended({ tile }: { readonly tile: Tile }) {
  const room = useProject();
  const retrying = useStore(room.local).retrying.has(tile.jobId ?? '');
  const { title, text, charged, retry } = storyOf(tile);
  const canceled = tile.state === 'canceled';
  return (
    <div className="ended">
      <button
        type="button"
        className="ended-dismiss"
        aria-label="Dismiss"
        onClick={() => tile.jobId !== null && room.dismiss(tile.jobId)}
      >
        <X size={15} aria-hidden="true" />
      </button>
      <p className="ended-title">
        {canceled ? (
          <CircleSlash size={16} aria-hidden="true" />
        ) : (
          <TriangleAlert size={16} aria-hidden="true" />
        )}
        {title}
      </p>
      {text && (
        <p className="ended-text" data-testid="reason" title={text}>
          {text}
        </p>
      )}
      <p className="ended-foot">
        {retry && (
          <button
            type="button"
            className="button"
            data-testid="retry"
            disabled={retrying}
            onClick={() => {
              room
                .retry(tile.jobId ?? '')
                .catch((error: Error) => toast.error('Not retried', { description: error.message }));
            }}
          >
            <RotateCcw size={14} aria-hidden="true" />
            Retry
          </button>
        )}
        {!canceled && <span>{charged > 0 ? `${credits(charged)} charged` : 'Not charged'}</span>}
      </p>
    </div>
  );
}
