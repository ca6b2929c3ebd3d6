interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly name: string;
  readonly value: T | null;
  readonly options: readonly (readonly [T, string])[];
  readonly disabled?: boolean;
  readonly onChange: (value: T) => void;
}

/** One of a few, side by side: radio buttons that look like one control. */
export const Choice = <T extends string>({
  label,
  name,
  value,
  options,
  disabled = false,
  onChange,
}: ChoiceProps<T>) => (
  <fieldset className="choice" disabled={disabled}>
    <legend className="unseen">{label}</legend>
    {options.map(([option, word]) => (
      <label key={option}>
        <input
          type="radio"
          name={name}
          value={option}
          checked={option === value}
          onChange={() => onChange(option)}
        />
        <span>{word}</span>
      </label>
    ))}
  </fieldset>
);
