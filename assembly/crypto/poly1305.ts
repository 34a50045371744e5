import { BLOCK, POLY, POLY_R, POLY_S } from "./scratch";

const LOW: u64 = 0xffffffff;
/** 2^128 on top of each block but a shorter last one (RFC 8439 §2.5). */
const FULL: u64 = 1;

/** Starts Poly1305 with the 32-byte one-time key at `key`; clears the bits of r that RFC 8439 §2.5 wants clear. */
export function polyInit(key: usize): void {
  store<u64>(POLY, 0);
  store<u64>(POLY, 0, 8);
  store<u32>(POLY, 0, 16);
  store<u32>(POLY_R, load<u32>(key) & 0x0fffffff);
  store<u32>(POLY_R, load<u32>(key, 4) & 0x0ffffffc, 4);
  store<u32>(POLY_R, load<u32>(key, 8) & 0x0ffffffc, 8);
  store<u32>(POLY_R, load<u32>(key, 12) & 0x0ffffffc, 12);
  store<u64>(POLY_S, load<u64>(key, 16));
  store<u64>(POLY_S, load<u64>(key, 24), 8);
}

/** Takes `length` bytes at `message`, filled up with zeros to whole blocks (RFC 8439 §2.8, pad16). */
export function polyAbsorb(message: usize, length: i32): void {
  const blocks = length >> 4;
  if (blocks > 0) absorbBlocks(message, blocks, FULL);
  if ((length & 15) === 0) return;
  copyPadded(message + ((<usize>blocks) << 4), length & 15);
  absorbBlocks(BLOCK, 1, FULL);
}

/** Takes the last `length` bytes at `message`, padded, and the block of both lengths that ends an AEAD message. */
export function polyAbsorbEnd(message: usize, length: i32, aadLength: i32, textLength: i32): void {
  const blocks = length >> 4;
  if (blocks > 0) absorbBlocks(message, blocks, FULL);
  const rest = length & 15;
  if (rest > 0) copyPadded(message + ((<usize>blocks) << 4), rest);
  store<u64>(BLOCK, <u64>(<u32>aadLength), 16);
  store<u64>(BLOCK, <u64>(<u32>textLength), 24);
  if (rest > 0) absorbBlocks(BLOCK, 2, FULL);
  else absorbBlocks(BLOCK + 16, 1, FULL);
}

/** Writes the 16-byte tag to `tag` and wipes the one-time key, the accumulator and the padded block. */
export function polyFinish(tag: usize): void {
  const h0: u64 = load<u32>(POLY);
  const h1: u64 = load<u32>(POLY, 4);
  const h2: u64 = load<u32>(POLY, 8);
  const h3: u64 = load<u32>(POLY, 12);
  const h4: u64 = load<u32>(POLY, 16);
  // The carry out of h + 5 past 2^130 says whether h ≥ 2^130 − 5; adding 5 once for it reduces h.
  let carry: u64 = (5 + h0) >> 32;
  carry = (carry + h1) >> 32;
  carry = (carry + h2) >> 32;
  carry = (carry + h3) >> 32;
  carry = ((carry + h4) >> 2) * 5;
  const t0 = carry + h0 + <u64>load<u32>(POLY_S);
  const t1 = (t0 >> 32) + h1 + <u64>load<u32>(POLY_S, 4);
  const t2 = (t1 >> 32) + h2 + <u64>load<u32>(POLY_S, 8);
  const t3 = (t2 >> 32) + h3 + <u64>load<u32>(POLY_S, 12);
  store<u64>(tag, (t0 & LOW) | (t1 << 32));
  store<u64>(tag, (t2 & LOW) | (t3 << 32), 8);
  wipeScratch();
}

/** Writes the Poly1305 tag of `length` bytes at `message` under the one-time key at `key` (RFC 8439 §2.5). */
export function poly1305(tag: usize, message: usize, length: i32, key: usize): void {
  polyInit(key);
  const blocks = length >> 4;
  if (blocks > 0) absorbBlocks(message, blocks, FULL);
  const rest = length & 15;
  if (rest > 0) {
    copyPadded(message + ((<usize>blocks) << 4), rest);
    store<u8>(BLOCK + <usize>rest, 1);
    absorbBlocks(BLOCK, 1, 0);
  }
  polyFinish(tag);
}

function absorbBlocks(message: usize, blocks: i32, top: u64): void {
  const r0: u64 = load<u32>(POLY_R);
  const r1: u64 = load<u32>(POLY_R, 4);
  const r2: u64 = load<u32>(POLY_R, 8);
  const r3: u64 = load<u32>(POLY_R, 12);
  // A limb that wraps past 2^130 comes back times 5/4; r1 to r3 are multiples of four.
  const f0: u64 = (r0 >> 2) * 5;
  const f1: u64 = r1 + (r1 >> 2);
  const f2: u64 = r2 + (r2 >> 2);
  const f3: u64 = r3 + (r3 >> 2);
  const f4: u64 = r0 & 3;
  let h0: u64 = load<u32>(POLY);
  let h1: u64 = load<u32>(POLY, 4);
  let h2: u64 = load<u32>(POLY, 8);
  let h3: u64 = load<u32>(POLY, 12);
  let h4: u64 = load<u32>(POLY, 16);
  do {
    const low = load<u64>(message);
    const high = load<u64>(message, 8);
    h0 += low & LOW;
    h1 += low >> 32;
    h2 += high & LOW;
    h3 += high >> 32;
    h4 += top;
    // At most 33 + 28 bits in each product and 2^63.3 in a sum of five: no 64-bit overflow.
    const x0 = h0 * r0 + h1 * f3 + h2 * f2 + h3 * f1 + h4 * f0;
    const x1 = h0 * r1 + h1 * r0 + h2 * f3 + h3 * f2 + h4 * f1;
    const x2 = h0 * r2 + h1 * r1 + h2 * r0 + h3 * f3 + h4 * f2;
    const x3 = h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * f3;
    const x4 = h4 * f4 + (x3 >> 32);
    const c0 = (x4 >> 2) * 5 + (x0 & LOW);
    const c1 = (c0 >> 32) + (x1 & LOW) + (x0 >> 32);
    const c2 = (c1 >> 32) + (x2 & LOW) + (x1 >> 32);
    const c3 = (c2 >> 32) + (x3 & LOW) + (x2 >> 32);
    h0 = c0 & LOW;
    h1 = c1 & LOW;
    h2 = c2 & LOW;
    h3 = c3 & LOW;
    h4 = (c3 >> 32) + (x4 & 3);
    message += 16;
  } while (--blocks);
  store<u32>(POLY, <u32>h0);
  store<u32>(POLY, <u32>h1, 4);
  store<u32>(POLY, <u32>h2, 8);
  store<u32>(POLY, <u32>h3, 12);
  store<u32>(POLY, <u32>h4, 16);
}

/** Copies `length` (1 to 15) bytes to BLOCK and zeros behind them up to 16; reads all 16 bytes at `from`. */
function copyPadded(from: usize, length: i32): void {
  const low = load<u64>(from);
  const high = load<u64>(from, 8);
  const bits: u64 = (<u64>(length & 7)) << 3;
  const partial: u64 = ((<u64>1) << bits) - 1;
  store<u64>(BLOCK, length < 8 ? low & partial : low);
  store<u64>(BLOCK, length < 8 ? 0 : high & partial, 8);
}

function wipeScratch(): void {
  for (let at: usize = 0; at < 64; at += 8) store<u64>(POLY + at, 0);
  for (let at: usize = 0; at < 64; at += 8) store<u64>(BLOCK + at, 0);
}
