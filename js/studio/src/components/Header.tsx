import type { Session } from '@safelight/react';
import { useWallet } from '@safelight/react';
import { credits } from '../words';
import { Connection } from './Connection';
import { Lamp } from './Lamp';

interface HeaderProps {
  readonly session: Session;
  readonly onProject: (project: string) => void;
}

export function Header({ session, onProject }: HeaderProps) {
  const wallet = useWallet()?.wallet;
  return (
    <header className="header">
      <a className="mark" href="/" aria-label="Safelight">
        <Lamp />
        <span>Safelight</span>
      </a>
      {session.projects.length > 1 && (
        <select
          className="select project"
          aria-label="Project"
          defaultValue={session.project_id ?? ''}
          onChange={(event) => onProject(event.target.value)}
        >
          {session.projects.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      )}
      <div className="header-end">
        {wallet && (
          <span
            className="wallet"
            data-testid="wallet"
            title={`${credits(wallet.held)} held for running jobs`}
          >
            <b>{credits(wallet.available)}</b> credits
          </span>
        )}
        <Connection />
      </div>
    </header>
  );
}
