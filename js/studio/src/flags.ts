/** The flags of the installation (S8) in words: what each is, does, and may be. */

export type FlagName = 'REALTIME_ENABLED' | 'LEGACY_LISTENERS_ENABLED' | 'DEADMODE_FORCE_POLLING_MS';
export type FlagValue = boolean | number | null;

/** As `/v1/admin/flags` answers: what was set, by name, and beside it what holds. */
export type Flags = Readonly<Record<FlagName, FlagValue>> & {
  readonly in_force: Readonly<Record<FlagName, FlagValue>>;
  /** Named in the server's own environment, which goes before what is set here. */
  readonly environment: readonly FlagName[];
};

export interface FlagWords {
  readonly name: FlagName;
  readonly title: string;
  readonly meaning: string;
}

export const FLAGS: readonly FlagWords[] = [
  {
    name: 'REALTIME_ENABLED',
    title: 'Live updates',
    meaning:
      'Results are pushed to open pages the moment they are stored. Switched off, every page looks every few seconds instead; nothing is lost, it is only later.',
  },
  {
    name: 'DEADMODE_FORCE_POLLING_MS',
    title: 'Forced polling',
    meaning:
      'Every page looks at this interval, whatever its live line says. For the day when lines are up and yet say nothing. Normally off.',
  },
  {
    name: 'LEGACY_LISTENERS_ENABLED',
    title: 'Listeners of older apps',
    meaning:
      'Told to apps that still keep listeners of their own beside the shared channel: they switch them on or off by it. The studio has none.',
  },
];

const DEFAULTS: Readonly<Record<FlagName, FlagValue>> = {
  REALTIME_ENABLED: true,
  LEGACY_LISTENERS_ENABLED: false,
  DEADMODE_FORCE_POLLING_MS: null,
};

/** What is sent for a value: what is the default anyhow is not set at all. */
export const storedValue = (name: FlagName, value: FlagValue): FlagValue =>
  value === DEFAULTS[name] ? null : value;

const INTERVAL_MS = { min: 500, max: 600_000 };

export function flagWord(value: FlagValue): string {
  if (value === null) return 'off';
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return value % 1000 === 0 ? `every ${value / 1000} s` : `every ${value} ms`;
}

/** Where the value in force comes from. */
export function flagSource(flags: Flags, name: FlagName): 'environment' | 'set' | 'default' {
  if (flags.environment.includes(name)) return 'environment';
  return flags[name] === null ? 'default' : 'set';
}

/** Seconds, as a person types them, in ms. Null: not an interval that may be. */
export function intervalOf(text: string): number | null {
  const seconds = Number(text.trim().replace(',', '.'));
  const ms = Math.round(seconds * 1000);
  return text.trim() !== '' && ms >= INTERVAL_MS.min && ms <= INTERVAL_MS.max ? ms : null;
}

/** What a change will do to everybody: asked before it is made. */
export function consequence(name: FlagName, value: FlagValue): string {
  switch (name) {
    case 'REALTIME_ENABLED':
      return value === false
        ? 'Every open page of this installation drops its live line and looks every few seconds, from about ten seconds on.'
        : 'Every open page of this installation opens its live line again within about ten seconds.';
    case 'DEADMODE_FORCE_POLLING_MS':
      return value === null
        ? 'Every open page decides again by itself when to look.'
        : `Every open page of this installation looks ${flagWord(value)}, and every look is a request to this server.`;
    case 'LEGACY_LISTENERS_ENABLED':
      return value === true
        ? 'Apps that ask for it switch their own listeners on, within about ten seconds.'
        : 'Apps that ask for it switch their own listeners off, within about ten seconds.';
  }
}
