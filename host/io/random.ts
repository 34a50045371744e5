import { randomBytes } from "node:crypto";
import type { Random } from "../core/random.ts";

const POOL_BYTES = 4096;

/** The operating system's randomness, drawn in pools: one call each would cost more than the use. */
export function systemRandom(): Random {
  let pool = randomBytes(POOL_BYTES);
  let used = 0;

  const bytes = (length: number): Uint8Array => {
    if (length > POOL_BYTES / 4) return new Uint8Array(randomBytes(length));
    if (used + length > pool.length) {
      pool = randomBytes(POOL_BYTES);
      used = 0;
    }
    const taken = new Uint8Array(pool.subarray(used, used + length));
    // What was handed out may be a key: it must not stay behind.
    pool.fill(0, used, used + length);
    used += length;
    return taken;
  };

  return {
    bytes,
    uniform() {
      // 53 bits: the doubles in [0, 1) that are multiples of 2^-53.
      const view = new DataView(bytes(8).buffer);
      return ((view.getUint32(0) & 0x1fffff) * 2 ** 32 + view.getUint32(4)) / 2 ** 53;
    },
  };
}
