import { createApi, newJobId, Problem, type Session } from '@safelight/client';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useMemo, useState } from 'react';
import { Toaster } from 'sonner';
import { SignedOut, Unanswered, Waking } from './components/Doors';
import { Studio } from './components/Studio';
import { createDarkroom } from './darkroom';
import { RoomProvider } from './room';
import { createStore, useStore } from './store';
import { exposeSnapshot } from './window';

/** Set once any call answers 401: the session ended while the page was open. */
const signedOut = createStore(false);
const api = createApi({ instanceId: newJobId(), onUnauthorized: () => signedOut.set(true) });

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

  if (ended) return <SignedOut />;
  if (session.data === undefined) {
    if (session.error !== null) return <Unanswered message={session.error.message} />;
    return session.failureCount > 0 ? <Unanswered message="The server does not answer yet." /> : <Waking />;
  }
  const project = chosen ?? session.data.project_id;
  if (project === null) return <Unanswered message="There is no project here that you may open." />;
  return <Project key={project} project={project} session={session.data} onProject={setChosen} />;
}

interface ProjectProps {
  readonly project: string;
  readonly session: Session;
  readonly onProject: (project: string) => void;
}

function Project({ project, session, onProject }: ProjectProps) {
  const cache = useQueryClient();
  const room = useMemo(() => createDarkroom(api, project, cache), [project, cache]);
  useEffect(() => {
    const hide = exposeSnapshot(room);
    const close = room.open(); // keeps in step: the connection to the server
    return () => {
      close();
      hide();
    };
  }, [room]);
  return (
    <RoomProvider value={room}>
      <Studio session={session} onProject={onProject} />
      <Toaster position="bottom-left" theme="system" visibleToasts={4} offset={20} className="toasts" />
    </RoomProvider>
  );
}
