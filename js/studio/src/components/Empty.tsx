import type { Seed } from './Composer';

const IDEAS = [
  'A red fox in fresh snow, morning light',
  'An old harbour at dusk, long exposure',
  'Paper lanterns drifting over a dark lake',
];

/** An empty gallery says how to fill it. */
export const Empty = ({ onReuse }: { readonly onReuse: (seed: Seed) => void }) => (
  <section className="empty">
    <h1>The tray is empty</h1>
    <p>Describe what you would like to see. It develops here, and stays.</p>
    <div className="ideas">
      {IDEAS.map((prompt) => (
        <button key={prompt} type="button" className="idea" onClick={() => onReuse({ prompt })}>
          {prompt}
        </button>
      ))}
    </div>
  </section>
);
