import type { Answer, Api } from './api';
import { newJobId } from './generationId';
import { begun, type Layer, type Patch, passed, settled } from './optimism';
import type { Generation, Shot, ShotPlace } from './resources';
import { createStore, type Store } from './store';
import { allOf, createWriter } from './writer';

/** What a person may do to what is there: shown at once, written in order, taken back if it was refused. */
export interface Mutations {
  readonly generations: Store<Layer<Generation>>;
  readonly shots: Store<Layer<Shot>>;
  /** Shots that were made here and have not come back yet. */
  readonly newShots: Store<readonly Shot[]>;
  star(ids: readonly string[], starred: boolean): Promise<void>;
  /** They leave every list; `restore` brings them back, in their place. */
  remove(ids: readonly string[]): Promise<void>;
  restore(ids: readonly string[]): Promise<void>;
  createShot(name: string, generationIds?: readonly string[]): Promise<string>;
  renameShot(id: string, name: string): Promise<void>;
  removeShot(id: string): Promise<void>;
  moveShot(id: string, position: string): Promise<void>;
  /** Into the shot, or to another place in it; null: in it, in no order. */
  place(shot: string, ids: readonly string[], position?: string | null): Promise<void>;
  takeOut(shot: string, ids: readonly string[]): Promise<void>;
  /** Brings these into this order; `positions` is how it looks meanwhile. */
  reorder(shot: string, ids: readonly string[], positions: ReadonlyMap<string, string>): Promise<void>;
  /** The feed has come further. */
  passed(): void;
}

export interface MutationsHost {
  readonly learn: (table: string, row: { readonly id: string }, seq: number) => void;
  /** A write that named no seq: look. */
  readonly kick: () => void;
  readonly at: () => number;
  /** The seq a result's row was read at. */
  readonly knownAt: (id: string) => number | undefined;
}

interface Batch {
  readonly items: readonly Generation[];
}

const placed =
  (shot: string, position: string | null): Patch<Generation> =>
  (row) => ({
    ...row,
    shots: [...(row.shots ?? []).filter(({ shot_id }) => shot_id !== shot), { shot_id: shot, position }],
  });

const without =
  (shot: string): Patch<Generation> =>
  (row) => ({ ...row, shots: (row.shots ?? []).filter(({ shot_id }: ShotPlace) => shot_id !== shot) });

export function createMutations(api: Api, project: string, host: MutationsHost): Mutations {
  const base = `/v1/projects/${project}`;
  const generations = createStore<Layer<Generation>>([]);
  const shots = createStore<Layer<Shot>>([]);
  const newShots = createStore<readonly Shot[]>([]);
  const { inLane, mutate } = createWriter(host.kick);

  function prune(): void {
    generations.set((layer) => passed(layer, host.at(), host.knownAt));
    shots.set((layer) => passed(layer, host.at()));
  }

  async function batch(op: string, ids: readonly string[], patch: Patch<Generation>): Promise<void> {
    const body = { op, ids };
    const { data, seq } = await mutate<Generation, Batch>(
      generations,
      ids,
      () => patch,
      () => api.call<Batch>('POST', `${base}/generations/batch`, { body }),
    );
    if (seq !== null) for (const row of data.items) host.learn('generations', row, seq);
    prune();
  }

  async function aboutShot(id: string, patch: Patch<Shot>, method: string, body?: object): Promise<void> {
    await mutate<Shot, unknown>(
      shots,
      [id],
      () => patch,
      () => api.call('PATCH' === method ? 'PATCH' : 'DELETE', `/v1/shots/${id}`, body ? { body } : {}),
    );
    prune();
  }

  return {
    generations,
    shots,
    newShots,
    star: (ids, starred) => batch(starred ? 'star' : 'unstar', ids, (row) => ({ ...row, starred })),
    remove: (ids) => batch('delete', ids, () => null),
    async restore(ids) {
      const write = (): Promise<Answer<Batch>> =>
        api.call<Batch>('POST', `${base}/generations/batch`, { body: { op: 'restore', ids } });
      const { data, seq } = await inLane(ids, write);
      if (seq === null) host.kick();
      else for (const row of data.items) host.learn('generations', row, seq);
      prune();
    },
    async createShot(name, generationIds = []) {
      const id = newJobId();
      const counts = { total: generationIds.length, unpositioned: 0, videos: 0 };
      const created_at = new Date().toISOString();
      // Behind all others, until the server says where.
      newShots.set((all) => [...all, { id, project_id: project, name, position: '~', created_at, counts }]);
      const forget = (): void => newShots.set((all) => all.filter((shot) => shot.id !== id));
      try {
        const body = { id, name, generation_ids: generationIds };
        const { data, seq } = await mutate<Generation, Shot>(
          generations,
          generationIds,
          (each) => placed(id, `~${String(generationIds.indexOf(each)).padStart(6, '0')}`),
          () => api.call<Shot>('POST', `${base}/shots`, { body }),
        );
        if (seq === null) host.kick();
        else {
          host.learn('shots', data, seq);
          // Its pictures are counted when the feed brings them; until then, as many as were asked for.
          const counting = newJobId();
          const shown: Patch<Shot> = (shot) => ({ ...shot, counts });
          shots.set((layer) => settled(begun(layer, counting, id, shown), counting, seq));
        }
        prune();
        return id;
      } finally {
        forget();
      }
    },
    renameShot: (id, name) => aboutShot(id, (shot) => ({ ...shot, name }), 'PATCH', { name }),
    moveShot: (id, position) => aboutShot(id, (shot) => ({ ...shot, position }), 'PATCH', { position }),
    removeShot: (id) => aboutShot(id, () => null, 'DELETE'),
    async place(shot, ids, position = null) {
      const each = ids.map((id) =>
        mutate<Generation, unknown>(
          generations,
          [id],
          () => placed(shot, position),
          () => api.call('PUT', `/v1/shots/${shot}/generations/${id}`, { body: { position } }),
        ),
      );
      await allOf(each);
      prune();
    },
    async takeOut(shot, ids) {
      const each = ids.map((id) =>
        mutate<Generation, unknown>(
          generations,
          [id],
          () => without(shot),
          () => api.call('DELETE', `/v1/shots/${shot}/generations/${id}`),
        ),
      );
      await allOf(each);
      prune();
    },
    async reorder(shot, ids, positions) {
      const entities = [...positions.keys()];
      await mutate<Generation, unknown>(
        generations,
        entities,
        (id) => placed(shot, positions.get(id) ?? null),
        () => api.call('POST', `/v1/shots/${shot}/reorder`, { body: { ids } }),
        [shot, ...entities],
      );
      prune();
    },
    passed: prune,
  };
}
