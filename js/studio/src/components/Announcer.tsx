import { useEffect, useRef, useState } from 'react';
import { toast } from 'sonner';
import type { News } from '../darkroom';
import { useRoom } from '../room';
import { credits } from '../words';

/** Several results within a breath are one sentence. */
const BATCH_MS = 900;

const shorten = (text: string): string => (text.length > 60 ? `${text.slice(0, 57)}…` : text);

function sentence(news: readonly News[]): string {
  const finished = news.flatMap((item) => (item.kind === 'finished' ? [item.generation] : []));
  const failed = news.length - finished.length;
  const parts: string[] = [];
  const [first] = finished;
  if (finished.length === 1 && first) parts.push(`Finished: ${shorten(first.prompt ?? first.kind)}.`);
  else if (finished.length > 1) parts.push(`${finished.length} results finished.`);
  if (failed > 0) parts.push(failed === 1 ? 'One job failed.' : `${failed} jobs failed.`);
  return parts.join(' ');
}

/** Speaks for those who do not see the tiles, and toasts what needs a hand. */
export function Announcer() {
  const room = useRoom();
  const [said, setSaid] = useState('');
  const waiting = useRef<News[]>([]);

  useEffect(() => {
    let timer: number | null = null;
    const speak = (): void => {
      timer = null;
      setSaid(sentence(waiting.current));
      waiting.current = [];
    };
    const stop = room.onNews((news) => {
      waiting.current.push(news);
      timer ??= window.setTimeout(speak, BATCH_MS);
      if (news.kind === 'refused' && news.draft.trouble?.code === 'insufficient_credits') {
        const { required, available } = news.draft.trouble;
        toast.error('Not enough credits', {
          id: 'credits',
          description: `This needs ${credits(required ?? 0)}; ${credits(available ?? 0)} are available.`,
        });
      }
    });
    return () => {
      stop();
      if (timer !== null) window.clearTimeout(timer);
    };
  }, [room]);

  return (
    <div className="unseen" aria-live="polite" role="status">
      {said}
    </div>
  );
}
