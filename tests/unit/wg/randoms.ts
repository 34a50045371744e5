import type { Random } from "../../../host/core/random.ts";

/** Gives out what the test wrote down, in order; throws when it runs dry. */
export function scriptedRandom(bytes: Uint8Array[], uniforms: number[]): Random {
  return {
    bytes(length) {
      const next = bytes.shift();
      if (next?.length !== length) throw new Error(`no ${length} random bytes were scripted`);
      return next.slice();
    },
    uniform() {
      const next = uniforms.shift();
      if (next === undefined) throw new Error("no uniform number was scripted");
      return next;
    },
  };
}

/** mulberry32: small, seeded, good enough for tests. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const word = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return {
    bytes: (length) => Uint8Array.from({ length }, () => word() & 0xff),
    uniform: () => word() / 2 ** 32,
  };
}

/** Seeded bytes, but jitter always as given: for tables of exact instants. */
export function steadyRandom(seed: number, uniform: number): Random {
  return { bytes: seededRandom(seed).bytes, uniform: () => uniform };
}
