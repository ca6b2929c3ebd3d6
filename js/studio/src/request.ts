import { type JobRequest, type Model, type ModelField, newJobId } from '@safelight/react';

/** Settings with a control of their own in the composer; the prompt and pictures have other places. */
export const settings = (model: Model | undefined): readonly ModelField[] =>
  (model?.fields ?? []).filter((field) => field.name !== 'prompt' && field.type !== 'image');

export const wantsPrompt = (model: Model | undefined): boolean =>
  model?.fields.some((field) => field.name === 'prompt' && field.required) ?? true;

export const takesStart = (model: Model | undefined): boolean => Boolean(model?.start_field);

export interface Wish {
  readonly prompt: string;
  readonly n: number;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly start: string | null;
}

/** A value remembered from another model may mean nothing to this one. */
function fits(field: ModelField, value: unknown): boolean {
  if (field.options) return (field.options as readonly unknown[]).includes(value);
  switch (field.type) {
    case 'int':
    case 'number': {
      if (typeof value !== 'number' || !Number.isFinite(value)) return false;
      return value >= (field.min ?? value) && value <= (field.max ?? value);
    }
    case 'bool':
      return typeof value === 'boolean';
    case 'text':
    case 'select':
      return typeof value === 'string' && value !== '';
    case 'image':
      return false;
  }
}

/** The body of a submit: only what the person chose; the model's own defaults stay the server's business. */
export function jobBody(model: Model, wish: Wish): Omit<JobRequest, 'id'> {
  const input: Record<string, unknown> = {};
  const prompt = wish.prompt.trim();
  if (prompt !== '') input.prompt = prompt;
  for (const field of settings(model)) {
    const value = wish.fields[field.name];
    if (value !== undefined && value !== field.default && fits(field, value)) input[field.name] = value;
  }
  const n = Math.min(Math.max(1, wish.n), model.max_outputs);
  const body = { model: model.id, input, n };
  return wish.start !== null && takesStart(model) ? { ...body, start: wish.start } : body;
}

/** `at`: the server's time, ms since 1970. */
export const jobRequest = (model: Model, wish: Wish, at?: number): JobRequest => ({
  id: newJobId(at),
  ...jobBody(model, wish),
});
