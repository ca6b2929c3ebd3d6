import '@fontsource-variable/instrument-sans/wght.css';
import './styles/index.css';
import { notifyManager, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { Broken, brokenPage } from './components/Broken';
import { betweenFrames } from './frame';

const queries = new QueryClient({
  // The feed proves freshness; a query that reads again on its own would only race it.
  defaultOptions: {
    queries: { refetchOnWindowFocus: false, refetchOnReconnect: false, networkMode: 'always' },
  },
});

notifyManager.setScheduler(betweenFrames);

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
