import type { CanvasNode } from '@safelight/react';
import { useStore } from '@safelight/react';
import type { KeyboardEvent } from 'react';
import { useBoard } from '../../canvas/context';
import { textOf } from '../../canvas/wiring';

interface WordsProps {
  readonly row: CanvasNode;
  readonly label: string;
  readonly placeholder: string;
  readonly rows: number;
}

/** A node's own words. Other windows' changes of it are shown, except over what is being written here. */
export function Words({ row, label, placeholder, rows }: WordsProps) {
  const { typing, making } = useBoard();
  const mine = useStore(typing.texts).get(row.id);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) {
      event.preventDefault();
      making.generate(row.id);
    }
    if (event.key === 'Escape') event.currentTarget.closest<HTMLElement>('.react-flow__node')?.focus();
  };
  return (
    <textarea
      className="node-words nodrag nowheel nopan"
      aria-label={label}
      placeholder={placeholder}
      rows={rows}
      maxLength={10_000}
      value={mine ?? textOf(row)}
      onChange={(event) => typing.type(row.id, event.target.value)}
      onBlur={typing.flush}
      onKeyDown={onKey}
    />
  );
}
