// Slow twin of assembly/ip/checksum.ts: RFC 1071 word by word, in network order.

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;

/** One's complement sum of big-endian words; an odd last byte is padded with zero. */
export function wordSum(bytes: Uint8Array, initial = 0): number {
  let total = initial;
  for (let i = 0; i < bytes.length; i += 2) {
    total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    if (total > 0xffff) total -= 0xffff;
  }
  return total;
}

export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >> 8) & 0xff);
}

/** Sum over pseudo-header and transport part: 0xffff when the checksum inside is right. */
export function l4Sum(packet: Uint8Array, l4: number, protocol: number): number {
  const body = packet.subarray(l4);
  if (protocol === ICMP) return wordSum(body);
  const isIpv4 = packet[0]! >> 4 === 4;
  const addresses = isIpv4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const pseudo = wordSum(Uint8Array.of(0, protocol, body.length >> 8, body.length & 0xff));
  return wordSum(body, wordSum(addresses, pseudo));
}

/** Whether the IPv4 header checksum is right; IPv6 has none. */
export function ipChecksumHolds(packet: Uint8Array): boolean {
  if (packet[0]! >> 4 !== 4) return true;
  return wordSum(packet.subarray(0, (packet[0]! & 15) * 4)) === 0xffff;
}

export function checksumAt(protocol: number): number {
  return protocol === TCP ? 16 : protocol === UDP ? 6 : 2;
}
