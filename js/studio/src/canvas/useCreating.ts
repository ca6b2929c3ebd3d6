import { useReactFlow } from '@xyflow/react';
import type { RefObject } from 'react';
import { isStill } from '../motion';
import type { Making, Place } from './making';
import type { Flow } from './useFlow';
import { type NodeKind, WIDTH } from './wiring';

const FRAME_MS = 260;
/** Half of a prompt, its picture and the gap between them. */
const PAIR_HALF = WIDTH / 2 + 36;

export const glide = (): number => (isStill() ? 0 : FRAME_MS);

/** Makes nodes where the person looks, and puts the hands on them. */
export function useCreating(
  surface: RefObject<HTMLElement | null>,
  making: Making,
  flow: Pick<Flow, 'choose'>,
) {
  const view = useReactFlow();

  function center(): { x: number; y: number } {
    const { left, top, width, height } = surface.current?.getBoundingClientRect() ?? new DOMRect();
    return view.screenToFlowPosition({ x: left + width / 2, y: top + height / 2 });
  }

  function attend(id: string): void {
    flow.choose(id, ({ x, y }) => {
      const frame = surface.current?.getBoundingClientRect() ?? new DOMRect();
      const from = view.flowToScreenPosition({ x, y });
      const to = view.flowToScreenPosition({ x: x + WIDTH, y: y + WIDTH });
      const isInside = from.x > frame.left && from.y > frame.top && to.x < frame.right && to.y < frame.bottom;
      const zoom = view.getZoom();
      if (!isInside) void view.setCenter(x + WIDTH / 2, y + WIDTH / 2, { zoom, duration: glide() });
      requestAnimationFrame(() => {
        const element = surface.current?.querySelector<HTMLElement>(`.react-flow__node[data-id="${id}"]`);
        (element?.querySelector('textarea') ?? element)?.focus({ preventScroll: true });
      });
    });
  }

  return {
    create: (kind: NodeKind, from: Place | null): void => attend(making.create(kind, from, center()).id),
    /** A prompt, and a picture that is made of it. */
    begin(): void {
      const { x, y } = center();
      const prompt = making.create('prompt', null, { x: x - PAIR_HALF, y });
      making.create('picture', prompt, { x, y });
      attend(prompt.id);
    },
  };
}
