/** The server's own refusal (RFC 9457). `code` is stable; `extras` carries e.g. `required` and `available`. */
export class Problem extends Error {
  override readonly name = 'Problem';
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly extras: Readonly<Record<string, unknown>> = {},
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }

  /** A number among the extras, or null. */
  number(key: string): number | null {
    const value = this.extras[key];
    return typeof value === 'number' ? value : null;
  }
}

/** Nobody answered: the request may or may not have been carried out. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable';
}

const PLAIN: Readonly<Record<number, string>> = {
  401: 'You are signed out.',
  403: 'You may not do that here.',
  404: 'That is not there any more.',
  413: 'That file is too large.',
  429: 'Too many requests just now.',
  503: 'The server is busy.',
};

function retryAfter(header: string | null): number | null {
  const seconds = header === null ? Number.NaN : Number(header);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** Reads a refusal; a body that is no problem+json (a proxy's page) becomes a plain sentence. */
export async function readProblem(response: Response): Promise<Problem> {
  const after = retryAfter(response.headers.get('retry-after'));
  const fallback = PLAIN[response.status] ?? `The server answered ${response.status}.`;
  let body: unknown = null;
  try {
    body = await response.json();
  } catch {
    // not JSON: the status alone speaks
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return new Problem(response.status, `http_${response.status}`, fallback, {}, after);
  }
  const said = body as Record<string, unknown>;
  const code = typeof said.code === 'string' ? said.code : `http_${response.status}`;
  const text = [said.detail, said.title].find((part) => typeof part === 'string' && part !== '');
  return new Problem(response.status, code, typeof text === 'string' ? text : fallback, said, after);
}
