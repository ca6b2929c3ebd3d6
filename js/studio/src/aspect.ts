import type { Job, Model, Tile } from '@safelight/react';

/** Names the models give to the same wish. */
export const ASPECT_FIELDS = ['aspect_ratio', 'image_size', 'size', 'aspect'] as const;

const NAMED: Readonly<Record<string, number>> = {
  square: 1,
  square_hd: 1,
  portrait_4_3: 3 / 4,
  portrait_16_9: 9 / 16,
  landscape_4_3: 4 / 3,
  landscape_16_9: 16 / 9,
};

/** Panoramas and strips stay inside what a row can show. */
const clamp = (ratio: number): number => Math.min(2.6, Math.max(0.45, ratio));

/** Width over height of `16:9`, `1024x768`, `landscape_4_3` or `{width, height}`; null if it says nothing. */
export function parseAspect(value: unknown): number | null {
  if (typeof value === 'object' && value !== null) {
    const { width, height } = value as { width?: unknown; height?: unknown };
    return typeof width === 'number' && typeof height === 'number' && height > 0
      ? clamp(width / height)
      : null;
  }
  if (typeof value !== 'string') return null;
  const named = NAMED[value];
  if (named !== undefined) return named;
  const match = /^(\d+(?:\.\d+)?)\s*[:x×/]\s*(\d+(?:\.\d+)?)$/.exec(value.trim());
  if (!match) return null;
  const [width, height] = [Number(match[1]), Number(match[2])];
  return width > 0 && height > 0 ? clamp(width / height) : null;
}

function ofInput(input: Job['input'], model: Model | undefined): number | null {
  for (const name of ASPECT_FIELDS) {
    const said = parseAspect(input[name]);
    if (said !== null) return said;
  }
  const { width, height } = input;
  const direct = parseAspect({ width, height });
  if (direct !== null) return direct;
  for (const field of model?.fields ?? []) {
    if (!(ASPECT_FIELDS as readonly string[]).includes(field.name)) continue;
    const usual = parseAspect(field.default);
    if (usual !== null) return usual;
  }
  return null;
}

/** The box is reserved from the request, so that nothing moves when the result lands. */
export function aspectOf(tile: Tile, model: Model | undefined): number {
  if (tile.row?.width && tile.row.height) return clamp(tile.row.width / tile.row.height);
  const input = tile.job?.input ?? tile.draft?.request.input;
  return (input && ofInput(input, model)) ?? (model?.kind === 'video' ? 16 / 9 : 1);
}
