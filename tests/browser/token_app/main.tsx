/** An app on the hooks whose people have tokens that expire, on an origin of its own. */
import { AUTH_HEAL } from '@safelight/client';
import { SafelightProvider, type Tile, useGallery, useGeneration } from '@safelight/react';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

const asked = new URLSearchParams(location.search);
const server = asked.get('server') ?? '';
const project = asked.get('project') ?? '';
/** As some apps do it: the token is kept until somebody says that it is refused. */
const keeps = asked.has('keeps');

const app = { token: '', tokens: 0, refused: 0 };
Object.assign(window, { app });

/** What every sign-in library has: a token that holds now, from the app's own server when it must be. */
async function signIn(): Promise<string> {
  app.token = await (await fetch('/token')).text();
  app.tokens += 1;
  return app.token;
}
Object.assign(window, { signIn });

const endOf = (token: string): number =>
  JSON.parse(atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'))).exp * 1000;

async function getToken(): Promise<string> {
  if (app.token === '' || (!keeps && endOf(app.token) <= Date.now())) await signIn();
  return app.token;
}

if (keeps) {
  window.addEventListener(AUTH_HEAL, async (event) => {
    if ((event as CustomEvent<{ source?: string }>).detail.source !== 'safelight') return;
    await signIn();
    window.dispatchEvent(new CustomEvent(AUTH_HEAL, { detail: { source: 'app' } }));
  });
}

function Page() {
  const { generate } = useGeneration();
  const { tiles } = useGallery();
  useEffect(() => {
    const make = (model: string, prompt: string, faults: object): string =>
      generate({ model, prompt, input: { _emulator: faults } });
    Object.assign(window, { make });
  }, [generate]);
  return (
    <ul>
      {tiles.map((tile) => (
        <Picture key={tile.id} tile={tile} />
      ))}
    </ul>
  );
}

function Picture({ tile }: { readonly tile: Tile }) {
  const [decoded, setDecoded] = useState(false);
  const { row } = tile;
  const state = tile.state === 'ready' && !decoded ? 'processing' : tile.state;
  return (
    <li data-tile={tile.id} data-job={tile.jobId ?? ''} data-state={state}>
      {!(row && decoded) && <p className="developing">{tile.state}</p>}
      {row && (
        <div className="media">
          <img src={server + row.urls.original} alt={row.prompt ?? ''} height={90} onLoad={() => setDecoded(true)} />
        </div>
      )}
    </li>
  );
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <SafelightProvider
    project={project}
    url={server}
    getToken={getToken}
    onUnauthorized={() => {
      app.refused += 1;
    }}
  >
    <Page />
  </SafelightProvider>,
);
