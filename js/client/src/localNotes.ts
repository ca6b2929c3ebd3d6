import type { Page } from './page';
import type { Draft } from './placeholders';
import type { Local } from './projectShape';
import { added, createStore, patchStore, removed, type Store } from './store';

/** What only this window knows of a project. Drafts live as long as its tab, what was put away as long as the browser. */
export interface LocalNotes {
  readonly store: Store<Local>;
  /** First of the drafts, and the only one of its id. */
  putDraft(draft: Draft): void;
  /** The draft as it stands now, in its place. */
  changeDraft(draft: Draft): void;
  /** Of these jobs the server's rows are here. */
  shedDrafts(known: () => ReadonlySet<string>): void;
  arrived(ids: readonly string[]): void;
  mark(as: Mark, job: string): void;
  unmark(as: Mark, job: string): void;
  dismiss(job: string): void;
  /** It was tried again: its tile is back. */
  undismiss(job: string): void;
}

/** A write about a job is on its way. */
export type Mark = 'canceling' | 'retrying';

const DISMISSED_MAX = 200;

export function createLocalNotes(project: string, { session, durable }: Page): LocalNotes {
  const draftsKey = `safelight.drafts.${project}`;
  const dismissedKey = `safelight.dismissed.${project}`;
  const store = createStore<Local>({
    drafts: session.read<readonly Draft[]>(draftsKey, []),
    arrived: new Set(),
    dismissed: new Set(durable.read<string[]>(dismissedKey, [])),
    canceling: new Set(),
    retrying: new Set(),
  });
  const change = (patch: (value: Local) => Partial<Local>): void => patchStore(store, patch);
  const keepDrafts = (): void => session.write(draftsKey, store.get().drafts);
  const without = (drafts: readonly Draft[], job: string): readonly Draft[] =>
    drafts.filter(({ request }) => request.id !== job);

  return {
    store,
    putDraft(draft) {
      change(({ drafts }) => ({ drafts: [draft, ...without(drafts, draft.request.id)] }));
      keepDrafts();
    },
    changeDraft(draft) {
      change(({ drafts }) => ({
        drafts: drafts.map((other) => (other.request.id === draft.request.id ? draft : other)),
      }));
      keepDrafts();
    },
    shedDrafts(known) {
      const { drafts } = store.get();
      if (drafts.length === 0) return;
      const here = known();
      const rest = drafts.filter((draft) => !here.has(draft.request.id));
      if (rest.length === drafts.length) return;
      change(() => ({ drafts: rest }));
      keepDrafts();
    },
    arrived: (ids) => change(({ arrived }) => ({ arrived: added(arrived, ...ids) })),
    mark: (as, job) => change((value) => ({ [as]: added(value[as], job) })),
    unmark: (as, job) => change((value) => ({ [as]: removed(value[as], job) })),
    dismiss(job) {
      change(({ dismissed, drafts }) => ({ dismissed: added(dismissed, job), drafts: without(drafts, job) }));
      keepDrafts();
      durable.write(dismissedKey, [...store.get().dismissed].slice(-DISMISSED_MAX));
    },
    undismiss: (job) => change(({ dismissed }) => ({ dismissed: removed(dismissed, job) })),
  };
}
