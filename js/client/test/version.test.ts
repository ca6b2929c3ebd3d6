// @ts-expect-error: Node's types are nobody's dependency here
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { serverAge, VERSION } from '../src';

describe('a server of another version', () => {
  it('is older or newer than this client, number by number', () => {
    expect(serverAge('1.2.3', '1.2.3')).toBeNull();
    expect(serverAge('1.10.0', '1.9.9')).toBe('newer');
    expect(serverAge('1.2.3', '1.2.4')).toBe('older');
    expect(serverAge('2.0.0.dev1', '10.0.0')).toBe('older');
  });
  it('is left alone when it says nothing that can be compared', () => {
    for (const said of [undefined, null, '', 'next', 12, {}, '1.2']) expect(serverAge(said)).toBeNull();
  });
  it('is told apart by the version that both packages bear', () => {
    const there = new URL('../../../pyproject.toml', import.meta.url);
    expect(readFileSync(there, 'utf8')).toContain(`\nversion = "${VERSION}"\n`);
    const here = new URL('../package.json', import.meta.url);
    expect(JSON.parse(readFileSync(here, 'utf8')).version).toBe(VERSION);
  });
});
