/** Full jitter: a uniform draw up to a bound that doubles and then stays. There is no last attempt (F6). */
export function fullJitter(attempt: number, random: number, baseMs = 500, capMs = 30_000): number {
  const bound = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16));
  return Math.round(random * bound);
}
