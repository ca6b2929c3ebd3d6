/**
 * The seq that each row of a list was last read at. A long list changes by one row at a time: the greater part is
 * shared from one version to the next, and only what came since is copied. Plain objects, so that a cache which an app
 * keeps on disk comes back as it was.
 */
export interface Seqs {
  readonly base: Readonly<Record<string, number>>;
  readonly since: Readonly<Record<string, number>>;
  /** How many are in `since`, about. */
  readonly fresh: number;
}

/** Copied at every change; more than this goes into the shared part. */
const SINCE_MAX = 200;

export const NO_SEQS: Seqs = { base: {}, since: {}, fresh: 0 };

export const seqOf = (seqs: Seqs | undefined, id: string): number | undefined =>
  seqs && (seqs.since[id] ?? seqs.base[id]);

export function withSeq(seqs: Seqs, id: string, seq: number): Seqs {
  if (seqs.fresh >= SINCE_MAX)
    return { base: { ...seqs.base, ...seqs.since, [id]: seq }, since: {}, fresh: 0 };
  return { base: seqs.base, since: { ...seqs.since, [id]: seq }, fresh: seqs.fresh + 1 };
}

/** Many at once: a page. */
export function withSeqs({ base, since }: Seqs, ids: readonly string[], seq: number): Seqs {
  const next: Record<string, number> = { ...base, ...since };
  for (const id of ids) next[id] = seq;
  return { base: next, since: {}, fresh: 0 };
}
