import type { Model } from '@safelight/client';
import { describe, expect, it } from 'vitest';
import { aGeneration } from '../../client/test/builders';
import { jobBody, takesStart, wantsPrompt } from '../src/request';
import { tileSource } from '../src/source';

const model: Model = {
  id: 'local/picture',
  name: 'Picture',
  provider: 'local',
  kind: 'image',
  max_outputs: 4,
  fields: [
    { name: 'prompt', type: 'text' },
    { name: 'aspect_ratio', type: 'select', default: '1:1', options: ['1:1', '16:9'] },
    { name: 'seed', type: 'integer' },
  ],
};
const wish = { prompt: ' a fox ', n: 9, fields: { aspect_ratio: '1:1', seed: 3, steps: 50 }, start: 'g1' };

describe('the body of a submit', () => {
  it('carries what was chosen and leaves the defaults to the server', () => {
    expect(jobBody(model, wish)).toEqual({
      model: 'local/picture',
      input: { prompt: 'a fox', seed: 3 },
      n: 4,
    });
  });
  it('carries a start image only to a model that takes one', () => {
    const edit: Model = { ...model, fields: [{ name: 'image_url', type: 'image' }] };
    expect(jobBody(edit, wish)).toMatchObject({ start: 'g1' });
    expect(takesStart(model)).toBe(false);
    expect(wantsPrompt(edit)).toBe(false);
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
