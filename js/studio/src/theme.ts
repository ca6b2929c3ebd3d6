import { createStore, useStore } from '@safelight/react';
import { useSyncExternalStore } from 'react';
import { read, write } from './keepsakes';

/** Dark like a darkroom, light for those who ask for it, or as the machine has it. */
export type Theme = 'system' | 'dark' | 'light';

const KEY = 'safelight.theme';
const THEMES: readonly Theme[] = ['system', 'dark', 'light'];
const kept = read<Theme>(KEY, 'system');
const chosen = createStore<Theme>(THEMES.includes(kept) ? kept : 'system');
const light = window.matchMedia('(prefers-color-scheme: light)');

const shadeOf = (theme: Theme): 'dark' | 'light' =>
  theme === 'system' ? (light.matches ? 'light' : 'dark') : theme;

function paint(): void {
  document.documentElement.dataset.theme = shadeOf(chosen.get());
}
paint();
light.addEventListener('change', paint);

export function setTheme(theme: Theme): void {
  chosen.set(theme);
  write(KEY, theme);
  paint();
}

export function useTheme(): { readonly theme: Theme; readonly shade: 'dark' | 'light' } {
  const theme = useStore(chosen);
  const isLight = useSyncExternalStore(
    (listener) => {
      light.addEventListener('change', listener);
      return () => light.removeEventListener('change', listener);
    },
    () => light.matches,
  );
  return { theme, shade: theme === 'system' ? (isLight ? 'light' : 'dark') : theme };
}
