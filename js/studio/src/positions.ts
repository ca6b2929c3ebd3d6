/** Moves one id to the place of another, as drag and drop says it. */
export function moved(ids: readonly string[], from: string, to: string): string[] {
  const start = ids.indexOf(from);
  const end = ids.indexOf(to);
  if (start < 0 || end < 0 || start === end) return [...ids];
  const rest = ids.filter((id) => id !== from);
  return [...rest.slice(0, end), from, ...rest.slice(end)];
}

/** Places that compare like the order, to show it until the server's own arrive. */
export const provisional = (ids: readonly string[]): Map<string, string> =>
  new Map(ids.map((id, index) => [id, `~${String(index).padStart(6, '0')}`]));
