import { advance, distance } from "./sequence.ts";

/** Segments that are held ahead of a gap; more are dropped and come again. */
export const HELD_SEGMENTS = 64;

interface Held {
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** Segments that arrived before their turn, until the gap in front of them is filled. */
export class Reassembly {
  /** In the order of their sequence numbers; they may overlap. */
  #held: Held[] = [];

  /** Keeps a copy. */
  hold(sequence: number, payload: Uint8Array): void {
    if (this.#held.length >= HELD_SEGMENTS || this.#isKnown(sequence, payload.length)) return;

    const behind = this.#held.findIndex((held) => distance(sequence, held.sequence) > 0);
    const at = behind < 0 ? this.#held.length : behind;
    this.#held.splice(at, 0, { sequence, payload: payload.slice() });
  }

  /** What follows without a gap from `next` on; undefined if nothing does. Forgets what lies before it. */
  take(next: number): Uint8Array | undefined {
    for (;;) {
      const [first] = this.#held;
      if (first === undefined || distance(next, first.sequence) > 0) return undefined;
      this.#held.shift();
      const known = distance(first.sequence, next);
      if (known < first.payload.length) return first.payload.subarray(known);
    }
  }

  #isKnown(sequence: number, length: number): boolean {
    return this.#held.some(
      (held) =>
        distance(held.sequence, sequence) >= 0 &&
        distance(advance(sequence, length), advance(held.sequence, held.payload.length)) >= 0,
    );
  }
}
