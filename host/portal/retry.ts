import type { Random } from "../core/random.ts";
import { after, type Instant } from "../core/time.ts";

// portal §4.3
const FIRST_INTERVAL_MS = 500;
const GROWTH = 1.5;
const MAX_INTERVAL_MS = 60_000;
/** portal §16.4 asks for one second; a tenth more, because two attempts may travel at different speeds. */
const MIN_SPACING_MS = 1_100;
/** Longest `Retry-After` obeyed: a portal that names a date in the far future must not silence its peers. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** When to try again: full jitter below an interval that grows, never two attempts within a second. */
export class RetrySchedule {
  readonly #random: Random;
  #intervalMs = FIRST_INTERVAL_MS;
  #lastAttemptAt: Instant | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  noteAttempt(now: Instant): void {
    this.#lastAttemptAt = now;
  }

  reset(): void {
    this.#intervalMs = FIRST_INTERVAL_MS;
  }

  next(now: Instant): Instant {
    const delayMs = this.#random.uniform() * this.#intervalMs;
    this.#intervalMs = Math.min(this.#intervalMs * GROWTH, MAX_INTERVAL_MS);
    return this.#spaced(after(now, delayMs));
  }

  atOnce(now: Instant): Instant {
    return this.#spaced(now);
  }

  /** `Retry-After` replaces the backoff; a 401 that says nothing about the token waits longest (portal §16.3). */
  afterRejection(rejection: { status: number; retryAfterMs: number | undefined }, now: Instant): Instant {
    if (rejection.retryAfterMs !== undefined) {
      const delayMs = Math.min(Math.max(0, rejection.retryAfterMs), MAX_RETRY_AFTER_MS);
      return this.#spaced(after(now, delayMs));
    }
    return rejection.status === 401 ? this.#spaced(after(now, MAX_INTERVAL_MS)) : this.next(now);
  }

  #spaced(at: Instant): Instant {
    if (this.#lastAttemptAt === undefined) return at;
    return Math.max(at, after(this.#lastAttemptAt, MIN_SPACING_MS));
  }
}

/**
 * Milliseconds that a `Retry-After` header asks for: whole seconds or an HTTP date, past dates mean
 * now. Undefined if the text is neither.
 */
export function parseRetryAfter(text: string, unixMs: number): number | undefined {
  if (/^\d+$/.test(text.trim())) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - unixMs);
}
