import { resultOf } from '@safelight/react';
import { Handle, type NodeProps, Position } from '@xyflow/react';
import { ArrowUp, Box, Clapperboard, Image, type LucideIcon, Type, WandSparkles } from 'lucide-react';
import { memo } from 'react';
import { failing } from '../../acts';
import { useBoard } from '../../canvas/context';
import type { FlowNode } from '../../canvas/flow';
import { kindOf, lacking, modelOf, modelsFor, NAMES, type NodeKind } from '../../canvas/wiring';
import { price } from '../Composer';
import { NodeTile } from './NodeTile';
import { Words } from './Words';

export const ICONS: Readonly<Record<NodeKind, LucideIcon>> = {
  prompt: Type,
  picture: Image,
  video: Clapperboard,
  edit: WandSparkles,
};

/** One node, whatever its kind. */
export const NodeCard = memo(function NodeCard({ data, selected, dragging }: NodeProps<FlowNode>) {
  const { making } = useBoard();
  const { row } = data;
  const kind = kindOf(row);
  const Icon = kind === null ? Box : ICONS[kind];
  return (
    <div
      className="node"
      data-node={row.id}
      data-kind={kind ?? 'other'}
      data-selected={selected || undefined}
      data-held={dragging || undefined}
    >
      {kind !== 'prompt' && <Handle type="target" position={Position.Left} />}
      <header className="node-head">
        <Icon size={15} aria-hidden="true" />
        <b>{kind === null ? row.type : NAMES[kind]}</b>
      </header>
      {kind === 'prompt' ? (
        <>
          <Words row={row} label="Prompt" placeholder="Describe a picture or a clip" rows={4} />
          <footer className="node-foot">
            <span />
            <button
              type="button"
              className="node-generate nodrag"
              data-testid="node-generate"
              aria-label="Generate everything joined to this prompt"
              title="Generate (Ctrl or ⌘ + Enter)"
              onClick={() => making.generate(row.id)}
            >
              Generate
              <ArrowUp size={14} strokeWidth={2.4} aria-hidden="true" />
            </button>
          </footer>
        </>
      ) : (
        <Shows data={data} kind={kind} />
      )}
      <Handle type="source" position={Position.Right} />
    </div>
  );
});

function Shows({ data, kind }: { readonly data: FlowNode['data']; readonly kind: NodeKind | null }) {
  const { acts, making, models, settled, onOpen } = useBoard();
  const { row, tile } = data;
  const fitting = kind === null ? [] : modelsFor(kind, models);
  const model = modelOf(row, fitting, data.start);
  const why = kind === null ? null : lacking(kind, model, data);
  const busy = tile?.state === 'pending' || tile?.state === 'processing';
  const made = models.find(
    ({ id }) => id === (tile?.job?.model ?? tile?.draft?.request.model ?? tile?.row?.model),
  );
  return (
    <>
      {tile === null ? (
        <p className="node-empty" data-kind={kind}>
          {models.length > 0 &&
            settled &&
            (why ?? (resultOf(row) ? 'Its result was deleted' : 'Ready to be made'))}
        </p>
      ) : (
        <NodeTile key={tile.id} tile={tile} model={made ?? model} onOpen={onOpen} />
      )}
      {kind === 'edit' && (
        <Words row={row} label="What to change" placeholder="What should change?" rows={2} />
      )}
      {kind !== null && (
        <footer className="node-foot">
          <select
            className="select nodrag"
            aria-label="Model"
            data-testid="node-model"
            value={model?.id ?? ''}
            onChange={(event) => {
              acts.write(row.id, { model: event.target.value }).catch(failing('The model was not kept'));
            }}
          >
            {fitting.length === 0 && <option value="">No model</option>}
            {fitting.map((option) => (
              <option key={option.id} value={option.id}>
                {option.name}
                {price(option)}
              </option>
            ))}
          </select>
          <button
            type="button"
            className="node-generate nodrag"
            data-testid="node-generate"
            aria-label={tile?.row ? 'Generate again' : 'Generate'}
            title={busy ? 'Being made' : (why ?? 'Generate (Ctrl or ⌘ + Enter)')}
            disabled={busy || why !== null}
            onClick={() => making.generate(row.id)}
          >
            <ArrowUp size={15} strokeWidth={2.4} aria-hidden="true" />
          </button>
        </footer>
      )}
    </>
  );
}
