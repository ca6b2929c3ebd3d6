/** Justified rows: every tile whole, in its own shape, in reading order. All lengths in CSS pixels. */

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Row {
  readonly top: number;
  readonly height: number;
  /** Indexes of its tiles: `from` up to, not including, `to`. */
  readonly from: number;
  readonly to: number;
}

export interface Layout {
  readonly boxes: readonly Box[];
  readonly rows: readonly Row[];
  readonly height: number;
}

/** Index of the first row that reaches below this line, `rows.length` if none does. Asked at every step of a scroll. */
export function rowAt(rows: readonly Row[], line: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const row = rows[middle];
    if (row && row.top + row.height > line) high = middle;
    else low = middle + 1;
  }
  return low;
}

export function justify(aspects: readonly number[], width: number, target: number, gap: number): Layout {
  const boxes: Box[] = [];
  const rows: Row[] = [];
  let top = 0;
  let from = 0;
  let sum = 0;

  const close = (to: number, full: boolean): void => {
    const free = width - gap * (to - from - 1);
    // An unfinished last row keeps the usual height instead of growing to the full width.
    const height = Math.round(full ? free / sum : Math.min(free / sum, target));
    let x = 0;
    for (let i = from; i < to; i++) {
      const exact = height * (aspects[i] ?? 1);
      const last = full && i === to - 1;
      const box = {
        x: Math.round(x),
        y: top,
        width: last ? width - Math.round(x) : Math.round(exact),
        height,
      };
      boxes.push(box);
      x += exact + gap;
    }
    rows.push({ top, height, from, to });
    top += height + gap;
    from = to;
    sum = 0;
  };

  if (width <= 0) return { boxes, rows, height: 0 };
  aspects.forEach((aspect, i) => {
    sum += aspect;
    const height = (width - gap * (i - from)) / sum;
    if (height <= target * 1.12) close(i + 1, true);
  });
  if (from < aspects.length) close(aspects.length, false);
  return { boxes, rows, height: Math.max(0, top - gap) };
}
