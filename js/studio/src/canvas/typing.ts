import { type CanvasMutations, createStore, type Store } from '@safelight/react';
import { failing } from '../acts';

/** Words that are being written: mine until they are saved, theirs otherwise. */
export interface Typing {
  readonly texts: Store<ReadonlyMap<string, string>>;
  readonly type: (id: string, text: string) => void;
  /** Saves now what was not saved yet. */
  readonly flush: () => void;
}

const PAUSE_MS = 600;

export function createTyping(acts: Pick<CanvasMutations, 'write'>): Typing {
  const texts = createStore<ReadonlyMap<string, string>>(new Map());
  const timers = new Map<string, number>();

  function save(id: string): void {
    window.clearTimeout(timers.get(id));
    timers.delete(id);
    const text = texts.get().get(id);
    if (text === undefined) return;
    const done = (): void =>
      texts.set((all) => {
        if (all.get(id) !== text) return all; // written on meanwhile
        const rest = new Map(all);
        rest.delete(id);
        return rest;
      });
    acts.write(id, { text }).then(done, (error: unknown) => {
      done();
      failing('The words were not saved')(error);
    });
  }

  return {
    texts,
    type(id, text) {
      texts.set((all) => new Map(all).set(id, text));
      window.clearTimeout(timers.get(id));
      timers.set(
        id,
        window.setTimeout(() => save(id), PAUSE_MS),
      );
    },
    flush() {
      for (const id of [...timers.keys()]) save(id);
    },
  };
}
