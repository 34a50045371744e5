// Merges consecutive packets of a flow into one frame (platform §6.2, write path).
//
// A packet joins the open run of its flow, or closes it and starts a new one, or closes it and stands alone: so the
// packets of a flow keep their order. Runs live within one call; `coalesceFinish` closes them all.

import { COALESCE, KIND_TCP, KIND_UDP, VIRTIO_BYTES } from "../abi";
import { ipv4HeaderChecksum, pseudoHeaderSum, sum } from "../ip/checksum";
import {
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPayload,
  parsedProtocol,
  parsedVersion,
} from "../ip/parse";
import {
  frameAppend,
  LANES,
  laneEnd,
  laneForPacking,
  laneFree,
  laneOfFlow,
  laneOwner,
  laneTake,
  roomiestLane,
  setLaneOwner,
} from "./frames";
import {
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  NEEDS_CSUM,
  VIRTIO_CSUM_OFFSET,
  VIRTIO_CSUM_START,
  VIRTIO_FLAGS,
  VIRTIO_GSO_SIZE,
  VIRTIO_GSO_TYPE,
  VIRTIO_HEADER_LENGTH,
} from "./virtio";

const MAX_FRAME_PACKET = 65535;
/** Kernels refuse USO frames with more pieces. */
const MAX_UDP_PIECES = 128;
const TCP_ACK = 0x10;
const TCP_PSH = 0x08;

/** One record of 32 bytes per lane, meaningful while the lane has an owner. */
const RUNS: usize = memory.data(512, 16);
const DESCRIPTOR: usize = 0;
const HEADER: usize = 4;
const SIZE: usize = 8;
const PIECES: usize = 12;
const NEXT_SEQUENCE: usize = 16;
const PACKET: usize = 20;
const LENGTH: usize = 24;

/**
 * Queues the packet at `packet`, which was parsed last and since rewritten, as a frame or as part of one.
 * The caller has asked `framesHaveRoom`.
 */
export function coalescePut(packet: usize, flow: usize): void {
  const lane = laneOfFlow(flow);
  const isCandidate = load<u32>(COALESCE) !== 0 && mayMerge(packet);
  if (lane >= 0) {
    if (isCandidate && fits(lane, packet)) {
      join(lane, packet);
      return;
    }
    closeRun(lane);
  }
  if (isCandidate && !endsRun(packet)) startRun(packet, flow);
  else standAlone(packet);
}

/** Closes all runs: their frames get headers for what they have become. */
export function coalesceFinish(): void {
  for (let lane = 0; lane < LANES; lane++) {
    if (laneOwner(lane) !== 0) closeRun(lane);
  }
}

/** TCP with ACK, or ACK and PSH, and UDP; with payload, plain IP header, and a checksum that holds. */
function mayMerge(packet: usize): bool {
  const payload = parsedLength - parsedPayload;
  if (payload === 0 || parsedL4 !== (parsedVersion === 4 ? 20 : 40)) return false;
  const l4 = packet + <usize>parsedL4;
  if (parsedKind === KIND_TCP) {
    if ((load<u8>(l4, 13) & ~TCP_PSH) !== TCP_ACK) return false;
  } else if (parsedKind !== KIND_UDP || load<u16>(l4, 6) === 0) {
    return false;
  }
  // A merged frame gets a new checksum, which must not make a damaged packet good.
  const l4Length = parsedLength - parsedL4;
  return sum(l4, l4Length, pseudoHeaderSum(packet, parsedVersion, parsedProtocol, l4Length)) === 0xffff;
}

function endsRun(packet: usize): bool {
  return parsedKind === KIND_TCP && (load<u8>(packet + <usize>parsedL4, 13) & TCP_PSH) !== 0;
}

/** Whether the packet continues the run in `lane`; addresses, protocol and ports agree because the flow does. */
function fits(lane: i32, packet: usize): bool {
  const run = runAt(lane);
  const first = <usize>load<u32>(run, PACKET);
  const payload = parsedLength - parsedPayload;
  if (parsedPayload !== load<i32>(run, HEADER) || payload > load<i32>(run, SIZE)) return false;
  if (payload > laneFree(lane) || load<i32>(run, LENGTH) + payload > MAX_FRAME_PACKET) return false;
  if (!sameIpHeader(first, packet)) return false;
  if (parsedKind === KIND_UDP) return load<i32>(run, PIECES) < MAX_UDP_PIECES;
  return sameTcpHeader(first + <usize>parsedL4, packet + <usize>parsedL4, load<u32>(run, NEXT_SEQUENCE));
}

function sameIpHeader(first: usize, packet: usize): bool {
  if (parsedVersion === 6) {
    return load<u32>(first) === load<u32>(packet) && load<u8>(first, 7) === load<u8>(packet, 7);
  }
  return (
    load<u16>(first) === load<u16>(packet) &&
    load<u16>(first, 6) === load<u16>(packet, 6) &&
    load<u8>(first, 8) === load<u8>(packet, 8)
  );
}

