import { type Session, useRunning, useWallet } from '@safelight/react';
import { Command, Settings } from 'lucide-react';
import { go, type PageName, useRoute } from '../route';
import { credits } from '../words';
import { Connection } from './Connection';
import { Lamp } from './Lamp';

interface HeaderProps {
  readonly session: Session;
  readonly project: string;
  readonly onProject: (project: string) => void;
  readonly onPalette: () => void;
}

const PLACES: readonly [PageName, string][] = [
  ['gallery', 'Gallery'],
  ['shots', 'Shots'],
  ['canvas', 'Canvas'],
  ['queue', 'Queue'],
  ['templates', 'Templates'],
];

export function Header({ session, project, onProject, onPalette }: HeaderProps) {
  const wallet = useWallet()?.wallet;
  const running = useRunning();
  const { page } = useRoute();
  return (
    <header className="header">
      <a className="mark" href="#/" aria-label="Safelight">
        <Lamp />
        <span>Safelight</span>
      </a>
      {session.projects.length > 1 && (
        <select
          className="select project"
          aria-label="Project"
          value={project}
          onChange={(event) => onProject(event.target.value)}
        >
          {session.projects.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      )}
      <nav className="places" aria-label="Pages">
        {PLACES.map(([name, label]) => (
          <a
            key={name}
            href={name === 'gallery' ? '#/' : `#/${name}`}
            aria-current={page === name ? 'page' : undefined}
          >
            {label}
            {name === 'queue' && running > 0 && <b data-testid="running">{running}</b>}
          </a>
        ))}
      </nav>
      <div className="header-end">
        <button
          type="button"
          className="icon"
          aria-label="Command palette"
          title="Ctrl or ⌘ + K"
          onClick={onPalette}
        >
          <Command size={17} aria-hidden="true" />
        </button>
        <button
          type="button"
          className="icon"
          aria-label="Settings"
          title="Settings"
          aria-current={page === 'settings' ? 'page' : undefined}
          onClick={() => go({ page: 'settings' })}
        >
          <Settings size={17} aria-hidden="true" />
        </button>
        {wallet && (
          <button
            type="button"
            className="wallet"
            data-testid="wallet"
            title={`${credits(wallet.held)} held for running jobs`}
            aria-current={page === 'credits' ? 'page' : undefined}
            onClick={() => go({ page: 'credits' })}
          >
            <b>{credits(wallet.available)}</b> <span>credits</span>
          </button>
        )}
        <Connection />
      </div>
    </header>
  );
}
