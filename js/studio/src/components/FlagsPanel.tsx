import { useProject } from '@safelight/react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { toast } from 'sonner';
import { failing } from '../acts';
import { useNow } from '../clock';
import {
  consequence,
  FLAGS,
  type Flags,
  type FlagValue,
  type FlagWords,
  flagSource,
  flagWord,
  intervalOf,
  storedValue,
} from '../flags';
import { Choice } from './Choice';
import { Sheet } from './Sheet';

interface Wish {
  readonly flag: FlagWords;
  readonly value: FlagValue;
}

const SOURCES = {
  default: 'the default',
  set: 'set here',
  environment: 'fixed in the environment of the server',
};
const SWITCH: readonly (readonly ['on' | 'off', string])[] = [
  ['on', 'On'],
  ['off', 'Off'],
];
const PATH = '/v1/admin/flags';

/** The kill switch and its companions, for the people the operator named (S8): in force in every window within 10 s. */
export function FlagsPanel() {
  const room = useProject();
  const queries = useQueryClient();
  const [wish, setWish] = useState<Wish | null>(null);
  const [busy, setBusy] = useState(false);
  useNow(); // the config has no store of its own: looked at once a second while this page is open
  const { realtime_enabled, legacy_listeners_enabled, deadmode_force_polling_ms } = room.snapshot().config;
  const key = ['flags', realtime_enabled, legacy_listeners_enabled, deadmode_force_polling_ms];
  // Whoever changed them: the config that every page is told brings us here again.
  const { data: flags, error } = useQuery({
    queryKey: key,
    queryFn: async ({ signal }) => (await room.api.call<Flags>('GET', PATH, { signal })).data,
    placeholderData: (before) => before,
    staleTime: 0,
  });

  async function change({ flag, value }: Wish): Promise<void> {
    setBusy(true);
    try {
      const body = { [flag.name]: storedValue(flag.name, value) };
      const { data } = await room.api.call<Flags>('PUT', PATH, { body });
      queries.setQueryData(key, data);
      toast(`${flag.title}: ${flagWord(data.in_force[flag.name])}`, {
        description: 'In force everywhere within ten seconds.',
      });
      setWish(null);
    } catch (problem) {
      failing('Not changed')(problem);
    } finally {
      setBusy(false);
    }
  }

  return (
    <section data-testid="flags" aria-busy={flags === undefined && error === null}>
      <h2>The whole installation</h2>
      <p className="hint">
        These switches are for everybody: all projects, all open pages. You see them because the operator
        named you.
      </p>
      {error !== null && <p className="notice">The flags could not be read: {error.message}</p>}
      {flags !== undefined &&
        FLAGS.map((flag) => <Flag key={flag.name} flag={flag} flags={flags} onWish={setWish} />)}
      <Sheet
        title={wish ? `${wish.flag.title}: ${flagWord(wish.value)}?` : ''}
        open={wish !== null}
        onClose={() => setWish(null)}
      >
        {wish && (
          <>
            <p>{consequence(wish.flag.name, wish.value)}</p>
            <div className="sheet-acts">
              <button type="button" className="button" onClick={() => setWish(null)}>
                Leave it as it is
              </button>
              <button
                type="button"
                className="button strong"
                data-testid="confirm-flag"
                disabled={busy}
                onClick={() => void change(wish)}
              >
                Change it for everybody
              </button>
            </div>
          </>
        )}
      </Sheet>
    </section>
  );
}

interface FlagProps {
  readonly flag: FlagWords;
  readonly flags: Flags;
  readonly onWish: (wish: Wish) => void;
}

function Flag({ flag, flags, onWish }: FlagProps) {
  const now = flags.in_force[flag.name];
  const source = flagSource(flags, flag.name);
  const isFixed = source === 'environment';
  return (
    <div className="setting" data-flag={flag.name} data-value={String(now)}>
      <div>
        <b>{flag.title}</b>
        <p>{flag.meaning}</p>
        <small>
          <code>{flag.name}</code> is <em>{flagWord(now)}</em>, {SOURCES[source]}.
        </small>
      </div>
      {flag.name === 'DEADMODE_FORCE_POLLING_MS' ? (
        <Interval flag={flag} now={now} disabled={isFixed} onWish={onWish} />
      ) : (
        <Choice
          label={flag.title}
          name={flag.name}
          value={now === true ? 'on' : 'off'}
          options={SWITCH}
          disabled={isFixed}
          onChange={(word) => onWish({ flag, value: word === 'on' })}
        />
      )}
    </div>
  );
}

interface IntervalProps {
  readonly flag: FlagWords;
  readonly now: FlagValue;
  readonly disabled: boolean;
  readonly onWish: (wish: Wish) => void;
}

function Interval({ flag, now, disabled, onWish }: IntervalProps) {
  const [text, setText] = useState('');
  const ms = intervalOf(text);
  function ask(event: FormEvent): void {
    event.preventDefault();
    if (ms === null) return;
    onWish({ flag, value: ms });
    setText('');
  }
  return (
    <form className="interval" onSubmit={ask}>
      <input
        className="field"
        inputMode="decimal"
        aria-label="Seconds between looks"
        placeholder="0.5 to 600"
        maxLength={7}
        value={text}
        disabled={disabled}
        aria-invalid={text !== '' && ms === null}
        onChange={(event) => setText(event.target.value)}
      />
      <span aria-hidden="true">s</span>
      <button type="submit" className="button" disabled={disabled || ms === null}>
        Force
      </button>
      {typeof now === 'number' && (
        <button
          type="button"
          className="button"
          disabled={disabled}
          onClick={() => onWish({ flag, value: null })}
        >
          Off
        </button>
      )}
    </form>
  );
}
