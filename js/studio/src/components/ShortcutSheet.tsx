import { SHORTCUTS } from '../shortcuts';
import { Sheet } from './Sheet';

const onMac = /mac|iphone|ipad/i.test(navigator.userAgent);
const named = (keys: string): string => (onMac ? keys.replace('Ctrl', '⌘') : keys);

export const ShortcutSheet = ({
  open,
  onClose,
}: {
  readonly open: boolean;
  readonly onClose: () => void;
}) => (
  <Sheet title="Keyboard" open={open} wide onClose={onClose}>
    <div className="keymap">
      {Object.entries(SHORTCUTS).map(([place, shortcuts]) => (
        <section key={place}>
          <h3>{place}</h3>
          <dl>
            {shortcuts.map(({ keys, what }) => (
              <div key={keys}>
                <dt>{what}</dt>
                <dd>
                  <kbd>{named(keys)}</kbd>
                </dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </div>
  </Sheet>
);
