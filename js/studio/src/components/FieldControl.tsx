import type { ModelField } from '@safelight/client';

interface FieldControlProps {
  readonly field: ModelField;
  readonly value: unknown;
  readonly onChange: (value: unknown) => void;
}

const nameOf = (field: ModelField): string => field.label || field.name.replace(/_/g, ' ');

/** Options are strings, or `{value, label}` where the value needs words. */
function optionOf(option: unknown): { value: unknown; label: string } {
  if (typeof option === 'object' && option !== null && 'value' in option) {
    const { value, label } = option as { value: unknown; label?: unknown };
    return { value, label: typeof label === 'string' ? label : String(value) };
  }
  // `landscape_4_3` reads "4:3 landscape"
  const [, word, wide, high] = /^([a-z]+)_(\d+)_(\d+)$/.exec(String(option)) ?? [];
  if (word) return { value: option, label: `${wide}:${high} ${word}` };
  return { value: option, label: String(option).replace(/_/g, ' ') };
}

/** One of a model's own settings, drawn from its description. */
export function FieldControl({ field, value, onChange }: FieldControlProps) {
  const name = nameOf(field);
  if (field.options?.length) {
    const options = field.options.map(optionOf);
    const chosen = options.findIndex((option) => option.value === (value ?? field.default));
    return (
      <select
        className="select"
        data-field={field.name}
        aria-label={name}
        title={name}
        value={chosen < 0 ? '' : chosen}
        onChange={(event) => onChange(options[Number(event.target.value)]?.value)}
      >
        {chosen < 0 && <option value="">{name}</option>}
        {options.map((option, index) => (
          <option key={option.label} value={index}>
            {typeof option.value === 'number' ? `${name} ${option.label}` : option.label}
          </option>
        ))}
      </select>
    );
  }
  if (field.type === 'boolean') {
    return (
      <label className="check">
        <input
          type="checkbox"
          data-field={field.name}
          checked={Boolean(value ?? field.default)}
          onChange={(event) => onChange(event.target.checked)}
        />
        {name}
      </label>
    );
  }
  if (field.type === 'integer' || field.type === 'number') {
    return (
      <input
        className="input number"
        type="number"
        inputMode="numeric"
        step={field.type === 'integer' ? 1 : 'any'}
        data-field={field.name}
        aria-label={name}
        title={name}
        placeholder={name}
        value={typeof value === 'number' ? value : ''}
        onChange={(event) => onChange(event.target.value === '' ? undefined : Number(event.target.value))}
      />
    );
  }
  return (
    <input
      className="input"
      data-field={field.name}
      aria-label={name}
      placeholder={name}
      value={typeof value === 'string' ? value : ''}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}
