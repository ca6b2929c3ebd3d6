import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const NAMED = /`((?:tests|js)\/[^`]+)` “([^”]+)”/g;

/** The table of docs/studio.md, as it says of itself. */
const section = (title: string): string =>
  read('docs/studio.md').split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? '';
const rowsOf = (title: string): string[] =>
  section(title)
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| |') && !line.startsWith('| What |'));

describe('what docs/studio.md promises', () => {
  it('names a test for each of the fifteen complaints', () => {
    const rows = rowsOf('What people complain about');
    expect(rows.map((row) => Number(row.split('|')[1]))).toEqual(Array.from({ length: 15 }, (_, i) => i + 1));
    for (const row of rows) expect([...row.matchAll(NAMED)].length).toBeGreaterThan(0);
  });

  it('names a test for everything that may be wrong around the page', () => {
    const rows = rowsOf('What may be wrong around the page');
    expect(rows.length).toBe(8);
    for (const row of rows) expect([...row.matchAll(NAMED)].length).toBeGreaterThan(0);
  });

  it('names only tests that there are', () => {
    const named = [...read('docs/studio.md').matchAll(NAMED)];
    expect(named.length).toBeGreaterThan(30);
    // Those of the page's own half; of the server's half the file must be there.
    const missing = named.filter(([, path = '', name = '']) => {
      const text = read(path);
      return path.endsWith('.py')
        ? !text.includes('def test_')
        : !text.includes(`'${name}'`) && !text.includes(`"${name}"`);
    });
    expect(missing.map(([whole]) => whole)).toEqual([]);
  });
});
