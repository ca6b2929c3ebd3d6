import { v5, v7 } from 'uuid';

/** Pure JavaScript on purpose: `crypto.subtle` is missing on plain http outside localhost. */
export const generationId = (jobId: string, outputIndex: number): string => v5(String(outputIndex), jobId);

export const generationIds = (jobId: string, n: number): string[] =>
  Array.from({ length: n }, (_, index) => generationId(jobId, index));

/** Time-ordered (v7), chosen by us so that a repeated POST is the same job (J2). */
export const newJobId = (): string => v7();
