import {
  isUnfinished,
  type Job,
  type JobStatus,
  type Queue,
  useModels,
  useProject,
  useQueue,
  useStore,
} from '@safelight/react';
import { ChevronRight, RotateCcw, X } from 'lucide-react';
import { useState } from 'react';
import { failing } from '../acts';
import { useNow } from '../clock';
import { ago, credits, elapsed, timeLeft } from '../words';
import { Trace } from './Trace';

const STATUSES: readonly [JobStatus, string][] = [
  ['pending', 'Waiting'],
  ['processing', 'Running'],
  ['completed', 'Done'],
  ['failed', 'Failed'],
  ['canceled', 'Canceled'],
];
const WORD = Object.fromEntries(STATUSES) as Record<JobStatus, string>;

/** Every job as it goes: where it stands, what it costs, and what can be done (U3). */
export function QueuePage() {
  const queue = useQueue();
  const [only, setOnly] = useState<JobStatus | null>(null);
  const jobs = queue.jobs.filter((job) => only === null || job.status === only);
  return (
    <section className="page" aria-busy={!queue.loaded}>
      <header className="page-head">
        <h1>Queue</h1>
        <div className="tallies">
          {STATUSES.map(([status, word]) => (
            <button
              key={status}
              type="button"
              className="tally"
              data-status={status}
              data-testid={`count-${status}`}
              aria-pressed={only === status}
              onClick={() => setOnly(only === status ? null : status)}
            >
              <b>{queue.counts?.[status] ?? '–'}</b>
              {word}
            </button>
          ))}
        </div>
      </header>
      {queue.loaded && jobs.length === 0 && (
        <p className="nothing">
          {only ? `Nothing is ${WORD[only].toLowerCase()}.` : 'Nothing was asked for yet.'}
        </p>
      )}
      <ul className="jobs">
        {jobs.map((job) => (
          <Row key={job.id} job={job} queue={queue} />
        ))}
      </ul>
    </section>
  );
}

function Row({ job, queue }: { readonly job: Job; readonly queue: Queue }) {
  const [open, setOpen] = useState(false);
  const { models } = useModels();
  const { cancel, retry, canceling } = queue;
  const prompt = typeof job.input.prompt === 'string' ? job.input.prompt : '';
  const model = models.find(({ id }) => id === job.model)?.name ?? job.model;
  const ended = !isUnfinished(job);
  return (
    <li className="job" data-row={job.id} data-status={job.status}>
      <button type="button" className="job-open" aria-expanded={open} onClick={() => setOpen(!open)}>
        <ChevronRight size={15} aria-hidden="true" />
        <span className="job-prompt">{prompt || 'No prompt'}</span>
      </button>
      <span className="job-model" title={`${job.model}, by ${job.provider ?? '–'}`}>
        {model}
        {job.attempt > 1 && <small> · attempt {job.attempt}</small>}
      </span>
      <span className="job-status">
        <i className="status-dot" aria-hidden="true" />
        <Standing job={job} canceling={canceling.has(job.id)} />
      </span>
      <span className="job-cost">
        {job.status === 'completed' || !ended
          ? `${credits(job.credits?.charged ?? job.credits?.quoted ?? 0)} credits`
          : 'not charged'}
      </span>
      <Age job={job} />
      <span className="job-acts">
        {!ended && (
          <button
            type="button"
            className="icon"
            aria-label="Cancel"
            title="Cancel"
            disabled={canceling.has(job.id)}
            onClick={() => cancel(job.id).catch(failing('Not canceled'))}
          >
            <X size={16} aria-hidden="true" />
          </button>
        )}
        {(job.status === 'failed' || job.status === 'canceled') && (
          <button
            type="button"
            className="icon"
            aria-label="Retry"
            title="Retry"
            onClick={() => retry(job.id).catch(failing('Not retried'))}
          >
            <RotateCcw size={15} aria-hidden="true" />
          </button>
        )}
      </span>
      {job.error && <p className="job-error">{job.error.message}</p>}
      {open && <Trace job={job} />}
    </li>
  );
}

/** Only what is known (J10). */
function Standing({ job, canceling }: { readonly job: Job; readonly canceling: boolean }) {
  const heard = useStore(useProject().heard).get(job.id);
  if (!isUnfinished(job)) return WORD[job.status];
  if (canceling) return 'Canceling';
  const progress = heard?.progress ?? job.progress;
  const words = [job.stage === 'unknown' ? 'Unsure: asking the provider' : WORD[job.status]];
  if (job.stage === 'storing') words[0] = 'Storing';
  if (progress?.percent != null) words.push(`${Math.round(progress.percent)} %`);
  else if (progress?.queue_position) words.push(`${progress.queue_position} ahead`);
  if (progress?.eta_s != null && progress.eta_s > 0) words.push(timeLeft(progress.eta_s));
  return words.join(' · ');
}

function Age({ job }: { readonly job: Job }) {
  useNow();
  const now = useProject().serverNow();
  const began = Date.parse(job.created_at);
  if (isUnfinished(job)) return <time className="job-age">{elapsed((now - began) / 1000)}</time>;
  const took = (Date.parse(job.completed_at ?? job.created_at) - began) / 1000;
  return (
    <time className="job-age" dateTime={job.created_at} title={`took ${elapsed(took)}`}>
      {ago((now - began) / 1000)}
    </time>
  );
}
