import type { Mode } from '@safelight/client';
import type { Darkroom } from './darkroom';

/** What `window.__SAFELIGHT__` tells whoever looks (D5). */
export interface Snapshot {
  readonly mode: Mode;
  readonly cursor: { readonly epoch: string | null; readonly seq: number } | null;
  readonly head: number | null;
  readonly lastEventAt: number | null;
  /** Job ids submitted here whose row has not come yet. */
  readonly pending: readonly string[];
  readonly transport: 'stream' | 'poll';
}

declare global {
  interface Window {
    __SAFELIGHT__?: Snapshot;
  }
}

export function exposeSnapshot(room: Darkroom): () => void {
  Object.defineProperty(window, '__SAFELIGHT__', {
    configurable: true,
    get: (): Snapshot => {
      const { mode, cursor, head, lastEventAt, transport } = room.pulse.get();
      const pending = room.local.get().drafts.map((draft) => draft.request.id);
      return { mode, cursor, head, lastEventAt, pending, transport };
    },
  });
  return () => {
    delete window.__SAFELIGHT__;
  };
}
