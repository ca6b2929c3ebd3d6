/** Where a client stands in a project's change log. `epoch` is unknown until the log has first answered. */
export interface Position {
  readonly epoch: string | null;
  readonly seq: number;
}

/**
 * - `apply`: the very next entry
 * - `duplicate`: seen before
 * - `gap`: something is missing in between: pull from the cursor, do not apply
 * - `refetch`: another life of the log: nothing we hold can be trusted
 */
export type Verdict = 'apply' | 'duplicate' | 'gap' | 'refetch';

export function judge(at: Position, epoch: string, seq: number): Verdict {
  if (at.epoch !== null && at.epoch !== epoch) return 'refetch';
  if (seq <= at.seq) return 'duplicate';
  return seq === at.seq + 1 ? 'apply' : 'gap';
}

/**
 * A head below us within one epoch is only old news (an answer that was slow, a node that lags): epochs change
 * when a log is rebuilt, heads alone prove nothing.
 */
export function headVerdict(
  at: Position,
  epoch: string,
  head: number,
): 'even' | 'behind' | 'stale' | 'refetch' {
  if (at.epoch !== null && at.epoch !== epoch) return 'refetch';
  return head === at.seq ? 'even' : head > at.seq ? 'behind' : 'stale';
}

export const eventId = (at: Position): string => `${at.epoch ?? ''}:${at.seq}`;

/** Reads `{epoch}:{seq}`; null if it is not one. */
export function parseEventId(id: string): { epoch: string; seq: number } | null {
  const colon = id.lastIndexOf(':');
  if (colon < 1) return null;
  const seq = Number(id.slice(colon + 1));
  return Number.isSafeInteger(seq) && seq >= 0 ? { epoch: id.slice(0, colon), seq } : null;
}
