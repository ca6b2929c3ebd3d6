import type { Model, Tile } from '@safelight/react';
import { useProject } from '@safelight/react';
import { useState, useSyncExternalStore } from 'react';
import { tintOf, useBlur } from '../blur';
import { useNow } from '../clock';
import { elapsed, timeLeft } from '../words';

interface DevelopingProps {
  readonly tile: Tile;
  readonly model: Model | undefined;
  readonly prompt: string;
  /** Seen before: no glow while it loads again. */
  readonly quiet: boolean;
}

/** Neighbours do not move in step. */
const phase = (id: string): string => `-${(Number.parseInt(id.slice(0, 4), 16) % 90) / 5}s`;

/** What stands in the tile's place until the media is painted. */
export function Developing({ tile, model, prompt, quiet }: DevelopingProps) {
  const hash = tile.row?.thumbhash ?? null;
  const blur = useBlur(hash, quiet);
  // What has a blurred picture from its first moment on needs no light before it.
  const [glows] = useState(!quiet && (tile.row === null || hash === null));
  return (
    <div
      className="developing"
      data-quiet={quiet || undefined}
      style={glows ? undefined : { background: tintOf(hash) }}
    >
      {glows && <div className="glow" style={{ animationDelay: phase(tile.id) }} aria-hidden="true" />}
      {blur && <img className="blur" src={blur} alt="" aria-hidden="true" />}
      {!tile.row && (
        <div className="status">
          {prompt && <p className="status-prompt">{prompt}</p>}
          <Status tile={tile} model={model} />
        </div>
      )}
    </div>
  );
}

/** Only what is known: a percent if the provider gives one, a time if somebody has an idea of it (J10). */
function Status({ tile, model }: { readonly tile: Tile; readonly model: Model | undefined }) {
  const room = useProject();
  const now = useNow();
  const jobId = tile.jobId ?? '';
  // Only this tile's part: news of one job are no reason to draw a hundred others.
  const heard = useSyncExternalStore(room.heard.subscribe, () => room.heard.get().get(jobId));
  const canceling = useSyncExternalStore(room.local.subscribe, () => room.local.get().canceling.has(jobId));
  // By the server's clock: ours may be wrong by hours.
  const since = (room.serverNow() - Date.parse(tile.job?.created_at ?? tile.createdAt)) / 1000;
  const percent = heard?.progress.percent ?? null;
  const queue = heard?.progress.queue_position ?? null;

  const said = heard?.progress.eta_s ?? null;
  const usual = model?.eta_s ?? null;
  const left =
    said !== null && heard !== undefined
      ? said - (now - heard.at) / 1000
      : usual !== null && usual > 0
        ? usual - since
        : null;

  const words: string[] = [];
  if (canceling) words.push('Canceling');
  else if (tile.draft !== null || tile.job === null) words.push('Sending');
  else if (tile.job.stage === 'storing' || tile.job.status === 'completed') words.push('Storing');
  else if (queue !== null && queue > 0) words.push(queue === 1 ? 'Next in line' : `${queue} ahead in line`);
  else if (tile.state === 'pending') words.push('Waiting');
  else words.push(percent !== null ? `${Math.round(percent)} %` : 'Developing');
  // What stands in a line is not done "any moment now", whatever is usual.
  const least = queue !== null && queue > 0 ? 0 : -10;
  if (!canceling && left !== null && tile.job?.stage !== 'storing' && left > least)
    words.push(timeLeft(left));

  return (
    <>
      <p className="status-line">
        <span>{words.join(' · ')}</span>
        <time>{elapsed(since)}</time>
      </p>
      {percent !== null && !canceling && (
        <div
          className="bar"
          role="progressbar"
          aria-label="Progress"
          aria-valuenow={Math.round(percent)}
          aria-valuemin={0}
          aria-valuemax={100}
        >
          <div style={{ transform: `scaleX(${Math.min(1, Math.max(0, percent / 100))})` }} />
        </div>
      )}
    </>
  );
}
