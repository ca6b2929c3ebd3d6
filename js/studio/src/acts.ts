import { useProject } from '@safelight/react';
import { useMemo } from 'react';
import { toast } from 'sonner';

/** What a person does to results, with what is said about it. */
export interface Acts {
  readonly star: (ids: readonly string[], starred: boolean) => void;
  /** At once, with a way back. */
  readonly remove: (ids: readonly string[]) => void;
  readonly place: (shot: { readonly id: string; readonly name: string }, ids: readonly string[]) => void;
  readonly takeOut: (shot: string, ids: readonly string[]) => void;
  readonly createShot: (name: string, ids: readonly string[]) => void;
}

const UNDO_MS = 8_000;

export const failing =
  (title: string) =>
  (error: unknown): void => {
    toast.error(title, { description: error instanceof Error ? error.message : '' });
  };

const counted = (n: number, what: string): string => (n === 1 ? what : `${what}: ${n}`);

export function useActs(): Acts {
  const { mutations } = useProject();
  return useMemo(() => {
    const undo = (title: string, label: string, back: () => Promise<void>): void => {
      toast(title, {
        duration: UNDO_MS,
        action: { label, onClick: () => void back().catch(failing('Not undone')) },
      });
    };
    return {
      star: (ids, starred) =>
        void mutations.star(ids, starred).catch(failing(starred ? 'Not starred' : 'Not unstarred')),
      remove(ids) {
        mutations
          .remove(ids)
          .then(
            () => undo(counted(ids.length, 'Deleted'), 'Undo', () => mutations.restore(ids)),
            failing('Not deleted'),
          );
      },
      place(shot, ids) {
        mutations
          .place(shot.id, ids)
          .then(
            () => undo(`Added to ${shot.name}`, 'Undo', () => mutations.takeOut(shot.id, ids)),
            failing(`Not added to ${shot.name}`),
          );
      },
      takeOut(shot, ids) {
        mutations
          .takeOut(shot, ids)
          .then(
            () => undo('Taken out of the shot', 'Undo', () => mutations.place(shot, ids)),
            failing('Not taken out'),
          );
      },
      createShot(name, ids) {
        mutations
          .createShot(name, ids)
          .then(() => toast(`Shot “${name}” made`), failing('The shot was not made'));
      },
    };
  }, [mutations]);
}
