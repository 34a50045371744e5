import type { Instant } from "../time.ts";

export const TAI64N_BYTES = 12;

/** Label of the UNIX epoch: 2^62, plus the 37 leap seconds that connectivity §10.2 fixes. */
const EPOCH_LABEL = (1n << 62n) + 37n;
const NANOS_PER_SECOND = 1_000_000_000n;

/** u64 BE label, u32 BE nanoseconds. */
export function encodeTai64n(unixNanos: bigint): Uint8Array {
  const stamp = new Uint8Array(TAI64N_BYTES);
  const view = new DataView(stamp.buffer);
  view.setBigUint64(0, EPOCH_LABEL + unixNanos / NANOS_PER_SECOND);
  view.setUint32(8, Number(unixNanos % NANOS_PER_SECOND));
  return stamp;
}

/** Whether `stamp` is strictly later than `last`: the encoding orders like its bytes. Base and range are not checked. */
export function isLaterTai64n(stamp: Uint8Array, last: Uint8Array): boolean {
  for (let i = 0; i < TAI64N_BYTES; i++) {
    const difference = stamp[i]! - last[i]!;
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/**
 * Wall time at construction plus monotonic time since: never runs backwards, and no two stamps are equal.
 */
export class Tai64nClock {
  readonly #baseNanos: bigint;
  readonly #start: Instant;
  #last = 0n;

  /** `unixTimeMs`: milliseconds since 1970 at `now`. */
  constructor(unixTimeMs: number, now: Instant) {
    this.#baseNanos = nanosOf(unixTimeMs);
    this.#start = now;
  }

  stamp(now: Instant): Uint8Array {
    const nanos = this.#baseNanos + nanosOf(now - this.#start);
    this.#last = nanos > this.#last ? nanos : this.#last + 1n;
    return encodeTai64n(this.#last);
  }
}

function nanosOf(milliseconds: number): bigint {
  const whole = Math.floor(milliseconds);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((milliseconds - whole) * 1_000_000));
}
