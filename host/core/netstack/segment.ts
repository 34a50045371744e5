import { ipToBytes, isIpv4, type SocketAddress } from "../address.ts";
import { finishChecksum, pseudoHeaderSum, sumWords } from "../packet/checksum.ts";
import { startPacket } from "../packet/ip-header.ts";
import {
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  type IpPacket,
  MAX_IP_BYTES,
  PROTOCOL_TCP,
  readU16,
  writeU16,
} from "../packet/ip-packet.ts";

// Fields of the TCP header (RFC 9293 §3.1).
const SEQUENCE = 4;
const ACKNOWLEDGMENT = 8;
const DATA_OFFSET = 12;
const FLAGS = 13;
const WINDOW = 14;
const CHECKSUM = 16;
const HEADER_BYTES = 20;
const OPTION_END = 0;
const OPTION_NOTHING = 1;
const OPTION_MSS = 2;
const MSS_BYTES = 4;
const HOP_LIMIT = 64;
/** RFC 9293 §3.7.1: what a peer takes that does not say. */
const DEFAULT_MSS = { v4: 536, v6: 1220 };

export interface TcpEnds {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
}

/** One TCP segment. `payload` may be a view of the packet it came in. */
export interface TcpSegment {
  readonly sequence: number;
  /** Meaningful if the ACK flag is set. */
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  /** The MSS option. */
  readonly mss: number | undefined;
  readonly payload: Uint8Array;
}

/** Undefined if the checksum does not hold. */
export function decodeSegment(packet: IpPacket): TcpSegment | undefined {
  const tcp = packet.bytes.subarray(packet.transportOffset);
  const { source, destination } = packet;
  const pseudo = pseudoHeaderSum(ipToBytes(source), ipToBytes(destination), PROTOCOL_TCP, tcp.length);
  if (finishChecksum(sumWords(tcp, pseudo)) !== 0) return undefined;

  return {
    sequence: readU32(tcp, SEQUENCE),
    acknowledgment: readU32(tcp, ACKNOWLEDGMENT),
    flags: packet.tcpFlags,
    window: readU16(tcp, WINDOW),
    mss: readMss(packet.bytes.subarray(packet.transportOffset + HEADER_BYTES, packet.payloadOffset)),
    payload: packet.bytes.subarray(packet.payloadOffset),
  };
}

/** A packet from `local` to `remote`. The payload has at most `segmentBytes` bytes. */
export function encodeSegment({ local, remote }: TcpEnds, segment: TcpSegment): Uint8Array {
  const headerBytes = HEADER_BYTES + (segment.mss === undefined ? 0 : MSS_BYTES);
  const { bytes, transportOffset } = startPacket(
    { source: local.ip, destination: remote.ip, protocol: PROTOCOL_TCP, hopLimit: HOP_LIMIT },
    headerBytes + segment.payload.length,
  );
  const tcp = bytes.subarray(transportOffset);
  writeU16(tcp, 0, local.port);
  writeU16(tcp, 2, remote.port);
  writeU32(tcp, SEQUENCE, segment.sequence);
  writeU32(tcp, ACKNOWLEDGMENT, segment.acknowledgment);
  tcp[DATA_OFFSET] = (headerBytes / 4) << 4;
  tcp[FLAGS] = segment.flags;
  writeU16(tcp, WINDOW, segment.window);
  if (segment.mss !== undefined) {
    tcp[HEADER_BYTES] = OPTION_MSS;
    tcp[HEADER_BYTES + 1] = MSS_BYTES;
    writeU16(tcp, HEADER_BYTES + 2, segment.mss);
  }
  tcp.set(segment.payload, headerBytes);
  const pseudo = pseudoHeaderSum(ipToBytes(local.ip), ipToBytes(remote.ip), PROTOCOL_TCP, tcp.length);
  writeU16(tcp, CHECKSUM, finishChecksum(sumWords(tcp, pseudo)));
  return bytes;
}

/** The most payload of one of our segments, which is also the MSS that we announce. */
export function segmentBytes({ local }: TcpEnds): number {
  return MAX_IP_BYTES - (isIpv4(local.ip) ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES) - HEADER_BYTES;
}

/** The most payload that both ends take. */
export function agreedSegmentBytes(ends: TcpEnds, announced: number | undefined): number {
  const peers = announced ?? (isIpv4(ends.remote.ip) ? DEFAULT_MSS.v4 : DEFAULT_MSS.v6);
  // An absurdly small MSS would cost a packet per few bytes; 64 is what Linux takes at least, roughly.
  return Math.min(segmentBytes(ends), Math.max(peers, 64));
}

function readMss(options: Uint8Array): number | undefined {
  let offset = 0;
  while (offset < options.length) {
    const kind = options[offset];
    if (kind === OPTION_END) return undefined;
    if (kind === OPTION_NOTHING) {
      offset += 1;
      continue;
    }
    const length = options[offset + 1] ?? 0;
    if (length < 2 || offset + length > options.length) return undefined;
    if (kind === OPTION_MSS && length === MSS_BYTES) return readU16(options, offset + 2);
    offset += length;
  }
  return undefined;
}

function readU32(bytes: Uint8Array, offset: number): number {
  return readU16(bytes, offset) * 0x10000 + readU16(bytes, offset + 2);
}

function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  writeU16(bytes, offset, value >>> 16);
  writeU16(bytes, offset + 2, value);
}
