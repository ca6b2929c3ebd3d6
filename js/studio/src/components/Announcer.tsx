import { type News, useProject } from '@safelight/react';
import { useEffect, useRef, useState } from 'react';
import { toast } from 'sonner';
import { credits } from '../words';

/** Several results within a breath are one sentence. */
const BATCH_MS = 900;

const shorten = (text: string): string => (text.length > 60 ? `${text.slice(0, 57)}…` : text);

function sentence(news: readonly News[]): string {
  const finished = news.flatMap((item) => (item.kind === 'finished' ? [item.generation] : []));
  const failed = news.filter(({ kind }) => kind === 'failed' || kind === 'refused').length;
  const parts: string[] = [];
  const [first] = finished;
  if (finished.length === 1 && first) parts.push(`Finished: ${shorten(first.prompt ?? first.kind)}.`);
  else if (finished.length > 1) parts.push(`${finished.length} results finished.`);
  if (failed > 0) parts.push(failed === 1 ? 'One job failed.' : `${failed} jobs failed.`);
  return parts.join(' ');
}

/** Speaks for those who do not see the tiles, and toasts what needs a hand. */
export function Announcer() {
  const room = useProject();
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
      if (news.kind === 'late') {
        toast('It takes longer than usual', {
          id: news.jobId,
          description: 'The job goes on without this page, and its result will be in the library.',
        });
      }
      if (news.kind === 'completed' || news.kind === 'canceled' || news.kind === 'late') return;
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
