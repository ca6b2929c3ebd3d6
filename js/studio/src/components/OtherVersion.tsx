import { serverAge, useProject, useStore } from '@safelight/react';

const WORDS = {
  newer: 'The server was updated. This page is from before that: reload it to go on with the new one.',
  older: 'The server is older than this page. Reload it to have the one that fits.',
};

/** A page that was opened before the server was changed under it says so, and stays usable. */
export function OtherVersion() {
  const room = useProject();
  useStore(room.pulse);
  const age = serverAge(room.snapshot().config.version);
  if (age === null) return null;
  return (
    <div className="banner" role="status" data-testid="other-version">
      <span>{WORDS[age]}</span>
      <button type="button" className="button strong" onClick={() => window.location.reload()}>
        Reload
      </button>
    </div>
  );
}
