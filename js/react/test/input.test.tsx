// @vitest-environment happy-dom
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { aJob } from '../../client/test/builders';
import { type Asked, type Job, SafelightProvider, useInput } from '../src';

const WHOLE = { prompt: 'a red fox', image: 'data:image/png;base64,all of it' };
const CUT = aJob({
  input: { prompt: 'a red fox', image: 'data:… (2,000,000 characters)' },
  left_out: ['input'],
});

let asked: string[];
let isGone: boolean;
let root: Root;
let said: Asked;
/** Everything that was ever handed out. */
let handed: Asked['input'][];

const server = async (input: string | URL | Request): Promise<Response> => {
  const url = new URL(String(input), 'http://x');
  if (!url.pathname.startsWith('/v1/jobs/')) throw new TypeError('cut');
  asked.push(url.pathname + url.search);
  if (isGone) return Response.json({ code: 'not_found', detail: 'There is no such job.' }, { status: 404 });
  return Response.json(aJob({ input: WHOLE }));
};

function Again({ job }: { readonly job: Job | null }) {
  said = useInput(job);
  handed.push(said.input);
  return null;
}

const pass = (ms: number): Promise<void> => act(async () => void (await vi.advanceTimersByTimeAsync(ms)));

async function show(job: Job | null): Promise<void> {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  await act(async () =>
    root.render(
      <QueryClientProvider client={queries}>
        <SafelightProvider project="p" realtimeUrl={null}>
          <Again job={job} />
        </SafelightProvider>
      </QueryClientProvider>,
    ),
  );
  await pass(1_000);
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  vi.stubGlobal('fetch', server);
  asked = [];
  handed = [];
  isGone = false;
  root = createRoot(document.createElement('div'));
});
afterEach(async () => {
  await act(async () => root.unmount());
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('what was asked for, to ask for it again', () => {
  it('is at hand without a request where the list has all of it', async () => {
    await show(aJob({ input: WHOLE }));
    expect(said).toMatchObject({ input: WHOLE, error: null });
    await show(null);
    expect(said).toMatchObject({ input: undefined, error: null });
    expect(asked).toEqual([]);
  });

  it('is read where the list cut it, once, and never handed out cut', async () => {
    await show(CUT);
    expect(said).toMatchObject({ input: WHOLE, error: null });
    expect(asked).toEqual([`/v1/jobs/${CUT.id}`]);
    expect(handed).toContain(undefined);
    expect(handed).not.toContainEqual(CUT.input);
  });

  it('says why it could not be read, and is read at the next try', async () => {
    isGone = true;
    await show(CUT);
    expect(said.input).toBeUndefined();
    expect(said.error?.message).toContain('no such job');
    isGone = false;
    act(() => said.reread());
    await pass(1_000);
    expect(said).toMatchObject({ input: WHOLE, error: null });
  });
});
