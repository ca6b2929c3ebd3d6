import { describe, expect, it } from 'vitest';
import { parseAspect } from '../src/aspect';
import { justify, rowAt } from '../src/justify';
import { elapsed, timeLeft } from '../src/words';

describe('justified rows', () => {
  const aspects = [1, 1.5, 0.66, 16 / 9, 1, 0.5, 2, 1, 1.33, 0.8, 1.78];

  it.each([320, 390, 768, 1024, 1440, 2560])(
    'fill %i pixels exactly, each tile in its own shape',
    (width) => {
      const { boxes, rows } = justify(aspects, width, 260, 10);
      expect(boxes).toHaveLength(aspects.length);
      for (const row of rows.slice(0, -1)) {
        const last = boxes[row.to - 1];
        expect(last && last.x + last.width).toBe(width);
      }
      boxes.forEach((box, i) => {
        expect(Math.abs(box.width / box.height - (aspects[i] ?? 1))).toBeLessThan(0.05);
        expect(box.x).toBeGreaterThanOrEqual(0);
        expect(box.x + box.width).toBeLessThanOrEqual(width);
      });
    },
  );
  it('are found by a line through the page', () => {
    const { rows, height } = justify(aspects, 700, 200, 8);
    for (let line = -50; line < height + 50; line += 7) {
      const found = rows.findIndex((row) => row.top + row.height > line);
      expect(rowAt(rows, line)).toBe(found < 0 ? rows.length : found);
    }
    expect(rowAt([], 0)).toBe(0);
  });
  it('do not blow up a lonely tile', () => {
    expect(justify([1], 1400, 260, 10).boxes[0]).toEqual({ x: 0, y: 0, width: 260, height: 260 });
  });
  it('are nothing where there is no room or no tile', () => {
    expect(justify([], 1000, 260, 10).height).toBe(0);
    expect(justify([1, 2], 0, 260, 10).boxes).toEqual([]);
  });
  it('follow each other without overlap', () => {
    const { rows } = justify(aspects, 700, 200, 8);
    rows.slice(1).forEach((row, i) => {
      const above = rows[i];
      expect(above && above.top + above.height + 8).toBe(row.top);
    });
  });
});

describe('the shape asked for', () => {
  it.each([
    ['16:9', 16 / 9],
    ['1024x768', 4 / 3],
    ['landscape_4_3', 4 / 3],
    ['square_hd', 1],
    [{ width: 200, height: 100 }, 2],
  ])('is read from %j', (value, ratio) => {
    expect(parseAspect(value)).toBeCloseTo(ratio);
  });
  it.each(['auto', '', null, 7, '0:0', '16:', { width: 'x', height: 1 }])(
    'is not guessed from %j',
    (value) => {
      expect(parseAspect(value)).toBeNull();
    },
  );
});

describe('words about time', () => {
  it('are honest and calm', () => {
    expect(timeLeft(38)).toBe('about 40 s left');
    expect(timeLeft(13)).toBe('about 15 s left');
    expect(timeLeft(2)).toBe('a few seconds left');
    expect(timeLeft(-3)).toBe('any moment now');
    expect(timeLeft(170)).toBe('about 3 min left');
    expect(elapsed(75)).toBe('1:15');
    expect(elapsed(3_725)).toBe('1:02:05');
  });
});
