import { Component, type ReactNode } from 'react';

interface BrokenProps {
  /** Shown instead of what broke. */
  readonly instead: (problem: Error) => ReactNode;
  readonly children: ReactNode;
}

/** What cannot be drawn breaks alone: the rest of the page stays usable, and says what is wrong. */
export class Broken extends Component<BrokenProps, { readonly problem: Error | null }> {
  override state = { problem: null as Error | null };

  static getDerivedStateFromError(problem: unknown): { problem: Error } {
    return { problem: problem instanceof Error ? problem : new Error(String(problem)) };
  }

  override render(): ReactNode {
    const { problem } = this.state;
    return problem === null ? this.props.children : this.props.instead(problem);
  }
}

/** A part of the page that did not come: the network, or a server that was updated and has only newer parts. */
const isMissing = ({ message }: Error): boolean => /import|module|chunk/i.test(message);

export const brokenPage = (problem: Error): ReactNode => (
  <section className="page broken" role="alert" data-testid="broken">
    <h1>{isMissing(problem) ? 'This part of the page did not come' : 'This part of the page broke'}</h1>
    <p>
      {isMissing(problem)
        ? 'The network failed, or the server was updated since this page was opened. Jobs go on without it.'
        : 'Something here is not as this page expects it. Jobs go on without it.'}
    </p>
    <p className="quiet">{problem.message}</p>
    <button type="button" className="button strong" onClick={() => window.location.reload()}>
      Reload
    </button>
  </section>
);
