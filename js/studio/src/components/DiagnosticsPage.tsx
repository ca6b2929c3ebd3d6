import { FAMILIES, useProject, useRealtime, useStore } from '@safelight/react';
import { RefreshCw } from 'lucide-react';
import { lazy, Suspense } from 'react';
import { useNow } from '../clock';
import { ago } from '../words';

const VisibilityChart = lazy(() => import('./VisibilityChart'));

const FAMILY_WORDS: Readonly<Record<string, string>> = {
  tasks: 'Jobs',
  'task-status-counts': 'Job counts',
  'unified-generations': 'Results',
  shots: 'Shots',
  'unpositioned-count': 'Unplaced counts',
  'project-video-counts': 'Video counts',
  nodes: 'Canvas',
  credits: 'Credits',
};

function percentile(sorted: readonly number[], share: number): string {
  if (sorted.length === 0) return '–';
  const ms = sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** How this window knows what it knows, and how long things took to be seen (U6, D5). */
export function DiagnosticsPage() {
  const room = useProject();
  const realtime = useRealtime();
  useStore(room.freshness);
  const now = useNow();
  const snapshot = room.snapshot();
  const since = (at: number | null): string => (at === null ? 'never yet' : ago((now - at) / 1000));
  const figures = room.telemetry.recent();
  const sorted = figures.map(({ ms }) => ms).sort((a, b) => a - b);
  const facts: readonly [string, string][] = [
    ['State', realtime.status],
    ['Way', snapshot.transport],
    [
      'This tab',
      snapshot.role === 'follower' ? 'follows another tab' : snapshot.role === 'leader' ? 'leads' : 'alone',
    ],
    ['Read up to', snapshot.cursor === null ? '–' : `${snapshot.cursor.seq} of ${snapshot.head ?? '–'}`],
    ['Last change', since(snapshot.lastEventAt)],
    ['Known fresh', since(snapshot.lastProofAt)],
    [
      'Next look',
      snapshot.nextPollAt === null
        ? 'none due'
        : `in ${Math.max(0, Math.round((snapshot.nextPollAt - now) / 1000))} s`,
    ],
    [
      'Reconnect',
      snapshot.nextConnectAt === null
        ? 'none pending'
        : `in ${Math.max(0, Math.round((snapshot.nextConnectAt - now) / 1000))} s`,
    ],
    ['Failures in a row', `${snapshot.pollFailures} looks, ${snapshot.lineFailures} lines`],
    [
      'Clock',
      Math.abs(snapshot.clockOffsetMs) < 1000
        ? 'right'
        : `off by ${Math.round(snapshot.clockOffsetMs / 1000)} s`,
    ],
    ['Log', snapshot.cursor?.epoch ?? '–'],
    ['Timers', snapshot.timers.map(({ name }) => name).join(', ')],
  ];
  return (
    <section className="page">
      <header className="page-head">
        <h1>Diagnostics</h1>
        <button type="button" className="button strong push" data-testid="recover" onClick={realtime.recover}>
          <RefreshCw size={15} aria-hidden="true" />
          Recover now
        </button>
      </header>
      {realtime.error && <p className="notice">{realtime.error}</p>}
      <dl className="figures">
        <div>
          <dt>From commit to screen, half of them</dt>
          <dd>{percentile(sorted, 0.5)}</dd>
        </div>
        <div>
          <dt>95 of 100</dt>
          <dd>{percentile(sorted, 0.95)}</dd>
        </div>
        <div>
          <dt>Results seen here</dt>
          <dd>{figures.length}</dd>
        </div>
      </dl>
      <div className="chart" data-testid="chart">
        {figures.length > 1 ? (
          <Suspense fallback={null}>
            <VisibilityChart figures={figures} />
          </Suspense>
        ) : (
          <p className="nothing">The time from commit to screen is drawn here, as results arrive.</p>
        )}
      </div>
      <div className="two">
        <section>
          <h2>Connection</h2>
          <dl className="facts-list">
            {facts.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section>
          <h2>Last proof of freshness</h2>
          <dl className="facts-list">
            {FAMILIES.map((family) => {
              const age = snapshot.freshness[family] ?? null;
              return (
                <div key={family}>
                  <dt>{FAMILY_WORDS[family]}</dt>
                  <dd>{age === null ? 'never yet' : ago(age / 1000)}</dd>
                </div>
              );
            })}
          </dl>
        </section>
      </div>
    </section>
  );
}
