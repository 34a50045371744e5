/** RFC 6928. */
const INITIAL_SEGMENTS = 10;

/** How much may be in flight: slow start and congestion avoidance (RFC 5681). All in bytes. */
export class Congestion {
  #segment: number;
  #window: number;
  #threshold = Number.POSITIVE_INFINITY;

  constructor(segmentBytes: number) {
    this.#segment = segmentBytes;
    this.#window = INITIAL_SEGMENTS * segmentBytes;
  }

  get window(): number {
    return this.#window;
  }

  acknowledged(bytes: number): void {
    this.#window +=
      this.#window < this.#threshold
        ? Math.min(bytes, this.#segment)
        : Math.max(1, Math.floor((this.#segment * this.#segment) / this.#window));
  }

  /** Duplicate acknowledgments say that a segment is missing. */
  lost(inFlight: number): void {
    this.#threshold = Math.max(Math.floor(inFlight / 2), 2 * this.#segment);
    this.#window = this.#threshold;
  }

  timedOut(inFlight: number): void {
    this.#threshold = Math.max(Math.floor(inFlight / 2), 2 * this.#segment);
    this.#window = this.#segment;
  }
}
