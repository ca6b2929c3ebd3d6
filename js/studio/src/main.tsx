import '@fontsource-variable/instrument-sans/wght.css';
import './styles/index.css';
import { notifyManager, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { Broken, brokenPage } from './components/Broken';

/** A tab that was hidden meanwhile gets its frame only when it is seen again. */
const FRAME_MAX_MS = 100;

const queries = new QueryClient({
  // The feed proves freshness; a query that reads again on its own would only race it.
  defaultOptions: {
    queries: { refetchOnWindowFocus: false, refetchOnReconnect: false, networkMode: 'always' },
  },
});

// What the feed brings within one frame is drawn as one: a hundred results in ten seconds are a thousand entries. A tab
// that nobody looks at has no frames.
notifyManager.setScheduler((flush) => {
  if (document.visibilityState === 'hidden') {
    setTimeout(flush, 0);
    return;
  }
  const late = setTimeout(() => {
    cancelAnimationFrame(frame);
    flush();
  }, FRAME_MAX_MS);
  const frame = requestAnimationFrame(() => {
    clearTimeout(late);
    flush();
  });
});

const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Broken instead={brokenPage}>
        <App />
      </Broken>
    </QueryClientProvider>
  </StrictMode>,
);
