import { useEffect, useState } from 'react';
import { thumbHashToAverageRGBA, thumbHashToDataURL } from 'thumbhash';

/** Blurred pictures by their hash: those that were made last. */
const MADE_MAX = 400;
const made = new Map<string, string | null>();

const bytesOf = (hash: string): Uint8Array => Uint8Array.from(atob(hash), (char) => char.charCodeAt(0));

/** The one colour of a picture, for the moment before its blurred one: costs nothing. */
export function tintOf(hash: string | null): string | undefined {
  if (hash === null) return undefined;
  try {
    const { r, g, b, a } = thumbHashToAverageRGBA(bytesOf(hash));
    return `rgb(${[r, g, b].map((part) => Math.round(255 * part)).join(' ')} / ${a.toFixed(2)})`;
  } catch {
    return undefined;
  }
}

function make(hash: string): string | null {
  const known = made.get(hash);
  if (known !== undefined) return known;
  let url: string | null = null;
  try {
    url = thumbHashToDataURL(bytesOf(hash));
  } catch {
    // a broken hash is no reason for a broken tile
  }
  const [oldest] = made.keys();
  if (made.size >= MADE_MAX && oldest !== undefined) made.delete(oldest);
  made.set(hash, url);
  return url;
}

interface Wish {
  readonly hash: string;
  readonly done: (url: string | null) => void;
}

/** One takes as long as drawing a tile: so many in one task, and none in the task that draws. */
const AT_ONCE = 3;
const wishes = new Set<Wish>();
let turn: number | null = null;

function serve(): void {
  turn = null;
  for (const wish of [...wishes].slice(0, AT_ONCE)) {
    wishes.delete(wish);
    wish.done(make(wish.hash));
  }
  arm();
}

function arm(): void {
  if (wishes.size > 0 && turn === null) turn = window.setTimeout(serve, 0);
}

/** What somebody scrolls past is gone by then, or there. */
const PATIENCE_MS = 120;

/** The blurred picture behind a ThumbHash; null: none, or not yet. Whoever is gone before its turn costs nothing. */
export function useBlur(hash: string | null, patient: boolean): string | null {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    if (hash === null) return;
    const wish = { hash, done: setUrl };
    const timer = window.setTimeout(
      () => {
        wishes.add(wish);
        arm();
      },
      patient ? PATIENCE_MS : 0,
    );
    return () => {
      window.clearTimeout(timer);
      wishes.delete(wish);
    };
  }, [hash, patient]);
  return url;
}
