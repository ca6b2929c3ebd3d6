import { v5, v7 } from 'uuid';

/** Pure JavaScript on purpose: `crypto.subtle` is missing on plain http outside localhost. */
export const generationId = (jobId: string, outputIndex: number): string => v5(String(outputIndex), jobId);

export const generationIds = (jobId: string, n: number): string[] =>
  Array.from({ length: n }, (_, index) => generationId(jobId, index));

/**
 * Time-ordered (v7), chosen by us so that a repeated POST is the same job (J2). `at`: the server's time (ms since 1970),
 * because tiles stand in the order of the asking, and this machine's clock may be wrong by hours.
 */
export const newJobId = (at?: number): string => v7(at === undefined ? {} : { msecs: Math.max(0, at) });
