import { type IpAddress, ipToBytes } from "../address.ts";
import type { Instant } from "../time.ts";

/** relay §7.3. */
export const REPLIES_PER_SOURCE = 100;
export const REPLIES_TOTAL = 20_000;
const BUCKETS = 16_384;
const WINDOW_MS = 1_000;
/** A site is a /64; below that, addresses cost nothing. */
const SITE_BYTES_V6 = 8;

/**
 * Budget of unauthenticated replies, per IPv4 address or IPv6 site, and in total.
 *
 * A table of fixed size: sources that fall into one bucket share its budget, and a million spoofed sources
 * take no more memory than one.
 */
export class ReplyLimiter {
  readonly #counts = new Uint16Array(BUCKETS);
  #total = 0;
  #windowStart: Instant | undefined;

  /** Spends one reply; false if the budget is used up. */
  admit(source: IpAddress, now: Instant): boolean {
    if (this.#windowStart === undefined || now >= this.#windowStart + WINDOW_MS) {
      this.#windowStart = now;
      this.#total = 0;
      this.#counts.fill(0);
    }
    const bucket = bucketOf(source);
    const count = this.#counts[bucket] ?? 0;
    if (count >= REPLIES_PER_SOURCE || this.#total >= REPLIES_TOTAL) return false;

    this.#counts[bucket] = count + 1;
    this.#total += 1;
    return true;
  }
}

/** FNV-1a. */
function bucketOf(source: IpAddress): number {
  const bytes = ipToBytes(source);
  let hash = 0x811c9dc5;
  for (let i = 0; i < Math.min(bytes.length, SITE_BYTES_V6); i++) {
    hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193);
  }
  return (hash >>> 0) % BUCKETS;
}
