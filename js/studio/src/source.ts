import type { Generation } from '@safelight/react';

/** Which file shows a row, and where. */
export type Source =
  | { readonly as: 'picture'; readonly src: string; readonly srcSet: string | null }
  | { readonly as: 'clip'; readonly src: string };

/** Width descriptors of the thumbnails by name: the server names them by their longer edge. */
function widths({ urls, width, height }: Generation): { url: string; w: number }[] {
  const longer = Math.max(width ?? 1, height ?? 1);
  const share = (width ?? 1) / longer;
  return Object.entries(urls.thumbs ?? {})
    .map(([edge, url]) => ({
      url,
      w: Math.round(Math.min(Number(edge), longer > 1 ? longer : Number(edge)) * share),
    }))
    .filter(({ w }) => w > 0)
    .sort((a, b) => a.w - b.w);
}

/** What a tile shows: thumbnails of a picture, the poster of a clip, or the clip itself until it has one. */
export function tileSource(row: Generation): Source {
  const thumbs = widths(row);
  const best = thumbs.at(-1);
  if (best)
    return { as: 'picture', src: best.url, srcSet: thumbs.map(({ url, w }) => `${url} ${w}w`).join(', ') };
  if (row.kind === 'video') {
    const poster = row.urls.poster;
    return poster ? { as: 'picture', src: poster, srcSet: null } : { as: 'clip', src: row.urls.original };
  }
  return { as: 'picture', src: row.urls.original, srcSet: null };
}

/** The smallest file that is sharp at `width` CSS pixels. */
export function thumbOf(row: Generation, width: number): string {
  const need = width * Math.min(2, window.devicePixelRatio || 1);
  const thumbs = widths(row);
  const fit = thumbs.find(({ w }) => w >= need) ?? thumbs.at(-1);
  return fit?.url ?? (row.kind === 'video' ? (row.urls.poster ?? '') : row.urls.original);
}
