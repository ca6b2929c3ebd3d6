import type { ModelField } from '@safelight/react';

interface FieldControlProps {
  readonly field: ModelField;
  readonly value: unknown;
  /** Its name stands beside it already. */
  readonly labelled?: boolean;
  readonly onChange: (value: unknown) => void;
}

/** `landscape_4_3` reads "4:3 landscape"; a bare number says what it counts. */
function words(option: string | number, label: string): string {
  if (typeof option === 'number') return `${label} ${option}`.trim();
  const [, word, wide, high] = /^([a-z]+)_(\d+)_(\d+)$/.exec(option) ?? [];
  return word ? `${wide}:${high} ${word}` : option.replace(/_/g, ' ');
}

/** One of a model's own settings, drawn from its description. */
export function FieldControl({ field, value, labelled = false, onChange }: FieldControlProps) {
  const { label, type, options, help } = field;
  const shared = { 'data-field': field.name, 'aria-label': label, title: help ?? label };
  if (options) {
    const chosen = (options as readonly unknown[]).indexOf(value);
    const usual = (options as readonly unknown[]).indexOf(field.default);
    const shown = chosen >= 0 ? chosen : usual;
    return (
      <select
        {...shared}
        className="select"
        value={shown < 0 ? '' : shown}
        onChange={(event) => onChange(options[Number(event.target.value)])}
      >
        {shown < 0 && <option value="">{label}</option>}
        {options.map((option, index) => (
          <option key={option} value={index}>
            {words(option, labelled ? '' : label)}
          </option>
        ))}
      </select>
    );
  }
  if (type === 'bool') {
    return (
      <label className="check" title={help}>
        <input
          type="checkbox"
          data-field={field.name}
          checked={Boolean(value ?? field.default)}
          onChange={(event) => onChange(event.target.checked)}
        />
        {label}
      </label>
    );
  }
  const usual = field.default === undefined ? '' : String(field.default);
  const hint = labelled ? usual || 'auto' : `${label} ${usual}`.trim();
  if (type === 'int' || type === 'number') {
    return (
      <input
        {...shared}
        className="input number"
        type="number"
        inputMode="decimal"
        step={type === 'int' ? 1 : 'any'}
        min={field.min}
        max={field.max}
        placeholder={hint}
        value={typeof value === 'number' ? value : ''}
        onChange={(event) => onChange(event.target.value === '' ? undefined : Number(event.target.value))}
      />
    );
  }
  return (
    <input
      {...shared}
      className="input"
      placeholder={hint}
      maxLength={field.max_length}
      value={typeof value === 'string' ? value : ''}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}
