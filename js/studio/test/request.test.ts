import type { Model } from '@safelight/client';
import { describe, expect, it } from 'vitest';
import { aGeneration } from '../../client/test/builders';
import { jobBody, takesStart, wantsPrompt } from '../src/request';
import { tileSource } from '../src/source';

const model: Model = {
  id: 'local/aurora',
  name: 'Aurora',
  provider: 'local',
  kind: 'image',
  description: '',
  price: { unit: 'picture', amount: 10 },
  max_outputs: 4,
  fields: [
    { name: 'prompt', type: 'text', label: 'Prompt', required: true },
    { name: 'aspect_ratio', type: 'select', label: 'Shape', default: '1:1', options: ['1:1', '16:9'] },
    { name: 'seed', type: 'int', label: 'Seed', min: 0, advanced: true },
    { name: 'image_url', type: 'image', label: 'Picture' },
  ],
  start_field: null,
  needs_start: false,
  eta_s: 2,
  enabled: true,
};
const wish = { prompt: ' a fox ', n: 9, fields: { aspect_ratio: '1:1', seed: 3, steps: 50 }, start: 'g1' };

describe('the body of a submit', () => {
  it('carries what was chosen and leaves the defaults to the server', () => {
    expect(jobBody(model, wish)).toEqual({
      model: 'local/aurora',
      input: { prompt: 'a fox', seed: 3 },
      n: 4,
    });
  });
  it('leaves out what another model was told', () => {
    const fields = { aspect_ratio: '21:9', seed: -1, prompt: 'x', image_url: 'y' };
    expect(jobBody(model, { ...wish, fields }).input).toEqual({ prompt: 'a fox' });
  });
  it('carries a start image only to a model that takes one', () => {
    expect(jobBody({ ...model, start_field: 'image_url' }, wish)).toMatchObject({ start: 'g1' });
    expect(jobBody(model, wish)).not.toHaveProperty('start');
    expect(takesStart(model)).toBe(false);
  });
  it('asks for a prompt only where the model needs one', () => {
    expect(wantsPrompt(model)).toBe(true);
    expect(wantsPrompt({ ...model, fields: [] })).toBe(false);
  });
});

describe('the file a tile shows', () => {
  it('is a thumbnail by its real width', () => {
    const row = aGeneration('g', {
      width: 1000,
      height: 2000,
      urls: { original: '/o', thumbs: { '1024': '/b', '256': '/a' } },
    });
    expect(tileSource(row)).toEqual({ as: 'picture', src: '/b', srcSet: '/a 128w, /b 512w' });
  });
  it('is the clip itself until it has a poster', () => {
    const row = aGeneration('g', { kind: 'video', urls: { original: '/v.mp4' } });
    expect(tileSource(row)).toEqual({ as: 'clip', src: '/v.mp4' });
    expect(tileSource({ ...row, urls: { original: '/v.mp4', poster: '/p' } })).toMatchObject({ src: '/p' });
  });
});
