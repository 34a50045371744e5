import { type IpAddress, ipToBytes, isIpv4 } from "../address.ts";
import type { Identity } from "../packet-core.ts";
import { finishChecksum, pseudoHeaderSum, sumWords } from "./checksum.ts";
import { startPacket } from "./ip-header.ts";
import {
  ICMP_HEADER_BYTES,
  ICMPV4_ECHO_REQUEST,
  ICMPV6_ECHO_REQUEST,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  type IpHeader,
  type IpPacket,
  MAX_IP_BYTES,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  parseIpHeader,
  parseIpPacket,
  readU16,
  writeU16,
} from "./ip-packet.ts";

const HOP_LIMIT = 20;
/** RFC 792: the quote is the IP header and this many bytes behind it. */
const IPV4_QUOTED_PAYLOAD_BYTES = 8;

const V4_UNREACHABLE = 3;
const V4_TIME_EXCEEDED = 11;
const V4_CODE_FRAGMENTATION_NEEDED = 4;
const V6_UNREACHABLE = 1;
const V6_PACKET_TOO_BIG = 2;
const V6_TIME_EXCEEDED = 3;

const PROHIBITED = { v4: { type: V4_UNREACHABLE, code: 13 }, v6: { type: V6_UNREACHABLE, code: 1 } };
const NET_UNREACHABLE = { v4: { type: V4_UNREACHABLE, code: 0 }, v6: { type: V6_UNREACHABLE, code: 3 } };

/** The packet that an ICMP error is about, as far as it was quoted. */
export interface FailedPacket {
  readonly version: 4 | 6;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly kind: "tcp" | "udp" | "echo";
  /** Ports; for echo both are the identifier. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sourceIdentity: Identity;
  readonly destinationIdentity: Identity;
  /** Echo sequence number; 0 otherwise. */
  readonly sequence: number;
  /** Within `quote`. */
  readonly transportOffset: number;
  /** The quoted bytes: a view of the packet that was parsed. */
  readonly quote: Uint8Array;
}

/** A recognised ICMP error (tunnel-core §3.5). */
export interface IcmpError {
  readonly type: number;
  readonly code: number;
  /** Next-hop MTU of "fragmentation needed" and "packet too big"; 0 otherwise. */
  readonly mtu: number;
  readonly failed: FailedPacket;
}

/**
 * "Policy says no" (tunnel-core §3.4): to the sender of `original`, from its destination.
 * Undefined if `original` is no acceptable packet.
 */
export function prohibited(original: Uint8Array): Uint8Array | undefined {
  return originate(original, PROHIBITED);
}

/** "No usable real address" (tunnel-core §3.4), addressed like `prohibited`. */
export function netUnreachable(original: Uint8Array): Uint8Array | undefined {
  return originate(original, NET_UNREACHABLE);
}

/**
 * Recognises ICMP errors (tunnel-core §3.5). `none`: not ICMP, or an echo. `unusable`: another ICMP
 * message, or a quote that does not identify the failed packet.
 */
export function parseIcmpError(bytes: Uint8Array): IcmpError | "none" | "unusable" {
  const packet = parseIpPacket(bytes);
  return packet === undefined ? "none" : icmpErrorOf(packet);
}

/** Like `parseIcmpError`, for a packet that is parsed already. */
export function icmpErrorOf(packet: IpPacket): IcmpError | "none" | "unusable" {
  if (packet.kind !== "icmp") return "none";

  const { bytes, transportOffset, version } = packet;
  const type = bytes[transportOffset] ?? 0;
  const code = bytes[transportOffset + 1] ?? 0;
  if (!isErrorType(version, type)) return "unusable";

  const failed = parseQuote(bytes.subarray(packet.payloadOffset));
  if (failed === undefined || failed.version !== version) return "unusable";
  return { type, code, mtu: mtuOf(bytes.subarray(transportOffset), version, type, code), failed };
}

export interface IcmpTranslation {
  /** Proxy IP that stands for the failed packet's destination. */
  readonly proxyIp: IpAddress;
  /** Source port or echo identifier as the client chose it. */
  readonly insidePort: number;
  /** The client's TUN address. */
  readonly client: IpAddress;
}

/**
 * Rewrites an ICMP error across the NAT (tunnel-core §3.6): from the proxy IP to the client, quoting the
 * packet as the client sent it. Undefined if the addresses are not of the error's family.
 */
export function translateIcmpError(error: IcmpError, to: IcmpTranslation): Uint8Array | undefined {
  const { failed } = error;
  const isV4 = failed.version === 4;
  if (isIpv4(to.proxyIp) !== isV4 || isIpv4(to.client) !== isV4) return undefined;

  const quote = failed.quote.slice(0, maxQuoteBytes(failed.version));
  quote.set(ipToBytes(to.proxyIp), isV4 ? 16 : 24);
  writeU16(quote, failed.transportOffset + (failed.kind === "echo" ? 4 : 0), to.insidePort);
  return buildError(to.proxyIp, to.client, error, quote);
}

