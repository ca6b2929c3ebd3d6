import { RealtimeClient } from '@supabase/realtime-js';
import { eventId } from './cursor';
import type { LineHandlers, OpenLine } from './line';
import { Problem } from './problem';
import type { Change, ClientConfig, ProgressNote } from './resources';

/** The broadcasts that we follow; the server sends no others (they would only repeat these). */
const EVENTS = ['change', 'head', 'gap', 'progress', 'config'];
const JOIN_TIMEOUT_MS = 10_000;
/** realtime-js wants a key. With one that is no secret, the session's cookie counts before it. */
const COOKIE_KEY = 'pk_session';
/** Its own reconnecting is not used: it has no jitter, and forgets hidden tabs. Whatever ends a line, ends it for good. */
const NEVER_MS = 0x7fffffff;

export interface SocketOptions {
  /** `ws://host/realtime/v1` */
  readonly url: string;
  readonly apikey?: string | undefined;
  /** Asked before every connection, and while it stands (S6): token first. */
  readonly getToken?: (() => Promise<string | null>) | undefined;
  readonly transport?: unknown;
}

/** The payload of our broadcasts, as realtime-js hands it over. */
interface Said {
  readonly payload?: unknown;
}

/** The socket, by an unmodified @supabase/realtime-js. One client a connection, so that nothing of an old life lingers. */
export const socketLine = (project: string, options: SocketOptions): OpenLine => ({
  kind: 'socket',
  open(from, on) {
    let over = false;
    let client: RealtimeClient | null = null;
    const close = (): void => {
      over = true;
      // Taken apart in this order, so that the library's own rejoining has nothing left to rejoin.
      for (const channel of client?.getChannels() ?? []) channel.teardown();
      void client?.disconnect();
    };
    const end = (problem: Problem | null): void => {
      if (over) return;
      close();
      on.closed(problem);
    };
    const join = async (): Promise<void> => {
      const token = (await options.getToken?.()) ?? null;
      if (over) return;
      client = new RealtimeClient(options.url, {
        params: { apikey: options.apikey ?? token ?? COOKIE_KEY },
        timeout: JOIN_TIMEOUT_MS,
        reconnectAfterMs: () => NEVER_MS,
        heartbeatCallback: (status) => status === 'ok' && !over && on.heard(),
        ...(options.getToken ? { accessToken: options.getToken } : {}),
        ...(options.transport ? { transport: options.transport as never } : {}),
      });
      if (options.getToken) await client.setAuth(); // by the callback, which is asked again at every beat
      if (over) {
        close();
        return;
      }
      // `cursor` and `events` are our server's: realtime-js passes them along as they are.
      const broadcast = { self: false, ack: false, cursor: eventId(from), events: EVENTS };
      const channel = client.channel(`task-updates:${project}`, { config: { broadcast } });
      const hear = (event: string, act: (payload: unknown) => void): void => {
        channel.on('broadcast', { event }, ({ payload }: Said) => {
          if (over) return;
          on.heard();
          if (!over) act(payload);
        });
      };
      listen(hear, on);
      channel.subscribe((status, error) => {
        if (over) return;
        if (status === 'SUBSCRIBED') on.opened();
        else end(refusal(error));
      });
    };
    join().catch(() => end(null));
    return { kind: 'socket', close };
  },
});

function listen(hear: (event: string, act: (payload: unknown) => void) => void, on: LineHandlers): void {
  hear('change', (payload) => {
    const entry = payload as Change & { readonly epoch?: string };
    if (entry.epoch) on.changes(entry.epoch, [entry]);
  });
  hear('head', (payload) => {
    const { epoch, seq } = payload as { epoch: string; seq: number };
    on.head(epoch, seq);
  });
  hear('gap', (payload) => {
    // What we are too slow for comes from the log, in order; only a log that was replaced is news.
    if ((payload as { must_refetch?: boolean }).must_refetch) on.lost();
  });
  hear('progress', (payload) => on.progress(payload as ProgressNote));
  hear('config', (payload) => on.configured(payload as ClientConfig));
}

/** A refused join says why; what only broke does not. */
function refusal(error: Error | undefined): Problem | null {
  const text = error?.message ?? '';
  return text.includes('Unauthorized') ? new Problem(401, 'unauthorized', text) : null;
}

/** The socket stands beside the API. */
export function realtimeUrlOf(base: string): string | null {
  const here = typeof location === 'undefined' ? undefined : location.href;
  if (base === '' && here === undefined) return null;
  const url = new URL(`${base}/realtime/v1`, here);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}
