import type { Api } from './api';
import { eventId, parseEventId } from './cursor';
import { readEvents, type StreamEvent } from './eventStream';
import type { LineHandlers, OpenLine } from './line';
import { Problem } from './problem';
import type { Change, ProgressNote } from './resources';

/** Server-Sent Events: for networks that let no socket through. */
export const streamLine = (api: Api, project: string): OpenLine => ({
  kind: 'stream',
  open(from, on) {
    const abort = new AbortController();
    let over = false;
    const end = (problem: Problem | null): void => {
      if (over) return;
      over = true;
      on.closed(problem);
    };
    void (async () => {
      try {
        const headers = { accept: 'text/event-stream', 'last-event-id': eventId(from) };
        const response = await api.open(`/v1/projects/${project}/changes/stream`, headers, abort.signal);
        if (over) return;
        on.opened();
        await readEvents(
          response,
          () => over || on.heard(),
          (event) => over || told(event, on),
        );
        end(null);
      } catch (error) {
        end(error instanceof Problem ? error : null);
      }
    })();
    return {
      kind: 'stream',
      close() {
        over = true;
        abort.abort();
      },
    };
  },
});

function told({ event, data, id }: StreamEvent, on: LineHandlers): void {
  if (event === 'progress') on.progress(JSON.parse(data) as ProgressNote);
  else if (event === 'must_refetch') on.lost();
  else if (event === 'head') {
    const beat = JSON.parse(data) as { epoch: string; head: number };
    on.head(beat.epoch, beat.head);
  } else if (event === 'change') {
    const place = parseEventId(id);
    if (place !== null) on.changes(place.epoch, [JSON.parse(data) as Change]);
  }
}
