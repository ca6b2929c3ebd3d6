import type { Scheduler } from './scheduler';

/** Jobs that somebody here waits for; who waits long is told that the job goes on (F9). */
export interface Awaiting {
  begin(job: string): void;
  end(job: string): void;
  ids(): string[];
}

export const LATE_MS = 10 * 60_000;

export function createAwaiting(scheduler: Scheduler, onLate: (job: string) => void): Awaiting {
  const timers = new Map<string, number>();
  const end = (job: string): void => {
    const timer = timers.get(job);
    if (timer !== undefined) scheduler.clearTimer(timer);
    timers.delete(job);
  };
  return {
    begin(job) {
      end(job);
      timers.set(
        job,
        scheduler.after('late', LATE_MS, () => onLate(job)),
      );
    },
    end,
    ids: () => [...timers.keys()],
  };
}
