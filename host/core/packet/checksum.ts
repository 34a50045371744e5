/** One's complement sum (RFC 1071) of `bytes`, not folded; an odd last byte counts as the high half. */
export function sumWords(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  return sum;
}

/** Folds a sum to 16 bits and complements it: the value that goes into the packet. */
export function finishChecksum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}

export function checksum(bytes: Uint8Array): number {
  return finishChecksum(sumWords(bytes));
}

/** Sum of the pseudo-header of TCP, UDP and ICMPv6; the addresses have 4 or 16 bytes. */
export function pseudoHeaderSum(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  transportBytes: number,
): number {
  return sumWords(source, sumWords(destination, protocol + transportBytes));
}
