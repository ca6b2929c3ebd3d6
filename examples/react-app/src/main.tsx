import { SafelightProvider, type Tile, useCredits, useGallery, useGeneration, useRealtime } from '@safelight/react';
import { useState } from 'react';
import { createRoot } from 'react-dom/client';

const { VITE_PROJECT, VITE_TOKEN } = import.meta.env;

function Page() {
  const [prompt, setPrompt] = useState('a red fox in fresh snow');
  const { generate, isGenerating, cancel } = useGeneration();
  const { tiles, hasMore, loadMore, star, remove } = useGallery();
  const { status, recover } = useRealtime();
  const { wallet } = useCredits();
  return (
    <main>
      <p>
        {status} · {wallet?.available} credits · <button onClick={recover}>recover now</button>
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          generate(
            { model: 'local/aurora', prompt },
            {
              onComplete: ([first]) => console.log('done', first?.urls.original),
              onError: ({ message }) => alert(message),
              onInsufficientCredits: ({ required }) => alert(`This needs ${required} credits.`),
              onTimeout: () => alert('It takes long. It goes on, and will be here.'),
            },
          );
        }}
      >
        <input value={prompt} onChange={(event) => setPrompt(event.target.value)} />
        <button>Generate</button>
        {isGenerating && <button type="button" onClick={() => cancel()}>Cancel</button>}
      </form>
      <ul>
        {tiles.map((tile) => (
          <Picture key={tile.id} tile={tile} onStar={star} onRemove={remove} />
        ))}
      </ul>
      {hasMore && <button onClick={loadMore}>more</button>}
    </main>
  );
}

type Act = (ids: string[], on: boolean) => Promise<void>;

function Picture({ tile, onStar, onRemove }: { tile: Tile; onStar: Act; onRemove: (ids: string[]) => Promise<void> }) {
  const { row, state, job } = tile;
  if (row === null) return <li>{job?.error?.message ?? state}</li>;
  return (
    <li>
      <img src={row.urls.thumbs?.['256'] ?? row.urls.poster ?? row.urls.original} alt={row.prompt ?? ''} height={160} />
      <button onClick={() => onStar([row.id], !row.starred)}>{row.starred ? '★' : '☆'}</button>
      <button onClick={() => onRemove([row.id])}>delete</button>
    </li>
  );
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <SafelightProvider project={VITE_PROJECT} getToken={async () => VITE_TOKEN}>
    <Page />
  </SafelightProvider>,
);
