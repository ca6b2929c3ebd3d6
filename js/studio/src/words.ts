/** Figures as people say them. */

const plural = (n: number, unit: string): string => `${n} ${unit}${n === 1 ? '' : 's'}`;

const WHOLE = new Intl.NumberFormat('en-US');

export const credits = (amount: number): string => WHOLE.format(amount);

/** "about 40 s left": rounded so that it does not twitch, and never below what we can honestly say (J10). */
export function timeLeft(seconds: number): string {
  if (seconds <= 0) return 'any moment now';
  if (seconds <= 4) return 'a few seconds left';
  if (seconds < 20) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 90) return `about ${Math.round(seconds / 10) * 10} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

export function elapsed(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const pad = (n: number): string => String(n).padStart(2, '0');
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes}:${pad(s % 60)}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(s % 60)}`;
}

export function ago(seconds: number): string {
  if (seconds < 2) return 'just now';
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return `${plural(Math.round(seconds / 3600), 'hour')} ago`;
}

export function fileSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${Math.round(bytes / 1000)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
