import { Problem, readProblem, Unreachable } from './problem';

/** Longer than any answer the server owes us (J1: 30 s), so that a hung socket ends. */
const TIMEOUT_MS = 31_000;

/** An answer and the `seq` it was read or written at (S3); null where the server names none. */
export interface Answer<T> {
  readonly data: T;
  readonly seq: number | null;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Goes out even if the page goes: for beacons. */
  readonly keepalive?: boolean;
}

export interface Api {
  /** Where the server is; '' for the page's own. */
  readonly base: string;
  readonly instanceId: string;
  readonly getToken?: (() => Promise<string | null>) | undefined;
  /** JSON in, JSON out. Raises Problem when refused, Unreachable when nobody answered. */
  call<T>(method: string, path: string, options?: CallOptions): Promise<Answer<T>>;
  /** The raw answer, for streams; refusals are raised all the same. */
  open(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response>;
}

export interface ApiOptions {
  readonly base?: string;
  readonly instanceId: string;
  readonly fetch?: typeof fetch;
  /** For pages that are not served by us: a key or a person's token. Without it the session's cookie speaks. */
  readonly getToken?: () => Promise<string | null>;
  readonly onUnauthorized?: (problem: Problem) => void;
}

/** `Safelight-Seq` is a plain number; `{epoch}:{seq}` is understood too. */
export function parseSeq(header: string | null): number | null {
  if (header === null || header === '') return null;
  const seq = Number(header.slice(header.lastIndexOf(':') + 1));
  return Number.isSafeInteger(seq) ? seq : null;
}

export function createApi({ base = '', instanceId, onUnauthorized, getToken, ...options }: ApiOptions): Api {
  const send = options.fetch ?? ((input, init) => fetch(input, init));

  async function request(path: string, init: RequestInit, signals: AbortSignal[]): Promise<Response> {
    let response: Response;
    const headers = new Headers(init.headers);
    const token = getToken ? await getToken() : null;
    if (token !== null) headers.set('authorization', `Bearer ${token}`);
    try {
      response = await send(base + path, {
        ...init,
        headers,
        cache: 'no-store',
        credentials: token === null ? 'same-origin' : 'omit',
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      if (signals[0]?.aborted) throw error;
      throw new Unreachable('The server could not be reached.', { cause: error });
    }
    if (response.ok) return response;
    const problem = await readProblem(response);
    if (problem.status === 401) onUnauthorized?.(problem);
    throw problem;
  }

  return {
    base,
    instanceId,
    getToken,
    async call<T>(
      method: string,
      path: string,
      { body, signal, timeoutMs = TIMEOUT_MS, keepalive = false }: CallOptions = {},
    ) {
      const headers: Record<string, string> = { accept: 'application/json', 'safelight-client': instanceId };
      if (body !== undefined) headers['content-type'] = 'application/json';
      const caller = signal ?? new AbortController().signal;
      const init: RequestInit = { method, headers, keepalive };
      if (body !== undefined) init.body = JSON.stringify(body);
      const response = await request(path, init, [caller, AbortSignal.timeout(timeoutMs)]);
      const seq = parseSeq(response.headers.get('safelight-seq'));
      let text: string;
      try {
        text = await response.text();
      } catch (error) {
        if (caller.aborted) throw error;
        throw new Unreachable('The answer was cut off.', { cause: error });
      }
      try {
        return { data: (text === '' ? null : JSON.parse(text)) as T, seq };
      } catch {
        throw new Problem(response.status, 'not_json', 'The server answered something unexpected.');
      }
    },
    open: (path, headers, signal) =>
      request(path, { method: 'GET', headers: { ...headers, 'safelight-client': instanceId } }, [signal]),
  };
}
