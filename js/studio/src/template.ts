import type { Model, Template } from '@safelight/react';
import { settings } from './request';

/** Blanks as the server reads them: capitals in braces (J8). */
const BLANK = /\{([A-Z][A-Z0-9_]{0,63})\}/g;

export const blanksOf = (text: string): string[] => [
  ...new Set([...text.matchAll(BLANK)].map((match) => match[1] ?? '')),
];

/** `Ad for a shoe` → `ad-for-a-shoe`, as a template's address. */
export const slugOf = (name: string): string =>
  name
    .toLowerCase()
    .normalize('NFKD')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 63);

/** `PRODUCT_NAME` → "Product name" */
export const labelOf = (blank: string): string =>
  blank.charAt(0) + blank.slice(1).toLowerCase().replace(/_/g, ' ');

/** The words with what is filled in so far. */
export const filled = (template: Template, values: Readonly<Record<string, string>>): string =>
  String(template.input.prompt ?? '').replace(BLANK, (whole, name: string) => values[name]?.trim() || whole);

/** What a template stores of a model's form. */
export function templateInput(
  model: Model,
  prompt: string,
  fields: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const input: Record<string, unknown> = { prompt };
  for (const field of settings(model)) {
    const value = fields[field.name];
    if (value !== undefined && value !== field.default) input[field.name] = value;
  }
  return input;
}
