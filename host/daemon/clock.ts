import type { Instant, UnixTime } from "../core/time.ts";

/** The monotonic clock that every driver hands to its machines: milliseconds since the thread began, plus one. */
export function monotonicNow(): Instant {
  return performance.now() + 1;
}

export function unixTimeMs(): number {
  return Date.now();
}

export function unixTime(): UnixTime {
  return Date.now() / 1000;
}
