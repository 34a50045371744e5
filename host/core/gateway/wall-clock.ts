import { after, type Instant, type UnixTime } from "../time.ts";

/** Maps unix times to instants by one reading of both clocks, so that a later step of the wall clock changes nothing. */
export class WallClock {
  readonly #unixTimeMs: number;
  readonly #start: Instant;

  constructor(unixTimeMs: number, now: Instant) {
    this.#unixTimeMs = unixTimeMs;
    this.#start = now;
  }

  /** Times before the reading become the instant of the reading: they are over. */
  instantOf(time: UnixTime): Instant {
    return after(this.#start, Math.max(0, time * 1000 - this.#unixTimeMs));
  }
}
