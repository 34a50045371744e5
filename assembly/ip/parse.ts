// What a byte string must fulfil to count as a packet (tunnel-core §3.1, HEAD), and its identity (§3.2).
//
// Order of checks: size, IP header and length field, fragments, extension headers, transport header.
// After a result of 0 nobody checks lengths again.

import {
  DROP_FRAGMENT,
  DROP_MALFORMED,
  DROP_NONE,
  DROP_OVERSIZED,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
  KIND_TCP,
  KIND_UDP,
} from "../abi";

const IPV6_HEADER_BYTES = 40;
const IPV4_FRAGMENT_BITS: u16 = 0xff3f; // MF and offset, as loaded little-endian
const IPV6_FRAGMENT_BITS: u16 = 0xf9ff; // offset and M of the fragment header, as loaded little-endian

const NEXT_HOP_BY_HOP = 0;
const NEXT_ICMP = 1;
const NEXT_TCP = 6;
const NEXT_UDP = 17;
const NEXT_ROUTING = 43;
const NEXT_FRAGMENT = 44;
const NEXT_AUTHENTICATION = 51;
const NEXT_ICMPV6 = 58;
const NEXT_DESTINATION_OPTIONS = 60;
const NEXT_CONTROL = 255;

// Results of the last successful parse. Undefined after a failed one.
/** 4 or 6. */
export let parsedVersion: i32 = 0;
/** IP protocol number behind all extension headers. */
export let parsedProtocol: i32 = 0;
/** KIND_*. */
export let parsedKind: i32 = 0;
/** Offset of the transport header: length of the IP header with options or extension headers. */
export let parsedL4: i32 = 0;
/** As FLOW_PORTS wants it: source port or identifier, destination port or 0, as they stand in the packet. */
export let parsedPorts: u32 = 0;
/** Flags byte of the TCP header, otherwise 0. */
export let parsedTcpFlags: i32 = 0;
/** Length of the packet by its own length field. */
export let parsedLength: i32 = 0;
/** Offset of the transport payload; equals `parsedL4` for opaque protocols. */
export let parsedPayload: i32 = 0;
/** ECN codepoint: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE. */
export let parsedEcn: i32 = 0;

/**
 * Parses the packet of exactly `length` bytes at `packet`, at most `maxLength` of them.
 * Returns 0 and sets the `parsed*` variables, or a DROP_* code.
 */
export function parse(packet: usize, length: i32, maxLength: i32): i32 {
  if (length > maxLength) return DROP_OVERSIZED;
  return parseHeaders(packet, length, 0, maxLength);
}

/**
 * Like `parse`, for a decrypted packet: bytes behind its own length field are padding (connectivity §10.4),
 * so `parsedLength` may be less than `length`. `maxLength` applies to the packet without its padding.
 */
export function parsePadded(packet: usize, length: i32, maxLength: i32): i32 {
  return parseHeaders(packet, length, 1, maxLength);
}

/** Whether the parsed packet is a frame of the control protocol (tunnel-core §4.1). */
export function isControlFrame(packet: usize): bool {
  if (load<u8>(packet) >> 4 !== 6 || load<u8>(packet, 6) !== NEXT_CONTROL) return false;
  if (bswap<u16>(load<u16>(packet, 4)) < 8) return false;
  return (load<u64>(packet, 8) | load<u64>(packet, 16) | load<u64>(packet, 24) | load<u64>(packet, 32)) === 0;
}

function parseHeaders(packet: usize, length: i32, padded: i32, maxLength: i32): i32 {
  if (length < 20) return DROP_MALFORMED;
  const version = load<u8>(packet) >> 4;
  if (version === 4) return parseIpv4(packet, length, padded, maxLength);
  if (version === 6) return parseIpv6(packet, length, padded, maxLength);
  return DROP_MALFORMED;
}

function parseIpv4(packet: usize, length: i32, padded: i32, maxLength: i32): i32 {
  const header = (<i32>(load<u8>(packet) & 15)) << 2;
  const total = <i32>bswap<u16>(load<u16>(packet, 2));
  if (header < 20 || header > total || !lengthFits(total, length, padded)) return DROP_MALFORMED;
  if (total > maxLength) return DROP_OVERSIZED;
  if ((load<u16>(packet, 6) & IPV4_FRAGMENT_BITS) !== 0) return DROP_FRAGMENT;

  parsedVersion = 4;
  parsedEcn = load<u8>(packet, 1) & 3;
  return parseTransport(packet, load<u8>(packet, 9), header, total);
}

