import {
  createApi,
  createStore,
  newJobId,
  Problem,
  SafelightProvider,
  type Session,
  useStore,
} from '@safelight/react';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Toaster } from 'sonner';
import { SignedOut, Unanswered, Waking } from './components/Doors';
import { Studio } from './components/Studio';
import { useTheme } from './theme';

/** Set once any call answers 401: the session ended while the page was open. */
const signedOut = createStore(false);
const onUnauthorized = (): void => signedOut.set(true);
const api = createApi({ instanceId: newJobId(), onUnauthorized });

export function App() {
  const session = useQuery({
    queryKey: ['session'],
    queryFn: async ({ signal }) => (await api.call<Session>('GET', '/v1/session', { signal })).data,
    retry: (_count, error) => !(error instanceof Problem && error.status < 500),
    retryDelay: (count) => Math.min(8_000, 500 * 2 ** count),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const ended = useStore(signedOut);
  const [chosen, setChosen] = useState<string | null>(null);
  const { shade } = useTheme();

  if (ended) return <SignedOut />;
  if (session.data === undefined) {
    if (session.error !== null) return <Unanswered message={session.error.message} />;
    return session.failureCount > 0 ? <Unanswered message="The server does not answer yet." /> : <Waking />;
  }
  const project = chosen ?? session.data.project_id;
  if (project === null) return <Unanswered message="There is no project here that you may open." />;
  return (
    <SafelightProvider key={project} project={project} onUnauthorized={onUnauthorized} fallback={<Waking />}>
      <Studio session={session.data} project={project} onProject={setChosen} />
      <Toaster position="bottom-left" theme={shade} visibleToasts={4} offset={20} className="toasts" />
    </SafelightProvider>
  );
}
