// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { betweenFrames, inFrame } from '../src/frame';

const LONG_MS = 500;

describe('what is drawn', () => {
  let visibility: 'visible' | 'hidden' = 'visible';
  beforeEach(() => {
    visibility = 'visible';
    vi.spyOn(document, 'visibilityState', 'get').mockImplementation(() => visibility);
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.advanceTimersByTime(LONG_MS);
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  it('is drawn with all else of its frame', () => {
    const drawn: string[] = [];
    inFrame(() => drawn.push('decoded'));
    inFrame(() => drawn.push('painted'));
    expect(drawn).toEqual([]);
    vi.advanceTimersToNextFrame();
    expect(drawn).toEqual(['decoded', 'painted']);
  });
  it('is news at once, and what comes after it waits for the frame that shows it', () => {
    const drawn: string[] = [];
    betweenFrames(() => drawn.push('first'));
    vi.advanceTimersByTime(0);
    expect(drawn).toEqual(['first']);
    betweenFrames(() => drawn.push('second'));
    betweenFrames(() => drawn.push('third'));
    vi.advanceTimersByTime(0);
    expect(drawn).toEqual(['first']);
    vi.advanceTimersByTime(LONG_MS);
    expect(drawn).toEqual(['first', 'second', 'third']);
  });
  it('does not wait for frames where nobody looks', () => {
    visibility = 'hidden';
    const frames = vi.spyOn(globalThis, 'requestAnimationFrame');
    const drawn: string[] = [];
    inFrame(() => drawn.push('decoded'));
    betweenFrames(() => drawn.push('news'));
    betweenFrames(() => drawn.push('more'));
    vi.advanceTimersByTime(LONG_MS);
    expect(drawn.sort()).toEqual(['decoded', 'more', 'news']);
    expect(frames).not.toHaveBeenCalled();
  });
  it('goes on after something in it broke', () => {
    betweenFrames(() => {
      throw new Error('broken');
    });
    expect(() => vi.advanceTimersByTime(0)).toThrow('broken');
    const drawn: string[] = [];
    betweenFrames(() => drawn.push('next'));
    vi.advanceTimersByTime(LONG_MS);
    expect(drawn).toEqual(['next']);
  });
});
