import { describe, expect, it } from 'vitest';
import { type Api, type Job, type JobRequest, Problem, Unreachable } from '../src';
import { createApi } from '../src/api';
import { ATTEMPTS_MAX, submitJob } from '../src/submission';
import { aJob, JOB_ID } from './builders';

const request: JobRequest = { id: JOB_ID, model: 'local/picture', input: { prompt: 'x' }, n: 1 };

type Step = Job | Error;
function scripted(steps: Step[]) {
  const calls: string[] = [];
  const slept: number[] = [];
  const api = {
    instanceId: 'me',
    call: async (method: string, path: string, options?: { body?: unknown }) => {
      calls.push(`${method} ${path} ${(options?.body as JobRequest | undefined)?.id ?? ''}`.trim());
      const step = steps.shift() ?? new Unreachable('gone');
      if (step instanceof Error) throw step;
      return { data: step, seq: 5 };
    },
  } as unknown as Api;
  const sleep = async (ms: number): Promise<void> => {
    slept.push(ms);
  };
  return { api, calls, slept, host: { sleep, random: () => 0.5 } };
}

describe('submitting', () => {
  it('posts once when it is accepted', async () => {
    const { api, calls, host } = scripted([aJob()]);
    expect(await submitJob(api, 'p', request, host)).toMatchObject({ kind: 'accepted', job: aJob(), seq: 5 });
    expect(calls).toHaveLength(1);
  });
  it('repeats an unanswered submit under the same id', async () => {
    const { api, calls, host } = scripted([
      new Unreachable('cut'),
      new Problem(503, 'overloaded', ''),
      aJob(),
    ]);
    expect((await submitJob(api, 'p', request, host)).kind).toBe('accepted');
    expect(new Set(calls)).toEqual(new Set([`POST /v1/projects/p/jobs ${JOB_ID}`]));
    expect(calls).toHaveLength(3);
  });
  it('never repeats a refusal, and hands on its numbers', async () => {
    const { api, calls, host } = scripted([
      new Problem(402, 'insufficient_credits', 'no', { required: 500, available: 20 }),
    ]);
    const outcome = await submitJob(api, 'p', request, host);
    expect(outcome).toMatchObject({ kind: 'refused', trouble: { required: 500, available: 20 } });
    expect(calls).toHaveLength(1);
  });
  it('waits as long as it is told to', async () => {
    const { api, slept, host } = scripted([new Problem(429, 'rate_limited', '', {}, 7), aJob()]);
    await submitJob(api, 'p', request, host);
    expect(slept[0]).toBeGreaterThanOrEqual(7_000);
  });
  it('looks the job up before it says that nobody answered', async () => {
    const lost = Array.from({ length: ATTEMPTS_MAX }, () => new Unreachable('gone'));
    const found = scripted([...lost, aJob({ status: 'processing' })]);
    expect((await submitJob(found.api, 'p', request, found.host)).kind).toBe('accepted');
    expect(found.calls.at(-1)).toBe(`GET /v1/jobs/${JOB_ID}?leave_out=input`);
    const gone = scripted([]);
    expect(await submitJob(gone.api, 'p', request, gone.host)).toMatchObject({
      trouble: { code: 'unreachable' },
    });
  });
  it('stops asking once the feed has brought the job', async () => {
    const { api, calls, host } = scripted([new Unreachable('cut')]);
    let tries = 0;
    const alreadyThere = (): Job | null => (tries++ === 0 ? null : aJob());
    expect((await submitJob(api, 'p', request, { ...host, alreadyThere })).kind).toBe('accepted');
    expect(calls).toHaveLength(1);
  });
});

describe('a call', () => {
  const answering = (response: () => Response | Promise<Response>, seen: Problem[] = []) =>
    createApi({
      instanceId: 'me',
      fetch: async () => response(),
      onUnauthorized: (problem) => seen.push(problem),
    });

  it('brings the seq of its answer', async () => {
    const api = answering(() => new Response('{"a":1}', { headers: { 'safelight-seq': '42' } }));
    expect(await api.call('GET', '/x')).toEqual({ data: { a: 1 }, seq: 42 });
  });
  it('understands an empty answer', async () => {
    expect(await answering(() => new Response(null, { status: 204 })).call('DELETE', '/x')).toEqual({
      data: null,
      seq: null,
    });
  });
  it('raises the problem that the server described', async () => {
    const body = JSON.stringify({ code: 'unknown_model', detail: 'There is no model x.' });
    const call = answering(() => new Response(body, { status: 422 })).call('GET', '/x');
    await expect(call).rejects.toMatchObject({
      status: 422,
      code: 'unknown_model',
      message: 'There is no model x.',
    });
  });
  it("survives a proxy's own error page", async () => {
    const page = () => new Response('<html>', { status: 502, headers: { 'retry-after': '3' } });
    await expect(answering(page).call('GET', '/x')).rejects.toMatchObject({
      code: 'http_502',
      retryAfterS: 3,
    });
  });
  it('tells that the session ended', async () => {
    const seen: Problem[] = [];
    await expect(
      answering(() => new Response('', { status: 401 }), seen).call('GET', '/x'),
    ).rejects.toThrow();
    expect(seen).toHaveLength(1);
  });
  it('is unreachable when nobody answers', async () => {
    const call = answering(() => Promise.reject(new TypeError('network'))).call('GET', '/x');
    await expect(call).rejects.toBeInstanceOf(Unreachable);
  });
});