interface TypeAndCode {
  readonly type: number;
  readonly code: number;
  readonly mtu?: number;
}

function originate(
  original: Uint8Array,
  kinds: { readonly v4: TypeAndCode; readonly v6: TypeAndCode },
): Uint8Array | undefined {
  const packet = parseIpPacket(original);
  if (packet === undefined) return undefined;

  const isV4 = packet.version === 4;
  const quoteBytes = isV4 ? packet.transportOffset + IPV4_QUOTED_PAYLOAD_BYTES : maxQuoteBytes(6);
  const quote = original.subarray(0, quoteBytes);
  return buildError(packet.destination, packet.source, isV4 ? kinds.v4 : kinds.v6, quote);
}

function buildError(
  source: IpAddress,
  destination: IpAddress,
  { type, code, mtu = 0 }: TypeAndCode,
  quote: Uint8Array,
): Uint8Array {
  const protocol = isIpv4(source) ? PROTOCOL_ICMP : PROTOCOL_ICMPV6;
  const icmpBytes = ICMP_HEADER_BYTES + quote.length;
  const { bytes, transportOffset } = startPacket(
    { source, destination, protocol, hopLimit: HOP_LIMIT },
    icmpBytes,
  );
  const icmp = bytes.subarray(transportOffset);
  icmp[0] = type;
  icmp[1] = code;
  writeU16(icmp, 4, mtu >>> 16);
  writeU16(icmp, 6, mtu & 0xffff);
  icmp.set(quote, ICMP_HEADER_BYTES);
  const pseudo =
    protocol === PROTOCOL_ICMPV6
      ? pseudoHeaderSum(ipToBytes(source), ipToBytes(destination), protocol, icmpBytes)
      : 0;
  writeU16(icmp, 2, finishChecksum(sumWords(icmp, pseudo)));
  return bytes;
}

function maxQuoteBytes(version: 4 | 6): number {
  return MAX_IP_BYTES - ICMP_HEADER_BYTES - (version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES);
}

function isErrorType(version: 4 | 6, type: number): boolean {
  return version === 4
    ? type === V4_UNREACHABLE || type === V4_TIME_EXCEEDED
    : type === V6_UNREACHABLE || type === V6_PACKET_TOO_BIG || type === V6_TIME_EXCEEDED;
}

function mtuOf(icmp: Uint8Array, version: 4 | 6, type: number, code: number): number {
  if (version === 4) {
    return type === V4_UNREACHABLE && code === V4_CODE_FRAGMENTATION_NEEDED ? readU16(icmp, 6) : 0;
  }
  return type === V6_PACKET_TOO_BIG ? readU16(icmp, 4) * 0x10000 + readU16(icmp, 6) : 0;
}

function parseQuote(quote: Uint8Array): FailedPacket | undefined {
  const header = parseIpHeader(quote);
  if (header === undefined) return undefined;
  return header.protocol === PROTOCOL_TCP || header.protocol === PROTOCOL_UDP
    ? parseQuotedPorts(quote, header)
    : parseQuotedEcho(quote, header);
}

function parseQuotedPorts(quote: Uint8Array, header: IpHeader): FailedPacket | undefined {
  const { transportOffset } = header;
  if (quote.length < transportOffset + 4) return undefined;

  const kind = header.protocol === PROTOCOL_TCP ? "tcp" : "udp";
  const sourcePort = readU16(quote, transportOffset);
  const destinationPort = readU16(quote, transportOffset + 2);
  return {
    ...header,
    kind,
    sourcePort,
    destinationPort,
    sourceIdentity: { kind, port: sourcePort },
    destinationIdentity: { kind, port: destinationPort },
    sequence: 0,
    quote,
  };
}

function parseQuotedEcho(quote: Uint8Array, header: IpHeader): FailedPacket | undefined {
  const { transportOffset, version, protocol } = header;
  const isV4 = version === 4;
  if (protocol !== (isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) return undefined;
  if (quote.length < transportOffset + ICMP_HEADER_BYTES) return undefined;
  if (quote[transportOffset] !== (isV4 ? ICMPV4_ECHO_REQUEST : ICMPV6_ECHO_REQUEST)) return undefined;

  const identifier = readU16(quote, transportOffset + 4);
  return {
    ...header,
    kind: "echo",
    sourcePort: identifier,
    destinationPort: identifier,
    sourceIdentity: { kind: "echo", port: identifier },
    destinationIdentity: { kind: "echo", port: identifier },
    sequence: readU16(quote, transportOffset + 6),
    quote,
  };
}
