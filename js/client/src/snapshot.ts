import type { Project, Snapshot } from './projectShape';

declare global {
  interface Window {
    __SAFELIGHT__?: Snapshot;
  }
}

/** `window.__SAFELIGHT__` (D5): made when somebody looks. The returned function takes it away. */
export function exposeSnapshot(project: Project): () => void {
  if (typeof window === 'undefined') return () => undefined;
  Object.defineProperty(window, '__SAFELIGHT__', { configurable: true, get: () => project.snapshot() });
  return () => {
    delete window.__SAFELIGHT__;
  };
}
