import type { Answer, Api } from './api';
import type { Awaiting } from './awaiting';
import type { LocalNotes, Mark } from './localNotes';
import type { Draft } from './placeholders';
import type { Job, JobRequest } from './resources';
import type { Scheduler } from './scheduler';
import { submitJob } from './submission';

/** What a person may do with jobs: shown at once, before the server has answered. */
export interface JobMutations {
  submit(request: JobRequest): void;
  retry(id: string): Promise<void>;
  cancel(id: string): Promise<void>;
  /** Sends what an earlier life of this tab had not heard an answer to: under the same id, it is the same job. */
  resume(): void;
}

export interface JobMutationsHost {
  readonly learn: (table: string, row: { readonly id: string }, seq: number) => void;
  /** A write that named no seq: look. */
  readonly kick: () => void;
  readonly serverNow: () => number;
  readonly isOnline: () => boolean;
  /** The row of a job, if it came. */
  readonly known: (id: string) => Job | null;
  /** A job that was made at the first try says what time the server has. */
  readonly stamped: (createdAt: number, askedAt: number) => void;
  readonly refused: (draft: Draft) => void;
}

export function createJobMutations(
  api: Api,
  project: string,
  local: LocalNotes,
  awaiting: Awaiting,
  { now, sleep, random }: Scheduler,
  host: JobMutationsHost,
): JobMutations {
  function send(draft: Draft): void {
    const { request } = draft;
    awaiting.begin(request.id);
    const askedAt = now();
    void submitJob(api, project, request, {
      sleep,
      random,
      alreadyThere: () => host.known(request.id),
      isOnline: host.isOnline,
    }).then((outcome) => {
      if (outcome.kind === 'accepted') {
        const { job, seq } = outcome;
        if (outcome.isFirstTry) host.stamped(Date.parse(job.created_at), askedAt);
        if (seq !== null) host.learn('jobs', job, seq);
        else host.kick();
        return;
      }
      const refused: Draft = { ...draft, trouble: outcome.trouble };
      awaiting.end(request.id);
      local.changeDraft(refused);
      host.refused(refused);
    });
  }

  function sendNew(draft: Draft): void {
    local.putDraft(draft);
    send(draft);
  }

  /** A write about one job, marked as under way until its end is known. */
  async function aboutJob(id: string, path: string, mark: Mark): Promise<Answer<Job>> {
    local.mark(mark, id);
    try {
      const answer = await api.call<Job>('POST', path);
      if (answer.data !== null && answer.seq !== null) host.learn('jobs', answer.data, answer.seq);
      else host.kick();
      return answer;
    } catch (error) {
      local.unmark(mark, id);
      throw error;
    }
  }

  return {
    submit: (request) =>
      sendNew({ request, createdAt: new Date(host.serverNow()).toISOString(), trouble: null }),
    async retry(id) {
      const draft = local.store.get().drafts.find(({ request }) => request.id === id);
      if (draft) {
        sendNew({ ...draft, trouble: null });
        return;
      }
      awaiting.begin(id);
      const { data } = await aboutJob(id, `/v1/jobs/${id}/retry`, 'retrying');
      local.unmark('retrying', id);
      if (data.id !== id) local.dismiss(id); // a new job took its place
    },
    async cancel(id) {
      await aboutJob(id, `/v1/jobs/${id}/cancel`, 'canceling');
    },
    resume() {
      for (const draft of local.store.get().drafts) if (draft.trouble === null) send(draft);
    },
  };
}
