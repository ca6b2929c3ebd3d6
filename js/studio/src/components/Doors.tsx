import { Lamp } from './Lamp';

/** What is shown while there is no session: each says what happened and what to do. */

export const Waking = () => (
  <main className="door" aria-busy="true">
    <Lamp large />
  </main>
);

export const SignedOut = () => (
  <main className="door">
    <Lamp large />
    <h1>The door is closed</h1>
    <p>This page opens with a one-time link. In the folder of Safelight, run</p>
    <pre>make demo</pre>
    <p>and open the address it prints.</p>
  </main>
);

export const Unanswered = ({ message }: { readonly message: string }) => (
  <main className="door" aria-live="polite">
    <Lamp large />
    <h1>Waiting for the server</h1>
    <p>{message}</p>
    <p className="quiet">This page tries again by itself.</p>
  </main>
);
