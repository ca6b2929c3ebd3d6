import { describe, expectTypeOf, it } from 'vitest';
import type { components } from '../src/openapi';
import type { Generation, Job, JobCounts, ProgressNote, Session, Trace, Wallet } from '../src/resources';

type Schemas = components['schemas'];

/** What the server says it sends is what we take it for: checked by the compiler, from the server's own document. */
describe('our shapes', () => {
  it('take everything that the server sends', () => {
    expectTypeOf<Schemas['Job']>().toExtend<Omit<Job, 'target'>>();
    expectTypeOf<Schemas['Generation']>().toExtend<Generation>();
    expectTypeOf<Schemas['Wallet']>().toExtend<Wallet>();
    expectTypeOf<Schemas['JobCounts']>().toExtend<JobCounts>();
    expectTypeOf<Schemas['Trace']>().toExtend<Trace>();
    expectTypeOf<Schemas['Progress']>().toExtend<Omit<ProgressNote, 'job_id'>>();
    expectTypeOf<keyof Schemas['Session']>().toEqualTypeOf<keyof Session>();
  });
});
