/** The keyboard map: one list, for the hooks that listen and for the sheet that tells (`?`). */
export interface Shortcut {
  readonly keys: string;
  readonly what: string;
}

export const SHORTCUTS: Readonly<Record<string, readonly Shortcut[]>> = {
  Anywhere: [
    { keys: 'Ctrl K', what: 'Command palette' },
    { keys: 'N', what: 'Write a prompt' },
    { keys: '/', what: 'Search' },
    { keys: 'Ctrl Enter', what: 'Generate' },
    { keys: '?', what: 'This sheet' },
  ],
  'Go to': [
    { keys: 'G then G', what: 'Gallery' },
    { keys: 'G then S', what: 'Shots' },
    { keys: 'G then B', what: 'Canvas' },
    { keys: 'G then Q', what: 'Queue' },
    { keys: 'G then T', what: 'Templates' },
    { keys: 'G then C', what: 'Credits' },
    { keys: 'G then D', what: 'Diagnostics' },
    { keys: 'G then ,', what: 'Settings' },
  ],
  Gallery: [
    { keys: '← ↑ → ↓', what: 'Move' },
    { keys: 'Enter', what: 'Open large' },
    { keys: 'S or .', what: 'Star' },
    { keys: 'X', what: 'Choose' },
    { keys: 'Shift click', what: 'Choose up to here' },
    { keys: 'Ctrl A', what: 'Choose all' },
    { keys: 'Delete', what: 'Delete, with undo' },
    { keys: 'Esc', what: 'Choose nothing, close' },
  ],
  Canvas: [
    { keys: 'P I V E', what: 'Prompt, picture, video, edit' },
    { keys: '← ↑ → ↓', what: 'Move what is chosen' },
    { keys: 'Ctrl Enter', what: 'Generate' },
    { keys: 'F', what: 'Show everything' },
    { keys: 'Delete', what: 'Delete' },
    { keys: 'Ctrl Z', what: 'Undo the last delete' },
  ],
  'Large view': [
    { keys: '← →', what: 'Previous, next' },
    { keys: 'S or .', what: 'Star' },
    { keys: 'Delete', what: 'Delete, with undo' },
  ],
};
