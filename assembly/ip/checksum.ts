// Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//
// Sums are over little-endian 16-bit words: a one's complement sum does not depend on the byte order as long
// as words are loaded and stored alike (RFC 1071 §2B), so nothing is byte-swapped on the packet path.

const PROTOCOL_ICMP = 1;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const PROTOCOL_ICMPV6 = 58;

/** Folds a sum of 16-bit words into 16 bits with end-around carry. */
export function fold(partial: u32): u32 {
  partial = (partial & 0xffff) + (partial >> 16);
  return (partial & 0xffff) + (partial >> 16);
}

/**
 * One's complement sum of `length` bytes at `ptr`, added to `initial` (a folded sum), folded to 16 bits.
 * An odd last byte counts as if a zero byte followed it. Nothing beyond `length` is read.
 */
export function sum(ptr: usize, length: i32, initial: u32): u32 {
  let accumulator: u64 = initial;
  if (ASC_FEATURE_SIMD) {
    if (length >= 64) {
      const blocks = length & ~63;
      accumulator += sumBlocks(ptr, blocks);
      ptr += <usize>blocks;
      length &= 63;
    }
  }
  const wide = ptr + <usize>(length & ~15);
  while (ptr < wide) {
    const first = load<u64>(ptr);
    const second = load<u64>(ptr, 8);
    accumulator += (first & 0xffffffff) + (first >> 32) + (second & 0xffffffff) + (second >> 32);
    ptr += 16;
  }
  const words = ptr + <usize>(length & 14);
  while (ptr < words) {
    accumulator += <u64>load<u16>(ptr);
    ptr += 2;
  }
  if ((length & 1) !== 0) accumulator += <u64>load<u8>(ptr);
  return foldWide(accumulator);
}

/** Sum of a multiple of 64 bytes, at most 64 KiB: 16-bit words widened pairwise, so no lane can overflow. */
function sumBlocks(ptr: usize, length: i32): u64 {
  let even = i32x4.splat(0);
  let odd = i32x4.splat(0);
  const end = ptr + <usize>length;
  while (ptr < end) {
    even = i32x4.add(even, i32x4.extadd_pairwise_i16x8_u(v128.load(ptr)));
    odd = i32x4.add(odd, i32x4.extadd_pairwise_i16x8_u(v128.load(ptr, 16)));
    even = i32x4.add(even, i32x4.extadd_pairwise_i16x8_u(v128.load(ptr, 32)));
    odd = i32x4.add(odd, i32x4.extadd_pairwise_i16x8_u(v128.load(ptr, 48)));
    ptr += 64;
  }
  const lanes = i32x4.add(even, odd);
  const low = i64x2.add(i64x2.extend_low_i32x4_u(lanes), i64x2.extend_high_i32x4_u(lanes));
  return <u64>i64x2.extract_lane(low, 0) + <u64>i64x2.extract_lane(low, 1);
}

function foldWide(accumulator: u64): u32 {
  accumulator = (accumulator & 0xffffffff) + (accumulator >> 32);
  accumulator = (accumulator & 0xffffffff) + (accumulator >> 32);
  const once = (<u32>accumulator & 0xffff) + (<u32>accumulator >> 16);
  return fold(once);
}

/** Folded sum of the TCP/UDP/ICMPv6 pseudo-header: both addresses, protocol and `l4Length`. */
export function pseudoHeaderSum(packet: usize, version: i32, protocol: i32, l4Length: i32): u32 {
  const trailer =
    ((<u32>protocol) << 8) + <u32>bswap<u16>(<u16>l4Length) + <u32>bswap<u16>(<u16>(l4Length >> 16));
  return version === 4 ? sum(packet + 12, 8, fold(trailer)) : sum(packet + 8, 32, fold(trailer));
}

/** Recomputes the header checksum of an IPv4 packet whose header has `headerLength` bytes. */
export function ipv4HeaderChecksum(packet: usize, headerLength: i32): void {
  store<u16>(packet, 0, 10);
  store<u16>(packet, <u16>~sum(packet, headerLength, 0), 10);
}

/**
 * Writes the full checksum of the transport header at pointer `l4`, whatever the field held before.
 * `l4Length`: bytes of transport header and payload. Does nothing for protocols without a checksum it knows.
 */
export function finishL4(packet: usize, version: i32, l4: usize, protocol: i32, l4Length: i32): void {
  const offset = checksumOffset(protocol);
  if (offset === 0) return;

  store<u16>(l4 + offset, 0);
  const initial = protocol === PROTOCOL_ICMP ? 0 : pseudoHeaderSum(packet, version, protocol, l4Length);
  const checksum = <u16>~sum(l4, l4Length, initial);
  store<u16>(l4 + offset, checksum === 0 && protocol === PROTOCOL_UDP ? 0xffff : checksum);
}

/** Offset of the checksum inside the transport header, 0 for unknown protocols. */
export function checksumOffset(protocol: i32): usize {
  switch (protocol) {
    case PROTOCOL_TCP:
      return 16;
    case PROTOCOL_UDP:
      return 6;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return 2;
    default:
      return 0;
  }
}

/** Delta for `updateField` when one 16-bit word changes (RFC 1624 eqn. 3: ~m + m'). */
export function delta16(before: u32, after: u32): u32 {
  return fold((~before & 0xffff) + (after & 0xffff));
}

/** Delta for `updateField` when `length` bytes (a multiple of 2) change from `before` to `after`. */
export function deltaBytes(before: usize, after: usize, length: i32): u32 {
  let partial: u32 = 0;
  for (let at: usize = 0; at < <usize>length; at += 2) {
    partial += (~(<u32>load<u16>(before + at)) & 0xffff) + <u32>load<u16>(after + at);
  }
  return fold(partial);
}

/** The checksum that follows from `checksum` after a change by `delta` (RFC 1624 eqn. 3). */
export function updated(checksum: u32, delta: u32): u32 {
  return ~fold((~checksum & 0xffff) + delta) & 0xffff;
}

/**
 * Patches the checksum at `ptr` by `delta`; a wrong checksum stays equally wrong.
 *
 * With `isUdp`, 0 means "absent" and stays, and a result of 0 is written as 0xffff (RFC 768).
 */
export function updateField(ptr: usize, delta: u32, isUdp: i32): void {
  const before = <u32>load<u16>(ptr);
  if (isUdp !== 0 && before === 0) return;
  const after = updated(before, delta);
  store<u16>(ptr, <u16>(after === 0 && isUdp !== 0 ? 0xffff : after));
}
