/** The seed of this run: SEED from the environment, or a fresh one. Failure messages name it. */
export const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);

/** Repeatable randomness for tests (xorshift32); not for anything secret. */
export class Seeded {
  #state: number;

  constructor(seed: number = SEED) {
    // The state must not be 0; the odd factor keeps neighbouring seeds apart.
    this.#state = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
  }

  word(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** A whole number from 0 up to, but not including, `limit`. */
  below(limit: number): number {
    return Math.floor((this.word() / 2 ** 32) * limit);
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => this.word());
    return new Uint8Array(words.buffer, 0, length);
  }
}
