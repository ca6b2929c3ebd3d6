import { type Shot, useModels, useProject, useShots, useTemplates } from '@safelight/react';
import { Command } from 'cmdk';
import { useEffect, useState } from 'react';
import { go, type PageName } from '../route';
import { setTheme } from '../theme';
import type { Seed } from './Composer';
import { Sheet } from './Sheet';

interface PaletteProps {
  readonly open: boolean;
  readonly onClose: () => void;
  readonly onReuse: (seed: Seed) => void;
  readonly onSheet: () => void;
}

const PLACES: readonly [PageName, string][] = [
  ['gallery', 'Gallery'],
  ['shots', 'Shots'],
  ['canvas', 'Canvas'],
  ['queue', 'Queue'],
  ['templates', 'Templates'],
  ['credits', 'Credits'],
  ['diagnostics', 'Diagnostics'],
  ['settings', 'Settings'],
];

/** Everything by name (Ctrl or ⌘ + K). */
export default function Palette({ open, onClose, onReuse, onSheet }: PaletteProps) {
  const room = useProject();
  const { models } = useModels();
  const { shots } = useShots();
  const { templates } = useTemplates();
  const [text, setText] = useState('');
  useEffect(() => {
    if (open) setText('');
  }, [open]);
  const run = (act: () => void) => () => {
    onClose();
    act();
  };
  const search = text.trim();
  return (
    <Sheet title="Command palette" open={open} onClose={onClose} bare>
      <Command label="Command palette" className="palette">
        <Command.Input value={text} onValueChange={setText} autoFocus placeholder="Go to, search, do…" />
        <Command.List>
          <Command.Group heading="Go to">
            {PLACES.map(([page, name]) => (
              <Command.Item key={page} onSelect={run(() => go({ page }))}>
                {name}
              </Command.Item>
            ))}
          </Command.Group>
          <Command.Group heading="Do">
            <Command.Item onSelect={run(() => room.recover())}>
              Recover now: read everything again
            </Command.Item>
            <Command.Item onSelect={run(() => go({ page: 'gallery', filters: { starred: true } }))}>
              Show what is starred
            </Command.Item>
            <Command.Item onSelect={run(() => setTheme('dark'))}>Dark</Command.Item>
            <Command.Item onSelect={run(() => setTheme('light'))}>Light</Command.Item>
            <Command.Item onSelect={run(() => setTheme('system'))}>
              Light or dark as the machine has it
            </Command.Item>
            <Command.Item onSelect={run(onSheet)}>Keyboard map</Command.Item>
          </Command.Group>
          {shots.length > 0 && (
            <Command.Group heading="Shots">
              {shots.map(({ id, name }: Shot) => (
                <Command.Item
                  key={id}
                  value={`shot ${name} ${id}`}
                  onSelect={run(() => go({ page: 'shots', shot: id }))}
                >
                  {name}
                </Command.Item>
              ))}
            </Command.Group>
          )}
          {templates.length > 0 && (
            <Command.Group heading="Templates">
              {templates.map(({ slug, name }) => (
                <Command.Item
                  key={slug}
                  value={`template ${name} ${slug}`}
                  onSelect={run(() => go({ page: 'templates' }))}
                >
                  {name}
                </Command.Item>
              ))}
            </Command.Group>
          )}
          <Command.Group heading="Models">
            {models
              .filter(({ enabled }) => enabled)
              .map(({ id, name }) => (
                <Command.Item
                  key={id}
                  value={`model ${name} ${id}`}
                  onSelect={run(() => {
                    go({ page: 'gallery' });
                    onReuse({ model: id });
                  })}
                >
                  Make with {name}
                </Command.Item>
              ))}
          </Command.Group>
          {search !== '' && (
            // Last, and whatever it is: what is known by that name comes first.
            <Command.Group heading="Search" forceMount>
              <Command.Item
                forceMount
                value="results-with"
                onSelect={run(() => go({ page: 'gallery', filters: { q: search } }))}
              >
                Results with “{search}”
              </Command.Item>
            </Command.Group>
          )}
        </Command.List>
      </Command>
    </Sheet>
  );
}
