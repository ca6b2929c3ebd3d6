import { SlidersHorizontal } from 'lucide-react';
import type { ReactNode } from 'react';
import { usePanel } from '../panel';

/** Settings that few need, one press away. */
export function MoreSettings({
  changed,
  children,
}: {
  readonly changed: boolean;
  readonly children: ReactNode;
}) {
  const { place, open, setOpen } = usePanel();
  return (
    <div className="start" ref={place}>
      <button
        type="button"
        className="select start-button"
        aria-expanded={open}
        aria-label="More settings"
        title="More settings"
        data-changed={changed || undefined}
        onClick={() => setOpen(!open)}
      >
        <SlidersHorizontal size={16} aria-hidden="true" />
      </button>
      {open && <div className="panel start-panel more-panel">{children}</div>}
    </div>
  );
}
