// RFC 6298; the lower bound is below its 1 s (a SHOULD), as the other end is this machine or a site nearby.
const INITIAL_RTO_MS = 1000;
const MIN_RTO_MS = 200;
const MAX_RTO_MS = 10_000;
/** Clock granularity G. */
const GRANULARITY_MS = 1;

/** The retransmission time-out from measured round trips, with exponential back-off. */
export class RetransmissionTimeout {
  #smoothed: number | undefined;
  #variation = 0;
  #rto = INITIAL_RTO_MS;
  #backoff = 1;

  get ms(): number {
    return Math.min(this.#rto * this.#backoff, MAX_RTO_MS);
  }

  /** A round trip of a segment that was sent once only (Karn's rule). */
  measured(roundTripMs: number): void {
    if (this.#smoothed === undefined) {
      this.#smoothed = roundTripMs;
      this.#variation = roundTripMs / 2;
    } else {
      this.#variation = 0.75 * this.#variation + 0.25 * Math.abs(this.#smoothed - roundTripMs);
      this.#smoothed = 0.875 * this.#smoothed + 0.125 * roundTripMs;
    }
    this.#rto = Math.max(MIN_RTO_MS, this.#smoothed + Math.max(GRANULARITY_MS, 4 * this.#variation));
  }

  backOff(): void {
    this.#backoff = Math.min(this.#backoff * 2, 64);
  }

  progressed(): void {
    this.#backoff = 1;
  }
}
