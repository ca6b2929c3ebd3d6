/**
 * What a person asked for and the server has not shown yet (issue 5): a layer over the rows, keyed by the mutation
 * and not by the row, so that two in flight never undo each other. A mutation is dropped when what we hold is as new
 * as its write (`Safelight-Seq`), or when it was refused. Pure.
 */

/** Null: the row is gone. */
export type Patch<T> = (row: T) => T | null;

export interface Mutation<T> {
  readonly id: string;
  /** The row it is about. */
  readonly entity: string;
  readonly patch: Patch<T>;
  /** The seq its write got; null while it is on its way. */
  readonly seq: number | null;
}

export type Layer<T> = readonly Mutation<T>[];

export const begun = <T>(layer: Layer<T>, id: string, entity: string, patch: Patch<T>): Layer<T> => [
  ...layer,
  { id, entity, patch, seq: null },
];

/** The server did it, at `seq`; it stays until the rows show it. */
export const settled = <T>(layer: Layer<T>, id: string, seq: number): Layer<T> =>
  layer.map((mutation) => (mutation.id === id ? { ...mutation, seq } : mutation));

/** Refused, or done by another way: as if it had never been asked. Nobody else's is touched. */
export const dropped = <T>(layer: Layer<T>, id: string): Layer<T> => {
  const rest = layer.filter((mutation) => mutation.id !== id);
  return rest.length === layer.length ? layer : rest;
};

/**
 * The feed stands at `seq`, or (`known`) a row is held that was read there. Writes of one row are made in the order of
 * the asking, so what was asked before one that is shown by now is shown, too, even if its answer is still out.
 */
export function passed<T>(
  layer: Layer<T>,
  seq: number,
  known: (entity: string) => number | undefined = () => undefined,
): Layer<T> {
  const shown = new Map<string, number>();
  layer.forEach(({ entity, seq: written }, index) => {
    if (written !== null && Math.max(seq, known(entity) ?? 0) >= written) shown.set(entity, index);
  });
  return shown.size === 0 ? layer : layer.filter(({ entity }, index) => index > (shown.get(entity) ?? -1));
}

/** One row as the person should see it: the mutations in the order of the asking. Null: not at all. */
export function seenThrough<T>(layer: Layer<T>, entity: string, row: T): T | null {
  let seen: T | null = row;
  for (const mutation of layer) {
    if (mutation.entity === entity && seen !== null) seen = mutation.patch(seen);
  }
  return seen;
}

/** All rows through the layer; untouched rows stay the very same objects. */
export function overlay<T extends { readonly id: string }>(
  layer: Layer<T>,
  rows: readonly T[],
): readonly T[] {
  if (layer.length === 0) return rows;
  const touched = new Set(layer.map(({ entity }) => entity));
  if (!rows.some(({ id }) => touched.has(id))) return rows;
  return rows.flatMap((row) => {
    const seen = touched.has(row.id) ? seenThrough(layer, row.id, row) : row;
    return seen === null ? [] : [seen];
  });
}
