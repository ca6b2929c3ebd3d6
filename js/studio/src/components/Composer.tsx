import type { Model, ModelField, Target, Tile } from '@safelight/react';
import { keys, useModels, useProject, useWallet } from '@safelight/react';
import { useQuery } from '@tanstack/react-query';
import { ArrowUp } from 'lucide-react';
import { type FormEvent, type KeyboardEvent, useEffect, useMemo, useRef, useState } from 'react';
import { keepHabits, keptHabits } from '../keepsakes';
import { jobBody, jobRequest, settings, takesStart, type Wish, wantsPrompt } from '../request';
import { credits } from '../words';
import { FieldControl } from './FieldControl';
import { MoreSettings } from './MoreSettings';
import { type Start, StartImage } from './StartImage';

/** What another part of the page asks the composer to take over. */
export interface Seed {
  readonly prompt?: string;
  readonly model?: string;
  readonly start?: Start;
}

interface ComposerProps {
  readonly seed: Seed | null;
  readonly tiles: readonly Tile[];
  /** Where the results go (J9). */
  readonly target: Target | null;
}

const QUOTE_PAUSE_MS = 250;

export const price = (model: Model): string =>
  ` · ${credits(model.price.amount)}${model.price.unit === 'flat' ? '' : ` / ${model.price.unit}`}`;

function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  const key = JSON.stringify(value);
  // Compared by content, not by identity.
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(value), ms);
    return () => window.clearTimeout(timer);
  }, [key, ms]);
  return settled;
}

/** What this would cost, in the server's own words (C3). */
function useQuote(model: Model | undefined, wish: Wish): number | null {
  const { api, project } = useProject();
  // The words do not change the price, and half-written ones need not travel.
  const priced = model ? jobBody(model, { ...wish, prompt: wish.prompt.trim() === '' ? '' : 'x' }) : null;
  const body = useSettled(priced, QUOTE_PAUSE_MS);
  const { data } = useQuery({
    queryKey: keys.quote(project, body),
    queryFn: async ({ signal }) =>
      (await api.call<{ credits: number }>('POST', `/v1/projects/${project}/quote`, { body, signal })).data
        .credits,
    enabled:
      body !== null &&
      !(model?.needs_start && body.start === undefined) &&
      (!wantsPrompt(model) || 'prompt' in body.input),
    staleTime: 60_000,
    retry: false,
  });
  return data ?? null;
}

export function Composer({ seed, tiles, target }: ComposerProps) {
  const room = useProject();
  const { models } = useModels();
  const wallet = useWallet()?.wallet;
  const [habits] = useState(keptHabits);
  const [modelId, setModelId] = useState(habits.model);
  const [prompt, setPrompt] = useState('');
  const [n, setN] = useState(habits.n);
  const [fields, setFields] = useState(habits.fields);
  const [start, setStart] = useState<Start | null>(null);
  const [missing, setMissing] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);

  const model = models.find(({ id }) => id === modelId) ?? models.find(({ enabled }) => enabled) ?? models[0];
  const wish: Wish = { prompt, n, fields, start: start?.id ?? null };
  const quoted = useQuote(model, wish);
  const short = quoted !== null && wallet !== undefined && quoted > wallet.available;
  const outputs = model?.max_outputs ?? 1;
  const advanced = settings(model).filter((field) => field.advanced);
  const needsStart = (model?.needs_start ?? false) && start === null;
  // Dozens, and the page is drawn at every news of the feed.
  const options = useMemo(
    () =>
      models.map((option) => (
        <option key={option.id} value={option.id} disabled={!option.enabled}>
          {option.name}
          {price(option)}
        </option>
      )),
    [models],
  );
  const control = (field: ModelField, labelled = false) => (
    <FieldControl
      key={`${model?.id} ${field.name}`}
      field={field}
      labelled={labelled}
      value={fields[field.name]}
      onChange={(value) => setFields((now) => ({ ...now, [field.name]: value }))}
    />
  );

  useEffect(() => {
    if (seed === null) return;
    if (seed.prompt !== undefined) setPrompt(seed.prompt);
    if (seed.model !== undefined) setModelId(seed.model);
    if (seed.start !== undefined) {
      setStart(seed.start);
      setModelId((now) =>
        takesStart(models.find(({ id }) => id === now)) ? now : (models.find(takesStart)?.id ?? now),
      );
    }
    box.current?.focus();
  }, [seed, models]);

  useEffect(() => {
    if (model) keepHabits({ model: model.id, n, fields });
  }, [model, n, fields]);

  function submit(event?: FormEvent): void {
    event?.preventDefault();
    if (!model || start?.state === 'sending' || needsStart) return;
    if (wantsPrompt(model) && prompt.trim() === '') {
      setMissing(true);
      box.current?.focus();
      return;
    }
    const request = jobRequest(model, wish, room.serverNow());
    room.submit(target === null ? request : { ...request, target });
    window.scrollTo({ top: 0, behavior: 'instant' });
  }

  function onKey(event: KeyboardEvent): void {
    if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) {
      event.preventDefault();
      submit();
    }
  }

  return (
    <form className="composer" onSubmit={submit} data-missing={missing || undefined}>
      <div className="composer-top">
        {start && <StartImage.Chip start={start} onRemove={() => setStart(null)} />}
        <textarea
          ref={box}
          className="prompt"
          data-testid="prompt"
          aria-label="Prompt"
          aria-invalid={missing || undefined}
          placeholder={missing ? 'Say what you would like to see' : 'Describe a picture or a clip'}
          rows={1}
          maxLength={10_000}
          value={prompt}
          onChange={(event) => {
            setPrompt(event.target.value);
            setMissing(false);
          }}
          onKeyDown={onKey}
        />
      </div>
      <div className="composer-row">
        <div className="controls">
          <select
            className="select model"
            data-testid="model"
            aria-label="Model"
            value={model?.id ?? ''}
            onChange={(event) => setModelId(event.target.value)}
          >
            {models.length === 0 && <option value="">Loading models…</option>}
            {options}
          </select>
          {settings(model)
            .filter((field) => !field.advanced)
            .map((field) => control(field))}
          {outputs > 1 && (
            <select
              className="select"
              data-testid="count"
              aria-label="How many"
              value={Math.min(n, outputs)}
              onChange={(event) => setN(Number(event.target.value))}
            >
              {Array.from({ length: outputs }, (_, i) => i + 1).map((count) => (
                <option key={count} value={count}>
                  × {count}
                </option>
              ))}
            </select>
          )}
          {takesStart(model) && <StartImage.Picker onStart={setStart} needed={needsStart} tiles={tiles} />}
          {advanced.length > 0 && (
            <MoreSettings changed={advanced.some(({ name }) => fields[name] !== undefined)}>
              {advanced.map((field) => (
                <div className="more-row" key={field.name}>
                  <span aria-hidden="true">{field.type === 'bool' ? '' : field.label}</span>
                  {control(field, true)}
                </div>
              ))}
            </MoreSettings>
          )}
        </div>
        <div className="send">
          <span className="quote" data-testid="quote" data-short={short || undefined}>
            {quoted !== null &&
              (short
                ? `needs ${credits(quoted)}, you have ${credits(wallet?.available ?? 0)}`
                : `${credits(quoted)} credits`)}
          </span>
          <button
            type="submit"
            className="generate"
            data-testid="generate"
            title="Generate (Ctrl or ⌘ + Enter)"
          >
            Generate
            <ArrowUp size={17} strokeWidth={2.4} aria-hidden="true" />
          </button>
        </div>
      </div>
    </form>
  );
}
