import {
  type Cache,
  createApi,
  createProject,
  exposeSnapshot,
  newJobId,
  type Problem,
  type Project,
  type Store,
  thisPage,
} from '@safelight/client';
import { QueryClient, QueryClientContext, QueryClientProvider } from '@tanstack/react-query';
import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useState,
  useSyncExternalStore,
} from 'react';

/** What is said to the person while a job runs (U1). Any toast library fits: sonner's `toast` in three lines. */
export interface Toasts {
  /** Stays until `done` or `failed` of the same id. */
  readonly running: (id: string, text: string) => void;
  readonly done: (id: string, text: string) => void;
  readonly failed: (id: string, text: string) => void;
}

export interface SafelightProps {
  readonly project: string;
  /** Where Safelight is; absent: where this page is. */
  readonly url?: string;
  /** A person's token, asked for before every call. Absent: the session's cookie. */
  readonly getToken?: () => Promise<string | null>;
  readonly apikey?: string;
  /** Null: no socket. */
  readonly realtimeUrl?: string | null;
  readonly onUnauthorized?: (problem: Problem) => void;
  readonly toasts?: Toasts;
  /** Shown until the connection is set up: an instant. */
  readonly fallback?: ReactNode;
  readonly children: ReactNode;
}

interface Inside {
  readonly project: Project;
  readonly toasts: Toasts | null;
}

const Context = createContext<Inside | null>(null);

/**
 * Follows one project for everything below it, and keeps the query cache right: an app with its own QueryClient and
 * its own `useQuery` under the canonical keys gets correct invalidation by this alone.
 */
export function SafelightProvider(props: SafelightProps) {
  const given = useContext(QueryClientContext);
  const [own] = useState(() => given ?? new QueryClient());
  const inside = <Follow {...props} cache={given ?? own} />;
  return given ? inside : <QueryClientProvider client={own}>{inside}</QueryClientProvider>;
}

function Follow({ children, fallback = null, cache, ...options }: SafelightProps & { cache: QueryClient }) {
  const toasts = options.toasts ?? null;
  const [project, setProject] = useState<Project | null>(null);
  const { url = '', getToken, apikey, realtimeUrl, onUnauthorized } = options;
  // Keeps in step: the connection to the server. Callbacks are read when they are needed: a new function is no reason
  // to connect anew.
  const [latest] = useState({ getToken, onUnauthorized });
  Object.assign(latest, { getToken, onUnauthorized });
  const signs = getToken !== undefined;
  useEffect(() => {
    const api = createApi({
      base: url,
      instanceId: newJobId(),
      ...(signs ? { getToken: async () => (await latest.getToken?.()) ?? null } : {}),
      onUnauthorized: (problem) => latest.onUnauthorized?.(problem),
    });
    const made = createProject({
      api,
      project: options.project,
      cache: cache as unknown as Cache,
      page: thisPage(),
      ...(realtimeUrl === undefined ? {} : { realtimeUrl }),
      ...(apikey === undefined ? {} : { apikey }),
    });
    const hide = exposeSnapshot(made);
    const close = made.open();
    setProject(made);
    return () => {
      close();
      hide();
    };
  }, [url, signs, apikey, realtimeUrl, options.project, cache, latest]);
  const inside = useMemo(() => (project ? { project, toasts } : null), [project, toasts]);
  return inside ? <Context value={inside}>{children}</Context> : fallback;
}

function useInside(): Inside {
  const inside = useContext(Context);
  if (inside === null) throw new Error('used outside of <SafelightProvider>');
  return inside;
}

export const useProject = (): Project => useInside().project;
export const useToasts = (): Toasts | null => useInside().toasts;
/** Only a part of it: what changes beside it draws nothing. The part is one that the value holds, not one made anew. */
export const usePart = <T, P>(store: Store<T>, part: (value: T) => P): P => {
  const get = (): P => part(store.get());
  return useSyncExternalStore(store.subscribe, get, get);
};
export const useStore = <T,>(store: Store<T>): T =>
  useSyncExternalStore(store.subscribe, store.get, store.get);
