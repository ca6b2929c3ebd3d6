/**
 * What time the server has, from the moments it stamps (D2): a browser's clock may be wrong by hours. A stamp that
 * reached us says that the server was there already; one made after we asked says that it was not there before. Pure.
 */
export interface ServerClock {
  /** Bounds of (server's time − ours), in ms. */
  readonly low: number;
  readonly high: number;
}

export const anyTime: ServerClock = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };

/** A moment the server stamped reached us at `receivedAt`. */
export function reached(clock: ServerClock, stamp: number, receivedAt: number): ServerClock {
  const low = Math.max(clock.low, stamp - receivedAt);
  return low > clock.high ? { low, high: Number.POSITIVE_INFINITY } : { ...clock, low }; // a clock was set
}

/** The server stamped a moment after we asked, at `askedAt`. */
export function answered(clock: ServerClock, stamp: number, askedAt: number): ServerClock {
  const high = Math.min(clock.high, stamp - askedAt);
  return high < clock.low ? { low: Number.NEGATIVE_INFINITY, high } : { ...clock, high };
}

/** An answer that says what time it was made at, to what we asked at `askedAt`. No time in it: nothing is learnt. */
export function stamped(
  clock: ServerClock,
  stamp: string | undefined,
  askedAt: number,
  receivedAt: number,
): ServerClock {
  const at = Date.parse(stamp ?? '');
  return Number.isNaN(at) ? clock : reached(answered(clock, at, askedAt), at, receivedAt);
}

/** Server's time minus ours: none, unless the bounds say otherwise. */
export const offset = ({ low, high }: ServerClock): number => Math.min(high, Math.max(low, 0));

export const serverNow = (clock: ServerClock, now: number): number => now + offset(clock);
