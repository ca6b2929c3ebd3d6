import { v5, v7 } from 'uuid';

/** Pure JavaScript on purpose: `crypto.subtle` is missing on plain http outside localhost. */
export const generationId = (jobId: string, outputIndex: number): string => v5(String(outputIndex), jobId);

/** Each costs a SHA-1, and those of every job with a tile are asked for at every change of a list. */
const KNOWN_MAX = 2_000;
const known = new Map<string, readonly string[]>();

export function generationIds(jobId: string, n: number): readonly string[] {
  const before = known.get(jobId);
  if (before?.length === n) return before;
  const ids = Array.from({ length: n }, (_, index) => generationId(jobId, index));
  if (known.size >= KNOWN_MAX) known.clear();
  known.set(jobId, ids);
  return ids;
}

/**
 * Time-ordered (v7), chosen by us so that a repeated POST is the same job (J2). `at`: the server's time (ms since 1970),
 * because tiles stand in the order of the asking, and this machine's clock may be wrong by hours.
 */
export const newJobId = (at?: number): string => v7(at === undefined ? {} : { msecs: Math.max(0, at) });
