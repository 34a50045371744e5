/** Sequence numbers are u32 and wrap around (RFC 9293 §3.4). */
export function advance(sequence: number, bytes: number): number {
  return (sequence + bytes) >>> 0;
}

/** How far `to` is ahead of `from`; negative if it is behind. Right within half the number space. */
export function distance(from: number, to: number): number {
  return (to - from) | 0;
}
