import { type Generation, type Shot, useGenerations, useShots } from '@safelight/react';
import { Film, Plus } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useActs } from '../acts';
import { hashOf } from '../route';
import { thumbOf } from '../source';

const COVERS = 4;

/** What is in it, in a few words. */
export const contents = ({ counts }: Shot): string => {
  const words = [counts.total === 1 ? '1 result' : `${counts.total} results`];
  if (counts.videos > 0) words.push(counts.videos === 1 ? '1 video' : `${counts.videos} videos`);
  if (counts.unpositioned > 0) words.push(`${counts.unpositioned} unplaced`);
  return words.join(' · ');
};

export function ShotsPage() {
  const acts = useActs();
  const { shots, loaded } = useShots();
  const rows = useGenerations()?.rows ?? [];
  const [name, setName] = useState('');
  const coversOf = (shot: Shot): readonly Generation[] =>
    rows.filter((row) => row.shots?.some(({ shot_id }) => shot_id === shot.id)).slice(0, COVERS);

  function create(event: FormEvent): void {
    event.preventDefault();
    acts.createShot(name.trim() || `Shot ${shots.length + 1}`, []);
    setName('');
  }

  return (
    <section className="page" aria-busy={!loaded}>
      <header className="page-head">
        <h1>Shots</h1>
        <form className="inline-form" onSubmit={create}>
          <input
            className="field"
            aria-label="Name of the new shot"
            placeholder={`Shot ${shots.length + 1}`}
            value={name}
            maxLength={200}
            onChange={(event) => setName(event.target.value)}
          />
          <button type="submit" className="button strong" data-testid="new-shot">
            <Plus size={15} aria-hidden="true" />
            New shot
          </button>
        </form>
      </header>
      {loaded && shots.length === 0 && (
        <p className="nothing">
          A shot is an ordered set of results: the pictures of a scene, the takes of a clip. Make one here, or
          drag a result from the gallery.
        </p>
      )}
      <ul className="cards">
        {shots.map((shot) => (
          <li key={shot.id} data-shot={shot.id}>
            <a className="card" href={hashOf({ page: 'shots', shot: shot.id, open: null, filters: {} })}>
              <span className="covers" data-count={coversOf(shot).length}>
                {coversOf(shot).map((row) => (
                  <img key={row.id} src={thumbOf(row, 220)} alt="" />
                ))}
                {coversOf(shot).length === 0 && <Film size={26} strokeWidth={1.4} aria-hidden="true" />}
              </span>
              <b>{shot.name}</b>
              <small data-testid="shot-counts">{contents(shot)}</small>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}
