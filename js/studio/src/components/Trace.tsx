import { type Job, useTrace } from '@safelight/react';

const STEPS: Readonly<Record<string, string>> = {
  submitted: 'Asked for',
  accepted: 'Accepted',
  sent: 'Sent to the provider',
  stored: 'Stored',
  committed: 'Committed',
};
const words = (step: string): string =>
  STEPS[step] ?? step.charAt(0).toUpperCase() + step.slice(1).replace(/[._]/g, ' ');

function since(ms: number): string {
  if (ms < 1000) return `+${Math.max(0, Math.round(ms))} ms`;
  return `+${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

/** Every stage of the chain with its time, and in words where it stands (D1). */
export function Trace({ job }: { readonly job: Job }) {
  const trace = useTrace(job.id, job.stage);
  if (!trace) return <p className="trace-wait">Reading…</p>;
  const first = Date.parse(trace.steps[0]?.at ?? job.created_at);
  return (
    <div className="trace">
      <p>{trace.said}</p>
      <ol>
        {trace.steps.map((step, index) => (
          <li key={index}>
            <time dateTime={step.at}>{since(Date.parse(step.at) - first)}</time>
            {words(step.step)}
            {step.attempt > 1 && <small> attempt {step.attempt}</small>}
          </li>
        ))}
      </ol>
      <p className="trace-id">
        Job <code>{job.id}</code>
      </p>
    </div>
  );
}
