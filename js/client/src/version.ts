/** What this client was built as; the server says in its config what it is (a test keeps both packages in step). */
export const VERSION = '0.1.0';

export type Age = 'older' | 'newer';

const numbersOf = (version: string): number[] | null => {
  const found = /^(\d{1,6})\.(\d{1,6})\.(\d{1,6})/.exec(version);
  return found ? found.slice(1).map(Number) : null;
};

/** How the server stands to this client. Null: they are the same, or it does not say anything that can be compared. */
export function serverAge(theirs: unknown, ours: string = VERSION): Age | null {
  const a = typeof theirs === 'string' ? numbersOf(theirs) : null;
  const b = numbersOf(ours);
  if (a === null || b === null) return null;
  const at = a.findIndex((number, index) => number !== b[index]);
  return at < 0 ? null : (a[at] ?? 0) > (b[at] ?? 0) ? 'newer' : 'older';
}
