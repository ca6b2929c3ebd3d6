/** The mark: a safelight over the tray. */
export const Lamp = ({ large = false }: { readonly large?: boolean }) => (
  <svg className={large ? 'lamp lamp-large' : 'lamp'} viewBox="0 0 32 32" aria-hidden="true">
    <path d="M16 2v6" className="lamp-cord" />
    <path d="M7 18a9 9 0 0 1 18 0z" className="lamp-shade" />
    <path d="M9.5 20.5h13L26 30H6z" className="lamp-light" />
  </svg>
);