function parseIpv6(packet: usize, length: i32, padded: i32, maxLength: i32): i32 {
  if (length < IPV6_HEADER_BYTES) return DROP_MALFORMED;
  const total = IPV6_HEADER_BYTES + <i32>bswap<u16>(load<u16>(packet, 4));
  if (!lengthFits(total, length, padded)) return DROP_MALFORMED;
  if (total > maxLength) return DROP_OVERSIZED;

  parsedVersion = 6;
  parsedEcn = (load<u8>(packet, 1) >> 4) & 3;
  const next = <i32>load<u8>(packet, 6);
  if (next === NEXT_TCP || next === NEXT_UDP) return parseTransport(packet, next, IPV6_HEADER_BYTES, total);
  return parseExtensions(packet, next, total);
}

function lengthFits(total: i32, length: i32, padded: i32): bool {
  return total === length || (padded !== 0 && total < length);
}

/** Walks the extension headers (RFC 8200 §4); each is at least 8 bytes, so the walk ends with the packet. */
function parseExtensions(packet: usize, next: i32, total: i32): i32 {
  let offset = IPV6_HEADER_BYTES;
  while (isExtension(next)) {
    if (next === NEXT_HOP_BY_HOP && offset !== IPV6_HEADER_BYTES) return DROP_MALFORMED;
    if (offset + 8 > total) return DROP_MALFORMED;
    const at = packet + <usize>offset;
    if (next === NEXT_FRAGMENT && (load<u16>(at, 2) & IPV6_FRAGMENT_BITS) !== 0) return DROP_FRAGMENT;
    offset += extensionLength(next, load<u8>(at, 1));
    if (offset > total) return DROP_MALFORMED;
    next = load<u8>(at);
  }
  return parseTransport(packet, next, offset, total);
}

function isExtension(next: i32): bool {
  return (
    next === NEXT_HOP_BY_HOP ||
    next === NEXT_DESTINATION_OPTIONS ||
    next === NEXT_ROUTING ||
    next === NEXT_FRAGMENT ||
    next === NEXT_AUTHENTICATION
  );
}

function extensionLength(next: i32, lengthField: i32): i32 {
  if (next === NEXT_FRAGMENT) return 8;
  // RFC 4302 §2.2 counts in 4-byte units minus 2, all others in 8-byte units minus 1.
  return next === NEXT_AUTHENTICATION ? (lengthField + 2) << 2 : (lengthField + 1) << 3;
}

function parseTransport(packet: usize, protocol: i32, offset: i32, total: i32): i32 {
  parsedProtocol = protocol;
  parsedL4 = offset;
  parsedLength = total;
  parsedTcpFlags = 0;
  const l4 = packet + <usize>offset;
  const remaining = total - offset;

  if (protocol === NEXT_TCP) return parseTcp(l4, offset, remaining);
  if (protocol === NEXT_UDP) return parseUdp(l4, offset, remaining);
  if (protocol === NEXT_ICMP || protocol === NEXT_ICMPV6) return parseIcmp(l4, protocol, offset, remaining);

  parsedKind = KIND_OTHER;
  parsedPorts = 0;
  parsedPayload = offset;
  return DROP_NONE;
}

function parseTcp(l4: usize, offset: i32, remaining: i32): i32 {
  if (remaining < 20) return DROP_MALFORMED;
  const header = (<i32>(load<u8>(l4, 12) >> 4)) << 2;
  if (header < 20 || header > remaining) return DROP_MALFORMED;

  parsedKind = KIND_TCP;
  parsedPorts = load<u32>(l4);
  parsedTcpFlags = load<u8>(l4, 13);
  parsedPayload = offset + header;
  return DROP_NONE;
}

function parseUdp(l4: usize, offset: i32, remaining: i32): i32 {
  if (remaining < 8 || <i32>bswap<u16>(load<u16>(l4, 4)) !== remaining) return DROP_MALFORMED;

  parsedKind = KIND_UDP;
  parsedPorts = load<u32>(l4);
  parsedPayload = offset + 8;
  return DROP_NONE;
}

function parseIcmp(l4: usize, protocol: i32, offset: i32, remaining: i32): i32 {
  if ((protocol === NEXT_ICMP) !== (parsedVersion === 4)) return DROP_MALFORMED;
  if (remaining < 8) return DROP_MALFORMED;

  const isEcho = isEchoType(protocol, load<u8>(l4)) && load<u8>(l4, 1) === 0;
  parsedKind = isEcho ? KIND_ECHO : KIND_ICMP;
  parsedPorts = isEcho ? <u32>load<u16>(l4, 4) : 0;
  parsedPayload = offset + 8;
  return DROP_NONE;
}

function isEchoType(protocol: i32, type: i32): bool {
  return protocol === NEXT_ICMP ? type === 8 || type === 0 : type === 128 || type === 129;
}
