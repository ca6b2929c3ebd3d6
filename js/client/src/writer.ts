import type { Answer } from './api';
import { newJobId } from './generationId';
import { begun, dropped, type Layer, type Patch, settled } from './optimism';
import type { Store } from './store';

/** How every write of a person's is made: shown at once, sent in the order of the asking, taken back if refused. */
export interface Writer {
  /** Waits for the writes before it that are about the same entities. */
  inLane<R>(entities: readonly string[], write: () => Promise<R>): Promise<R>;
  mutate<T, R>(
    store: Store<Layer<T>>,
    entities: readonly string[],
    patch: (entity: string) => Patch<T>,
    write: () => Promise<Answer<R>>,
    lane?: readonly string[],
  ): Promise<Answer<R>>;
}

/** `kick`: a write was answered without a seq, so somebody has to look. */
export function createWriter(kick: () => void): Writer {
  /** The last write of each entity: the next one waits for it, so that they arrive in the order of the asking. */
  const lanes = new Map<string, Promise<unknown>>();

  function inLane<R>(entities: readonly string[], write: () => Promise<R>): Promise<R> {
    const before = entities.map((entity) => lanes.get(entity));
    const mine = Promise.allSettled(before).then(write);
    for (const entity of entities) lanes.set(entity, mine);
    const leave = (): void => {
      for (const entity of entities) if (lanes.get(entity) === mine) lanes.delete(entity);
    };
    mine.then(leave, leave);
    return mine;
  }

  /** Shown at once, written in its turn; refused, it is taken back and nobody else's is. */
  async function mutate<T, R>(
    store: Store<Layer<T>>,
    entities: readonly string[],
    patch: (entity: string) => Patch<T>,
    write: () => Promise<Answer<R>>,
    lane: readonly string[] = entities,
  ): Promise<Answer<R>> {
    const wishes = entities.map((entity) => ({ id: newJobId(), entity }));
    store.set((layer) =>
      wishes.reduce((all, { id, entity }) => begun(all, id, entity, patch(entity)), layer),
    );
    const forget = (): void => store.set((layer) => wishes.reduce((all, { id }) => dropped(all, id), layer));
    try {
      const answer = await inLane(lane, write);
      const { seq } = answer;
      if (seq === null) {
        forget();
        kick();
      } else {
        store.set((layer) => wishes.reduce((all, { id }) => settled(all, id, seq), layer));
      }
      return answer;
    } catch (error) {
      forget();
      throw error;
    }
  }

  return { inLane, mutate };
}

/** All are tried; the first refusal is told. */
export async function allOf(each: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(each)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
