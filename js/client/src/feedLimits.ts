/** The feed's limits, and why. */

export const PAGE_LIMIT = 500;
/** Further behind than this, re-reading the lists is cheaper than replaying the log. */
export const REPLAY_MAX = 2_000;
/** A line that missed two beats is dead, whatever it says itself. */
export const SILENT_BEATS = 2.2;
export const HEARTBEAT_DEFAULT_MS = 15_000;
/** HTTP/1.1 browsers have six connections per host: a tab nobody looks at gives its stream back. Sockets do not count. */
export const HIDDEN_STREAM_MS = 20_000;
/** Led by another tab, we hear of it this often at least; later than this it is gone or frozen. */
export const LED_SILENCE_MS = 12_000;
/** The stream is the second choice: after this long the socket is tried again. */
export const UPGRADE_MS = 5 * 60_000;
/** Timers that come this late mean that the machine slept. */
export const WAKE_GAP_MS = 15_000;
export const STEP_MAX_MS = 2_000;
/** Behind for less than this is just an entry on its way. */
export const BEHIND_GRACE_MS = 750;
/** A node's head may lag behind its own lists for a second or so: that many looks. */
export const STALE_HEADS_MAX = 20;
/** Between two looks, whatever the reasons. */
export const SPACING_MS = 100;
export const POLL_TIMEOUT_MS = 4_000;
export const SIGNED_OUT_PAUSE_MS = 30_000;
