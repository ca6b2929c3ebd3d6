import { type JobRequest, type Model, type ModelField, newJobId } from '@safelight/client';
import { ASPECT_FIELDS } from './aspect';

/** Fields that have their own control and are not listed among the others. */
const OWN_CONTROL: readonly string[] = ['prompt', 'n', 'num_images', 'start', 'image_url', 'image_urls'];

export const isAspect = (field: ModelField): boolean =>
  (ASPECT_FIELDS as readonly string[]).includes(field.name);

export const extraFields = (model: Model | undefined): readonly ModelField[] =>
  (model?.fields ?? []).filter((field) => !OWN_CONTROL.includes(field.name) && field.type !== 'image');

/** Without a list of fields, the model is taken to want one. */
export const wantsPrompt = (model: Model | undefined): boolean =>
  !model?.fields?.length || model.fields.some((field) => field.name === 'prompt');

export const takesStart = (model: Model | undefined): boolean =>
  model?.fields?.some(
    (field) => field.type === 'image' || ['start', 'image_url', 'image_urls'].includes(field.name),
  ) ?? false;

export interface Wish {
  readonly prompt: string;
  readonly n: number;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly start: string | null;
}

/** The body of a submit: only what the person chose; the model's own defaults stay the server's business. */
export function jobBody(model: Model, wish: Wish): Omit<JobRequest, 'id'> {
  const input: Record<string, unknown> = {};
  const prompt = wish.prompt.trim();
  if (prompt !== '') input.prompt = prompt;
  for (const field of extraFields(model)) {
    const value = wish.fields[field.name];
    if (value === undefined || value === '' || value === field.default) continue;
    input[field.name] = value;
  }
  const n = Math.min(Math.max(1, wish.n), model.max_outputs ?? 1);
  const body = { model: model.id, input, n };
  return wish.start !== null && takesStart(model) ? { ...body, start: wish.start } : body;
}

export const jobRequest = (model: Model, wish: Wish): JobRequest => ({
  id: newJobId(),
  ...jobBody(model, wish),
});
