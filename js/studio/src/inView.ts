import { useLayoutEffect, useReducer, useRef, useState } from 'react';
import { flushSync } from 'react-dom';
import { type Row, rowAt } from './justify';

/** Rows above and below the window that are in the page, too. */
export const OVERSCAN_ROWS = 3;

/** The window, as its last scroll left it. Asking the browser in between would lay out what is being changed. */
export interface View {
  y: number;
  height: number;
}

export interface InView {
  /** Rows that are in the page: `first` up to, not including, `end`. */
  readonly first: number;
  readonly end: number;
  readonly view: View;
}

function near(rows: readonly Row[], top: number, { y, height }: View): readonly [number, number] {
  const first = rowAt(rows, y - top);
  const last = rowAt(rows, y - top + height);
  return [Math.max(0, first - OVERSCAN_ROWS), Math.min(rows.length, last + 1 + OVERSCAN_ROWS)];
}

/** Which of the rows are near the eye; `top`: where they begin in the page. Drawn anew only for other rows. */
export function useInView(rows: readonly Row[], top: number): InView {
  const [view] = useState<View>(() => ({ y: window.scrollY, height: window.innerHeight }));
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const [first, end] = near(rows, top, view);
  const drawn = useRef({ rows, top, first, end });
  useLayoutEffect(() => {
    drawn.current = { rows, top, first, end };
  });
  useLayoutEffect(() => {
    const look = (): void => {
      view.y = window.scrollY;
      view.height = window.innerHeight;
      const now = drawn.current;
      const [nextFirst, nextEnd] = near(now.rows, now.top, view);
      // In the frame that shows it: what is scrolled to is never missing.
      if (nextFirst !== now.first || nextEnd !== now.end) flushSync(draw);
    };
    window.addEventListener('scroll', look, { passive: true });
    window.addEventListener('resize', look);
    return () => {
      window.removeEventListener('scroll', look);
      window.removeEventListener('resize', look);
    };
  }, [view]);
  return { first, end, view };
}
