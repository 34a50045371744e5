import { type IpAddress, ipFromBytes } from "../address.ts";
import type { PeerId } from "../id.ts";
import type { FlowKey, Identity } from "../packet-core.ts";

/** Largest IP packet that is tunnelled (tunnel-core §2.3). */
export const MAX_IP_BYTES = 1280;

export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;
export const UDP_HEADER_BYTES = 8;
export const ICMP_HEADER_BYTES = 8;
const TCP_HEADER_BYTES = 20;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

export const ICMPV4_ECHO_REPLY = 0;
export const ICMPV4_ECHO_REQUEST = 8;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;

/** TCP flags byte. */
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_ACK = 0x10;

const EXTENSION_HOP_BY_HOP = 0;
const EXTENSION_ROUTING = 43;
const EXTENSION_FRAGMENT = 44;
const EXTENSION_AUTHENTICATION = 51;
const EXTENSION_DESTINATION_OPTIONS = 60;
const FRAGMENT_HEADER_BYTES = 8;

/** `echo`: ICMP echo request or reply with code 0. `icmp`: any other ICMP message. */
export type PacketKind = "tcp" | "udp" | "echo" | "icmp" | "other";

/**
 * One accepted IP packet (tunnel-core §3.1). Every header that the offsets point to is complete.
 *
 * `bytes` is the array that was parsed, not a copy: it lives as long as the caller's.
 */
export interface IpPacket {
  readonly bytes: Uint8Array;
  readonly version: 4 | 6;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** Transport protocol, behind any IPv6 extension headers. */
  readonly protocol: number;
  readonly kind: PacketKind;
  /** TCP and UDP ports; for echo both are the identifier; otherwise 0. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The flags byte of TCP, otherwise 0. */
  readonly tcpFlags: number;
  /** First byte of the transport header. */
  readonly transportOffset: number;
  /** First byte behind the transport header; equals `transportOffset` for `other`. */
  readonly payloadOffset: number;
  /** Bytes of the whole packet. */
  readonly length: number;
}

/** The IP layer alone: where the transport starts and what it is. */
export interface IpHeader {
  readonly version: 4 | 6;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly transportOffset: number;
}

/** Applies the acceptance rules of tunnel-core §3.1 (HEAD); undefined: not a packet that we handle. */
export function parseIpPacket(bytes: Uint8Array): IpPacket | undefined {
  if (bytes.length > MAX_IP_BYTES) return undefined;

  const header = parseIpHeader(bytes);
  if (header === undefined || statedLength(bytes, header.version) !== bytes.length) return undefined;

  const transport = parseTransport(bytes, header);
  return transport === undefined ? undefined : { bytes, ...header, ...transport, length: bytes.length };
}

/**
 * Reads an IP header with its extension headers without judging the stated lengths, as quoted packets need.
 * Undefined for anything incomplete and for fragments.
 */
export function parseIpHeader(bytes: Uint8Array): IpHeader | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4) return parseIpv4Header(bytes);
  return version === 6 ? parseIpv6Header(bytes) : undefined;
}

export function sourceIdentity(packet: IpPacket): Identity {
  return identity(packet.kind, packet.sourcePort, packet.protocol);
}

/** What of a packet policy looks at. */
export type PacketSubject = Pick<
  IpPacket,
  "source" | "destination" | "kind" | "protocol" | "sourcePort" | "destinationPort"
>;

export function destinationIdentity(
  packet: Pick<IpPacket, "kind" | "protocol" | "destinationPort">,
): Identity {
  return identity(packet.kind, packet.destinationPort, packet.protocol);
}

/** The key under which the packet core looks this packet up. */
export function flowKeyOf(packet: IpPacket, from: PeerId | "tun"): FlowKey {
  return {
    from,
    source: packet.source,
    destination: packet.destination,
    protocol: packet.protocol,
    sourcePort: packet.sourcePort,
    destinationPort: packet.kind === "echo" ? 0 : packet.destinationPort,
  };
}

/** Big-endian; bytes beyond the end count as 0, so callers check lengths where that matters. */
export function readU16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
}

export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

function identity(kind: PacketKind, port: number, protocol: number): Identity {
  switch (kind) {
    case "tcp":
    case "udp":
    case "echo":
      return { kind, port };
    case "icmp":
      return { kind };
    case "other":
      return { kind, protocol };
  }
}

function parseIpv4Header(bytes: Uint8Array): IpHeader | undefined {
  const transportOffset = ((bytes[0] ?? 0) & 0x0f) * 4;
  if (transportOffset < IPV4_HEADER_BYTES || bytes.length < transportOffset) return undefined;

  const moreFragmentsAndOffset = readU16(bytes, 6) & 0x3fff;
  if (moreFragmentsAndOffset !== 0) return undefined;

  return {
    version: 4,
    source: ipFromBytes(bytes.subarray(12, 16)),
    destination: ipFromBytes(bytes.subarray(16, 20)),
    protocol: bytes[9] ?? 0,
    transportOffset,
  };
}

