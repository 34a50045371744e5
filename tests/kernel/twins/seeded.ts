// Reproducible randomness for tests: SEED from the environment, or a new one that a failing test reports.

/** The seed of this run: SEED from the environment, or a fresh one. Failure messages name it. */
export const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);

export class Seeded {
  #state: number;

  constructor(seed: number = SEED) {
    this.#state = seed >>> 0;
  }

  /** Uniform u32 (splitmix32). */
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** Uniform integer in [0, limit). */
  below(limit: number): number {
    return this.u32() % limit;
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 0x1_0000_0000;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.u32() & 0xff);
  }
}

/** Runs `body` with a seeded source; a failure names the seed. */
export function withSeed(body: (random: Seeded) => void): void {
  try {
    body(new Seeded());
  } catch (error) {
    throw new Error(`failed with SEED=${SEED}`, { cause: error });
  }
}
