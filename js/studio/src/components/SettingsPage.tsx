import { type Session, useProject, VERSION } from '@safelight/react';
import { type Motion, setMotion, useMotion } from '../motion';
import { setTheme, type Theme, useTheme } from '../theme';
import { Choice } from './Choice';
import { FlagsPanel } from './FlagsPanel';

const THEMES: readonly (readonly [Theme, string])[] = [
  ['dark', 'Dark'],
  ['light', 'Light'],
  ['system', 'As the machine'],
];
const MOTIONS: readonly (readonly [Motion, string])[] = [
  ['system', 'As the machine'],
  ['less', 'As little as can be'],
];

/** What a person may set for this browser; and, if they are named for it, for the whole installation. */
export default function SettingsPage({ session }: { readonly session: Session }) {
  const { theme } = useTheme();
  const motion = useMotion();
  const served = useProject().snapshot().config.version;
  return (
    <section className="page settings">
      <header className="page-head">
        <h1>Settings</h1>
      </header>
      <section>
        <h2>This browser</h2>
        <div className="setting">
          <div>
            <b>Look</b>
            <p>A darkroom, a lit room, or whatever the machine is set to.</p>
          </div>
          <Choice label="Look" name="theme" value={theme} options={THEMES} onChange={setTheme} />
        </div>
        <div className="setting">
          <div>
            <b>Movement</b>
            <p>Without it, nothing fades or glides, and clips do not play by themselves under the pointer.</p>
          </div>
          <Choice label="Movement" name="motion" value={motion} options={MOTIONS} onChange={setMotion} />
        </div>
      </section>
      {session.user.may_set_flags === true && <FlagsPanel />}
      <section>
        <h2>About</h2>
        <dl className="facts-list">
          <div>
            <dt>Signed in as</dt>
            <dd>{[session.user.name, session.user.role].filter(Boolean).join(', ')}</dd>
          </div>
          <div>
            <dt>This page</dt>
            <dd>Safelight {VERSION}</dd>
          </div>
          <div>
            <dt>The server</dt>
            <dd>{served === undefined ? 'does not say' : `Safelight ${served}`}</dd>
          </div>
          <div>
            <dt>Keyboard</dt>
            <dd>
              <kbd>?</kbd> shows every key
            </dd>
          </div>
        </dl>
      </section>
    </section>
  );
}
