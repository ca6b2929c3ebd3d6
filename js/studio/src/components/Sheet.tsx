import { X } from 'lucide-react';
import { type ReactNode, useEffect, useRef } from 'react';

interface SheetProps {
  readonly title: string;
  readonly open: boolean;
  readonly wide?: boolean;
  /** Without a heading: what is in it says what it is. */
  readonly bare?: boolean;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** A dialog over the page. The native one keeps the focus inside and gives it back. */
export function Sheet({ title, open, wide = false, bare = false, onClose, children }: SheetProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (open && !element?.open) {
      element?.showModal();
      element?.querySelector<HTMLElement>('input, textarea')?.focus();
    }
    if (!open && element?.open) element.close();
  }, [open]);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it by keyboard
    <dialog
      ref={dialog}
      className="over"
      data-wide={wide || undefined}
      data-bare={bare || undefined}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => event.target === event.currentTarget && onClose()}
    >
      {open && (
        <div className="over-body">
          {!bare && (
            <header className="over-head">
              <h2>{title}</h2>
              <button type="button" className="icon" aria-label="Close" onClick={onClose}>
                <X size={18} aria-hidden="true" />
              </button>
            </header>
          )}
          {children}
        </div>
      )}
    </dialog>
  );
}
