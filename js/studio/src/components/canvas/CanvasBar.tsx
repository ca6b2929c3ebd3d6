import type { CanvasNode } from '@safelight/react';
import { useReactFlow } from '@xyflow/react';
import { Maximize, Minus, Plus, Trash2, Undo2 } from 'lucide-react';
import { KINDS, NAMES, type NodeKind } from '../../canvas/wiring';
import { ICONS } from './NodeCard';

interface CanvasBarProps {
  readonly onCreate: (kind: NodeKind) => void;
  readonly onRemove: (() => void) | null;
  readonly onUndo: () => void;
  readonly onFit: () => void;
  /** The one that is chosen may be joined to these. */
  readonly joinable: readonly { readonly row: CanvasNode; readonly label: string }[];
  readonly onJoin: (target: string) => void;
}

export const KEYS: Readonly<Record<NodeKind, string>> = { prompt: 'P', picture: 'I', video: 'V', edit: 'E' };

export function CanvasBar({ onCreate, onRemove, onUndo, onFit, joinable, onJoin }: CanvasBarProps) {
  const { zoomIn, zoomOut } = useReactFlow();
  return (
    <div className="canvas-bar" role="toolbar" aria-label="Canvas">
      {KINDS.map((kind) => {
        const Icon = ICONS[kind];
        return (
          <button
            key={kind}
            type="button"
            className="canvas-tool"
            data-testid={`add-${kind}`}
            aria-label={`Add: ${NAMES[kind]}`}
            title={`${NAMES[kind]} (${KEYS[kind]})`}
            onClick={() => onCreate(kind)}
          >
            <Icon size={17} aria-hidden="true" />
            <span>{NAMES[kind]}</span>
          </button>
        );
      })}
      <i />
      <select
        className="select canvas-join"
        aria-label="Join the chosen node to"
        value=""
        disabled={joinable.length === 0}
        onChange={(event) => onJoin(event.target.value)}
      >
        <option value="">Join to…</option>
        {joinable.map(({ row, label }) => (
          <option key={row.id} value={row.id}>
            {label}
          </option>
        ))}
      </select>
      <button
        type="button"
        className="icon"
        aria-label="Delete what is chosen"
        title="Delete (Delete)"
        disabled={onRemove === null}
        onClick={() => onRemove?.()}
      >
        <Trash2 size={16} aria-hidden="true" />
      </button>
      <button
        type="button"
        className="icon"
        aria-label="Undo the last delete"
        title="Undo (Ctrl or ⌘ + Z)"
        onClick={onUndo}
      >
        <Undo2 size={16} aria-hidden="true" />
      </button>
      <i />
      <button type="button" className="icon zoom" aria-label="Zoom out" onClick={() => void zoomOut()}>
        <Minus size={16} aria-hidden="true" />
      </button>
      <button type="button" className="icon zoom" aria-label="Zoom in" onClick={() => void zoomIn()}>
        <Plus size={16} aria-hidden="true" />
      </button>
      <button
        type="button"
        className="icon"
        aria-label="Show everything"
        title="Show everything (F)"
        onClick={onFit}
      >
        <Maximize size={16} aria-hidden="true" />
      </button>
    </div>
  );
}
