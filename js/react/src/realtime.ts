import type { Mode, Role, Snapshot } from '@safelight/client';
import { useProject, useStore } from './context';

export interface Realtime {
  /** Everything up to now is here, and what comes is pushed. */
  readonly isConnected: boolean;
  readonly isConnecting: boolean;
  /** In words a person understands; null while nothing is wrong. */
  readonly error: string | null;
  readonly status: Mode;
  readonly transport: Snapshot['transport'];
  readonly role: Role;
  readonly cursor: Snapshot['cursor'];
  readonly head: number | null;
  /** ms since 1970. */
  readonly lastEventAt: number | null;
  readonly lastProofAt: number | null;
  /** Drops the channel, makes it anew, and reads everything again (F8). */
  readonly recover: () => void;
}

const ERRORS: Readonly<Record<Mode, string | null>> = {
  live: null,
  'catching-up': null,
  polling: 'The live line is down: looking every few seconds instead.',
  offline: 'The server cannot be reached.',
  paused: 'Live updates are switched off: looking every few seconds instead.',
};

/** How this window is connected. */
export function useRealtime(): Realtime {
  const room = useProject();
  const { mode, transport, cursor, head, lastEventAt, lastProofAt } = useStore(room.pulse);
  return {
    isConnected: mode === 'live',
    isConnecting: mode === 'catching-up',
    error: ERRORS[mode],
    status: mode,
    transport,
    role: room.role(),
    cursor,
    head,
    lastEventAt,
    lastProofAt,
    recover: room.recover,
  };
}
