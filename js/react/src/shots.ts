import { keys, type List, overlay, SHOTS, type Shot } from '@safelight/client';
import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useProject, useStore } from './context';
import { LASTING } from './lists';

export interface Shots {
  readonly shots: readonly Shot[];
  readonly loaded: boolean;
  /** Answers with the new shot's id; it is in the list before that. */
  readonly create: (name: string, generationIds?: readonly string[]) => Promise<string>;
  readonly rename: (id: string, name: string) => Promise<void>;
  /** Its pictures stay in the library. */
  readonly remove: (id: string) => Promise<void>;
  readonly move: (id: string, position: string) => Promise<void>;
  readonly place: (shot: string, ids: readonly string[], position?: string | null) => Promise<void>;
  readonly takeOut: (shot: string, ids: readonly string[]) => Promise<void>;
  readonly reorder: (
    shot: string,
    ids: readonly string[],
    positions: ReadonlyMap<string, string>,
  ) => Promise<void>;
}

/** The project's shots in their order, with what is in them counted. */
export function useShots(): Shots {
  const { project, mutations, readList } = useProject();
  const { data } = useQuery<List<Shot>>({
    queryKey: keys.shots(project),
    queryFn: () => readList('/shots?limit=200', 'shots', SHOTS),
    ...LASTING,
  });
  const wishes = useStore(mutations.shots);
  const made = useStore(mutations.newShots);
  const shots = useMemo(() => {
    const rows = data?.rows ?? [];
    const known = new Set(rows.map(({ id }) => id));
    return [...overlay(wishes, rows), ...made.filter(({ id }) => !known.has(id))].sort(SHOTS.compare);
  }, [data, wishes, made]);
  return {
    shots,
    loaded: data !== undefined,
    create: mutations.createShot,
    rename: mutations.renameShot,
    remove: mutations.removeShot,
    move: mutations.moveShot,
    place: mutations.place,
    takeOut: mutations.takeOut,
    reorder: mutations.reorder,
  };
}
