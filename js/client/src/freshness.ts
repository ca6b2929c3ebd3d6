/** When we last knew that a family of keys was right (F4): polling follows from that and nothing else. Pure. */

export const FAMILIES = [
  'tasks',
  'task-status-counts',
  'unified-generations',
  'shots',
  'unpositioned-count',
  'project-video-counts',
  'nodes',
  'credits',
] as const;

export type Family = (typeof FAMILIES)[number];

/** All times in ms since 1970. */
export interface Freshness {
  /** Our cursor stood at the head: whatever is in the cache by way of the log is right. */
  readonly provenAt: number | null;
  readonly eventAt: Readonly<Partial<Record<Family, number>>>;
  /** Something of it is being read again, since then; until it is done, the older proof stands. */
  readonly staleSince: Readonly<Partial<Record<Family, number>>>;
}

export const unproven: Freshness = { provenAt: null, eventAt: {}, staleSince: {} };

const isFamily = (name: unknown): name is Family => (FAMILIES as readonly unknown[]).includes(name);

export const familiesOf = (keys: readonly (readonly unknown[])[]): Family[] => [
  ...new Set(keys.map(([family]) => family).filter(isFamily)),
];

/** A beat, a poll or an entry left our cursor at the head. Time never goes back. */
export const proven = (state: Freshness, now: number): Freshness =>
  state.provenAt !== null && state.provenAt >= now ? state : { ...state, provenAt: now };

const marked = (
  map: Readonly<Partial<Record<Family, number>>>,
  families: readonly Family[],
  now: number,
): Readonly<Partial<Record<Family, number>>> => ({
  ...map,
  ...Object.fromEntries(families.map((family) => [family, now])),
});

export const heardOf = (state: Freshness, families: readonly Family[], now: number): Freshness =>
  families.length === 0 ? state : { ...state, eventAt: marked(state.eventAt, families, now) };

export const stale = (state: Freshness, families: readonly Family[], now: number): Freshness => ({
  ...state,
  staleSince: { ...marked(state.staleSince, families, now), ...state.staleSince },
});

export function reread(state: Freshness, families: readonly Family[]): Freshness {
  const staleSince = { ...state.staleSince };
  for (const family of families) delete staleSince[family];
  return { ...state, staleSince };
}

/** Last proof of one family. */
export function proofOf(state: Freshness, family: Family): number | null {
  const since = state.staleSince[family];
  if (state.provenAt === null) return null;
  return since === undefined ? state.provenAt : Math.min(since, state.provenAt);
}

/** Age of the last proof of every family, in ms; null: never. */
export const ages = (state: Freshness, now: number): Readonly<Record<Family, number | null>> =>
  Object.fromEntries(
    FAMILIES.map((family) => {
      const at = proofOf(state, family);
      return [family, at === null ? null : Math.max(0, now - at)];
    }),
  ) as Record<Family, number | null>;
