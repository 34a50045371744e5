// Builds packets for tests, with right lengths and checksums unless a test spoils them afterwards.
import { checksumAt, ICMP, ICMPV6, l4Sum, TCP, UDP, wordSum } from "./checksum.ts";
import type { Seeded } from "./seeded.ts";

export interface PacketParts {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  /** Ports, or for ICMP the identifier in `sourcePort`. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly tcpFlags?: number;
  readonly icmpType?: number;
  readonly payload?: Uint8Array;
  /** IPv4 options (multiple of 4), or IPv6 extension headers as written by `extension`. */
  readonly options?: Uint8Array;
  /** First next header when `options` holds extension headers. */
  readonly firstHeader?: number;
  /** TOS or traffic class. */
  readonly trafficClass?: number;
}

export const ipv4 = (text: string): Uint8Array => Uint8Array.from(text.split("."), Number);

/** An address of 16 bytes from its first and last two. */
export const ipv6 = (first: number, last: number): Uint8Array => {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint16(0, first);
  new DataView(bytes.buffer).setUint16(14, last);
  return bytes;
};

/** An IPv6 extension header of `length` bytes (multiple of 8), zero but for its first two. */
export function extension(next: number, length: number): Uint8Array {
  const header = new Uint8Array(length);
  header[0] = next;
  header[1] = length / 8 - 1;
  return header;
}

export function packet(parts: PacketParts): Uint8Array {
  const options = parts.options ?? new Uint8Array(0);
  const isIpv4 = parts.source.length === 4;
  const l4 = transport(parts);
  const header = (isIpv4 ? 20 : 40) + options.length;
  const bytes = new Uint8Array(header + l4.length);
  const view = new DataView(bytes.buffer);
  if (isIpv4) {
    bytes[0] = 0x40 | (header / 4);
    bytes[1] = parts.trafficClass ?? 0;
    view.setUint16(2, bytes.length);
    bytes[8] = 64;
    bytes[9] = parts.protocol;
    bytes.set(parts.source, 12);
    bytes.set(parts.destination, 16);
    bytes.set(options, 20);
    view.setUint16(10, ~wordSum(bytes.subarray(0, header)) & 0xffff);
  } else {
    view.setUint32(0, 0x60000000 | ((parts.trafficClass ?? 0) << 20));
    view.setUint16(4, bytes.length - 40);
    bytes[6] = parts.firstHeader ?? parts.protocol;
    bytes[7] = 64;
    bytes.set(parts.source, 8);
    bytes.set(parts.destination, 24);
    bytes.set(options, 40);
  }
  bytes.set(l4, header);
  writeL4Checksum(bytes, header, parts.protocol);
  return bytes;
}

export function writeL4Checksum(bytes: Uint8Array, l4: number, protocol: number): void {
  if (![ICMP, TCP, UDP, ICMPV6].includes(protocol)) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const at = l4 + checksumAt(protocol);
  view.setUint16(at, 0);
  const checksum = ~l4Sum(bytes, l4, protocol) & 0xffff;
  view.setUint16(at, checksum === 0 && protocol === UDP ? 0xffff : checksum);
}

function transport(parts: PacketParts): Uint8Array {
  const payload = parts.payload ?? new Uint8Array(0);
  const headerBytes = parts.protocol === TCP ? 20 : [UDP, ICMP, ICMPV6].includes(parts.protocol) ? 8 : 0;
  const bytes = new Uint8Array(headerBytes + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(payload, headerBytes);
  if (parts.protocol === TCP || parts.protocol === UDP) {
    view.setUint16(0, parts.sourcePort ?? 0);
    view.setUint16(2, parts.destinationPort ?? 0);
  }
  if (parts.protocol === UDP) view.setUint16(4, bytes.length);
  if (parts.protocol === TCP) {
    bytes[12] = 5 << 4;
    bytes[13] = parts.tcpFlags ?? 16;
  }
  if (parts.protocol === ICMP || parts.protocol === ICMPV6) {
    bytes[0] = parts.icmpType ?? (parts.protocol === ICMP ? 8 : 128);
    view.setUint16(4, parts.sourcePort ?? 0);
  }
  return bytes;
}

/** A random valid TCP, UDP or echo packet of either version. */
export function randomPacket(random: Seeded, maxPayload = 200): Uint8Array {
  const isIpv4 = random.chance(0.5);
  const protocol = random.pick([TCP, UDP, isIpv4 ? ICMP : ICMPV6]);
  return packet({
    source: random.bytes(isIpv4 ? 4 : 16),
    destination: random.bytes(isIpv4 ? 4 : 16),
    protocol,
    sourcePort: random.below(0x10000),
    destinationPort: random.below(0x10000),
    tcpFlags: random.below(256),
    icmpType: random.pick(isIpv4 ? [0, 8] : [128, 129]),
    payload: random.bytes(random.below(maxPayload)),
    options: isIpv4 ? random.bytes(4 * random.below(11)) : new Uint8Array(0),
    trafficClass: random.below(256),
  });
}
