// Cuts a super-packet (TSO, USO) into packets (platform §6.2, read path).
//
//   │ header │ piece 0 │ piece 1 │ piece 2 │        packet i starts at i × size: its header is written over
//            └ size ───┴─────────┘                  the end of piece i − 1, which must have been used by then
//
// So nothing is copied but headers. Order of calls: splitCheck, then splitBegin (after any rewrite of the header),
// then splitPacket for each i in ascending order. splitBegin must not be reached twice for one super-packet.

import { DROP_BAD_OFFLOAD, DROP_NONE, DROP_OVERSIZED, KIND_TCP, KIND_UDP, MAX_PACKET_BYTES } from "../abi";
import { finishL4, ipv4HeaderChecksum } from "../ip/checksum";
import {
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPayload,
  parsedProtocol,
  parsedVersion,
} from "../ip/parse";
import { GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VIRTIO_GSO_SIZE, VIRTIO_GSO_TYPE } from "./virtio";

/** More pieces than this are refused; the slow path has a slot for each. */
export const MAX_PIECES = 256;

const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
const FIN_PSH = 0x09;
const CWR = 0x80;

/** Headers of a super-packet, as they were before the first piece: at most MAX_PACKET_BYTES. */
const TEMPLATE: usize = memory.data(1280, 16);

/** Of the super-packet that was checked last: number of packets, payload of all but the last, length of headers. */
export let splitCount: i32 = 0;
export let splitSize: i32 = 0;
export let splitHeader: i32 = 0;
/** Length of packet `i` that `splitPacket` made. */
export let splitLength: i32 = 0;

let total: i32 = 0;
let version: i32 = 0;
let protocol: i32 = 0;
let l4: i32 = 0;

/**
 * Checks the offload fields of the frame at `header` against its packet, which was parsed last; DROP_NONE sets the
 * `split*` variables. `hdr_len` is not looked at: on forwarded traffic it spans more than the headers.
 */
export function splitCheck(header: usize): i32 {
  const size = <i32>load<u16>(header, VIRTIO_GSO_SIZE);
  const payload = parsedLength - parsedPayload;
  if (!matches(load<u8>(header, VIRTIO_GSO_TYPE)) || size === 0 || payload === 0) return DROP_BAD_OFFLOAD;

  splitSize = min(size, payload);
  splitHeader = parsedPayload;
  splitCount = (payload + size - 1) / size;
  if (splitCount > MAX_PIECES) return DROP_BAD_OFFLOAD;
  return splitHeader + splitSize > MAX_PACKET_BYTES ? DROP_OVERSIZED : DROP_NONE;
}

function matches(type: i32): bool {
  if (type === GSO_UDP_L4) return parsedKind === KIND_UDP;
  if (parsedKind !== KIND_TCP) return false;
  return type === (parsedVersion === 4 ? GSO_TCPV4 : GSO_TCPV6);
}

/** Keeps the headers of the super-packet at `packet`. */
export function splitBegin(packet: usize): void {
  memory.copy(TEMPLATE, packet, splitHeader);
  total = parsedLength;
  version = parsedVersion;
  protocol = parsedProtocol;
  l4 = parsedL4;
}

/** Makes packet `i` of the super-packet at `packet` and returns where it starts; sets `splitLength`. */
export function splitPacket(packet: usize, i: i32): usize {
  const at = packet + <usize>(i * splitSize);
  const isLast = i === splitCount - 1;
  splitLength = isLast ? total - i * splitSize : splitHeader + splitSize;
  if (i !== 0) memory.copy(at, TEMPLATE, splitHeader);

  if (version === 4) {
    store<u16>(at, bswap<u16>(<u16>splitLength), 2);
    store<u16>(at, bswap<u16>(<u16>(<i32>bswap<u16>(load<u16>(TEMPLATE, 4)) + i)), 4);
    ipv4HeaderChecksum(at, l4);
  } else {
    store<u16>(at, bswap<u16>(<u16>(splitLength - 40)), 4);
  }
  const transport = at + <usize>l4;
  if (protocol === 17) {
    store<u16>(transport, bswap<u16>(<u16>(splitLength - l4)), 4);
  } else {
    writeTcp(transport, i, isLast);
  }
  finishL4(at, version, transport, protocol, splitLength - l4);
  return at;
}

/** Sequence number; FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2). */
function writeTcp(tcp: usize, i: i32, isLast: bool): void {
  const sequence = bswap<u32>(load<u32>(TEMPLATE + <usize>l4, TCP_SEQUENCE));
  store<u32>(tcp, bswap<u32>(sequence + i * splitSize), TCP_SEQUENCE);
  let flags = <i32>load<u8>(TEMPLATE + <usize>l4, TCP_FLAGS);
  if (!isLast) flags &= ~FIN_PSH;
  if (i !== 0) flags &= ~CWR;
  store<u8>(tcp, <u8>flags, TCP_FLAGS);
}