/** Next in sequence; same ACK number, header length, window, urgent pointer and options. Flags were judged before. */
function sameTcpHeader(first: usize, tcp: usize, nextSequence: u32): bool {
  if (bswap<u32>(load<u32>(tcp, 4)) !== nextSequence || load<u32>(first, 8) !== load<u32>(tcp, 8))
    return false;
  if (load<u8>(first, 12) !== load<u8>(tcp, 12) || load<u16>(first, 14) !== load<u16>(tcp, 14)) return false;
  if (load<u16>(first, 18) !== load<u16>(tcp, 18)) return false;
  const options = parsedPayload - parsedL4 - 20;
  return options === 0 || memory.compare(first + 20, tcp + 20, options) === 0;
}

function join(lane: i32, packet: usize): void {
  const run = runAt(lane);
  const payload = parsedLength - parsedPayload;
  memory.copy(laneEnd(lane), packet + <usize>parsedPayload, payload);
  laneTake(lane, payload);
  store<i32>(run, load<i32>(run, LENGTH) + payload, LENGTH);
  store<i32>(run, load<i32>(run, PIECES) + 1, PIECES);
  store<u32>(run, load<u32>(run, NEXT_SEQUENCE) + payload, NEXT_SEQUENCE);

  const isLast = endsRun(packet);
  if (isLast) {
    const flags = <usize>load<u32>(run, PACKET) + <usize>parsedL4 + 13;
    store<u8>(flags, load<u8>(flags) | TCP_PSH);
  }
  if (isLast || payload < load<i32>(run, SIZE)) closeRun(lane);
}

function startRun(packet: usize, flow: usize): void {
  const lane = roomiestLane(parsedLength + VIRTIO_BYTES);
  if (laneOwner(lane) !== 0) closeRun(lane);
  const at = laneEnd(lane) + VIRTIO_BYTES;
  const run = runAt(lane);
  const payload = parsedLength - parsedPayload;
  store<u32>(run, <u32>frameAppend(lane, packet, parsedLength), DESCRIPTOR);
  store<i32>(run, parsedPayload, HEADER);
  store<i32>(run, payload, SIZE);
  store<i32>(run, 1, PIECES);
  store<u32>(run, bswap<u32>(load<u32>(packet + <usize>parsedL4, 4)) + payload, NEXT_SEQUENCE);
  store<u32>(run, <u32>at, PACKET);
  store<i32>(run, parsedLength, LENGTH);
  setLaneOwner(lane, flow);
}

function standAlone(packet: usize): void {
  const lane = laneForPacking(parsedLength + VIRTIO_BYTES);
  if (laneOwner(lane) !== 0) closeRun(lane);
  frameAppend(lane, packet, parsedLength);
}

/** Ends the run in `lane`. A run of one packet is a plain frame already. */
function closeRun(lane: i32): void {
  setLaneOwner(lane, 0);
  const run = runAt(lane);
  if (load<i32>(run, PIECES) === 1) return;

  const packet = <usize>load<u32>(run, PACKET);
  const length = load<i32>(run, LENGTH);
  const isIpv4 = load<u8>(packet) >> 4 === 4;
  const l4 = isIpv4 ? 20 : 40;
  const isUdp = load<u8>(packet + (isIpv4 ? 9 : 6)) === 17;
  writeLengths(packet, length, isIpv4, isUdp);
  writeOffload(packet - VIRTIO_BYTES, run, l4, isUdp ? GSO_UDP_L4 : isIpv4 ? GSO_TCPV4 : GSO_TCPV6);
  const field = packet + <usize>l4 + (isUdp ? 6 : 16);
  store<u16>(field, <u16>pseudoHeaderSum(packet, isIpv4 ? 4 : 6, isUdp ? 17 : 6, length - l4));
  store<u32>(<usize>load<u32>(run, DESCRIPTOR), length + VIRTIO_BYTES, 4);
}

function writeLengths(packet: usize, length: i32, isIpv4: bool, isUdp: bool): void {
  if (isIpv4) {
    store<u16>(packet, bswap<u16>(<u16>length), 2);
    ipv4HeaderChecksum(packet, 20);
    if (isUdp) store<u16>(packet, bswap<u16>(<u16>(length - 20)), 24);
  } else {
    store<u16>(packet, bswap<u16>(<u16>(length - 40)), 4);
    if (isUdp) store<u16>(packet, bswap<u16>(<u16>(length - 40)), 44);
  }
}

function writeOffload(header: usize, run: usize, l4: i32, type: i32): void {
  store<u8>(header, NEEDS_CSUM, VIRTIO_FLAGS);
  store<u8>(header, <u8>type, VIRTIO_GSO_TYPE);
  store<u16>(header, <u16>load<u32>(run, HEADER), VIRTIO_HEADER_LENGTH);
  store<u16>(header, <u16>load<u32>(run, SIZE), VIRTIO_GSO_SIZE);
  store<u16>(header, <u16>l4, VIRTIO_CSUM_START);
  store<u16>(header, type === GSO_UDP_L4 ? 6 : 16, VIRTIO_CSUM_OFFSET);
}

function runAt(lane: i32): usize {
  return RUNS + ((<usize>lane) << 5);
}
