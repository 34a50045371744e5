// Keyed hash of the packet core's tables. Addresses and ports are chosen by peers, so the host seeds it with
// random bits; without the seed nobody can aim many keys at one bucket.

const PRIME_A: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15;
const PRIME_B: u64 = ((<u64>0xd6e8feb8) << 32) | 0x6659fd93;
const PRIME_C: u64 = ((<u64>0xc2b2ae3d) << 32) | 0x27d4eb4f;
const PRIME_D: u64 = ((<u64>0x165667b1) << 32) | 0x9e3779f9;

let seedA: u64 = ((<u64>0x243f6a88) << 32) | 0x85a308d3;
let seedB: u64 = ((<u64>0x13198a2e) << 32) | 0x03707344;

/** Sets the hash seed. The host calls it once, before the first flow or NAT entry exists. */
export function hashSeed(a: u32, b: u32, c: u32, d: u32): void {
  seedA = ((<u64>a) << 32) | <u64>b;
  seedB = ((<u64>c) << 32) | <u64>d;
}

/** Hash of three words. */
export function hash3(a: u64, b: u64, c: u64): u32 {
  let h = (a ^ seedA) * PRIME_A;
  h = (h ^ (h >> 32) ^ b ^ seedB) * PRIME_B;
  h = (h ^ (h >> 32) ^ c) * PRIME_A;
  return <u32>(h >> 32) ^ <u32>h;
}

/**
 * Hash of five words for the flow table, where many keys in one set cost no more than replaced entries: the words
 * are multiplied side by side instead of one after the other, which takes half the time of `hash3`'s way.
 */
export function hash5(a: u64, b: u64, c: u64, d: u64, e: u64): u32 {
  const x = (a ^ seedA) * PRIME_A + (b ^ seedB) * PRIME_B;
  const y = (c ^ seedB) * PRIME_C + (d ^ seedA) * PRIME_D;
  const z = (e ^ seedA ^ (x >> 32)) * PRIME_B + (y ^ (y >> 29));
  const h = (z ^ (z >> 32) ^ x) * PRIME_A;
  return <u32>(h >> 32);
}