function parseIpv6Header(bytes: Uint8Array): IpHeader | undefined {
  if (bytes.length < IPV6_HEADER_BYTES) return undefined;

  const transport = skipExtensions(bytes, bytes[6] ?? 0);
  if (transport === undefined) return undefined;

  return {
    version: 6,
    source: ipFromBytes(bytes.subarray(8, 24)),
    destination: ipFromBytes(bytes.subarray(24, 40)),
    ...transport,
  };
}

function skipExtensions(
  bytes: Uint8Array,
  firstHeader: number,
): { protocol: number; transportOffset: number } | undefined {
  let protocol = firstHeader;
  let offset = IPV6_HEADER_BYTES;
  for (;;) {
    const length = extensionLength(bytes, protocol, offset);
    if (length === 0) return { protocol, transportOffset: offset };
    if (length === undefined || offset + length > bytes.length) return undefined;
    protocol = bytes[offset] ?? 0;
    offset += length;
  }
}

/** 0: not an extension header, the transport starts here. Undefined: incomplete, or not an atomic fragment. */
function extensionLength(bytes: Uint8Array, header: number, offset: number): number | undefined {
  switch (header) {
    case EXTENSION_HOP_BY_HOP:
    case EXTENSION_ROUTING:
    case EXTENSION_DESTINATION_OPTIONS:
      return offset + 2 > bytes.length ? undefined : ((bytes[offset + 1] ?? 0) + 1) * 8;
    case EXTENSION_AUTHENTICATION:
      return offset + 2 > bytes.length ? undefined : ((bytes[offset + 1] ?? 0) + 2) * 4;
    case EXTENSION_FRAGMENT: {
      const offsetAndMore = readU16(bytes, offset + 2) & 0xfff9;
      return offsetAndMore === 0 ? FRAGMENT_HEADER_BYTES : undefined;
    }
    default:
      return 0;
  }
}

function statedLength(bytes: Uint8Array, version: 4 | 6): number {
  return version === 4 ? readU16(bytes, 2) : readU16(bytes, 4) + IPV6_HEADER_BYTES;
}

type Transport = Pick<IpPacket, "kind" | "sourcePort" | "destinationPort" | "tcpFlags" | "payloadOffset">;

function parseTransport(bytes: Uint8Array, header: IpHeader): Transport | undefined {
  const { version, protocol, transportOffset } = header;
  switch (protocol) {
    case PROTOCOL_TCP:
      return parseTcp(bytes, transportOffset);
    case PROTOCOL_UDP:
      return parseUdp(bytes, transportOffset);
    case PROTOCOL_ICMP:
      return version === 4 ? parseIcmp(bytes, version, transportOffset) : undefined;
    case PROTOCOL_ICMPV6:
      return version === 6 ? parseIcmp(bytes, version, transportOffset) : undefined;
    default:
      return {
        kind: "other",
        sourcePort: 0,
        destinationPort: 0,
        tcpFlags: 0,
        payloadOffset: transportOffset,
      };
  }
}

function parseTcp(bytes: Uint8Array, offset: number): Transport | undefined {
  const headerBytes = ((bytes[offset + 12] ?? 0) >> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || offset + headerBytes > bytes.length) return undefined;
  return {
    kind: "tcp",
    sourcePort: readU16(bytes, offset),
    destinationPort: readU16(bytes, offset + 2),
    tcpFlags: bytes[offset + 13] ?? 0,
    payloadOffset: offset + headerBytes,
  };
}

function parseUdp(bytes: Uint8Array, offset: number): Transport | undefined {
  const available = bytes.length - offset;
  if (available < UDP_HEADER_BYTES || readU16(bytes, offset + 4) !== available) return undefined;
  return {
    kind: "udp",
    sourcePort: readU16(bytes, offset),
    destinationPort: readU16(bytes, offset + 2),
    tcpFlags: 0,
    payloadOffset: offset + UDP_HEADER_BYTES,
  };
}

function parseIcmp(bytes: Uint8Array, version: 4 | 6, offset: number): Transport | undefined {
  const payloadOffset = offset + ICMP_HEADER_BYTES;
  if (payloadOffset > bytes.length) return undefined;
  if (!isEcho(version, bytes[offset] ?? 0, bytes[offset + 1] ?? 0)) {
    return { kind: "icmp", sourcePort: 0, destinationPort: 0, tcpFlags: 0, payloadOffset };
  }
  const identifier = readU16(bytes, offset + 4);
  return { kind: "echo", sourcePort: identifier, destinationPort: identifier, tcpFlags: 0, payloadOffset };
}

function isEcho(version: 4 | 6, type: number, code: number): boolean {
  if (code !== 0) return false;
  return version === 4
    ? type === ICMPV4_ECHO_REQUEST || type === ICMPV4_ECHO_REPLY
    : type === ICMPV6_ECHO_REQUEST || type === ICMPV6_ECHO_REPLY;
}
