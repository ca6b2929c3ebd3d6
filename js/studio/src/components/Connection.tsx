import type { Mode, Realtime } from '@safelight/react';
import { useProject, useStore } from '@safelight/react';
import { useId } from 'react';
import { useNow } from '../clock';
import { usePanel } from '../panel';
import { go } from '../route';
import { ago } from '../words';

const WORDS: Readonly<Record<Mode, { label: string; meaning: string }>> = {
  live: { label: 'Live', meaning: 'Results appear the moment they are stored.' },
  'catching-up': { label: 'Catching up', meaning: 'Reading what happened in the meantime.' },
  polling: { label: 'Polling', meaning: 'The live line is down. Looking every few seconds instead.' },
  offline: {
    label: 'Offline',
    meaning: 'The server cannot be reached. Running jobs go on without this page.',
  },
  paused: {
    label: 'Paused',
    meaning: 'Live updates are switched off here. Looking every few seconds instead.',
  },
};

const WAYS: Readonly<Record<Realtime['transport'], string>> = {
  socket: 'socket',
  stream: 'event stream',
  tab: 'another tab of yours',
  poll: 'polling',
};

export function Connection() {
  const room = useProject();
  const pulse = useStore(room.pulse);
  const { place, open, setOpen } = usePanel();
  const panel = useId();
  const { label, meaning } = WORDS[pulse.mode];

  return (
    <div className="connection" ref={place}>
      <button
        type="button"
        className="pill"
        data-testid="connection"
        data-mode={pulse.mode}
        aria-expanded={open}
        aria-controls={panel}
        onClick={() => setOpen(!open)}
      >
        <span className="dot" aria-hidden="true" />
        {label}
      </button>
      {open && (
        <div className="panel" id={panel}>
          <p>{meaning}</p>
          <Figures />
          <button type="button" className="button" onClick={() => room.recover()}>
            Recover now
          </button>
          <button
            type="button"
            className="button quiet"
            onClick={() => {
              setOpen(false);
              go({ page: 'diagnostics' });
            }}
          >
            Diagnostics
          </button>
        </div>
      )}
    </div>
  );
}

function Figures() {
  const { cursor, head, lastEventAt, lastProofAt, transport } = useStore(useProject().pulse);
  const now = useNow();
  const since = (at: number | null): string => (at === null ? 'never yet' : ago((now - at) / 1000));
  return (
    <dl>
      <dt>Way</dt>
      <dd>{WAYS[transport]}</dd>
      <dt>Read up to</dt>
      <dd>{cursor === null ? '–' : `${cursor.seq} of ${head ?? cursor.seq}`}</dd>
      <dt>Last change</dt>
      <dd>{since(lastEventAt)}</dd>
      <dt>Known fresh</dt>
      <dd>{since(lastProofAt)}</dd>
    </dl>
  );
}
