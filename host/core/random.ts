/** Source of randomness that a machine is constructed with; tests seed it. */
export interface Random {
  /** Fills a new array with random bytes. */
  bytes(length: number): Uint8Array;
  /** Uniform in [0, 1). */
  uniform(): number;
}
