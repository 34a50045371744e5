// TUN to UDP, one frame after the other:
//   check the offload header → parse → find the flow → note NAT → rewrite → split → seal into the newest train.
// What the core cannot decide leaves as single packets with finished checksums in SLOW slots.
// A frame is either processed whole or not at all: room is checked before anything is changed.

import {
  BATCH_DONE,
  BATCH_MORE,
  CHANNEL_HEADER_BYTES,
  DROP_COUNTER_EXHAUSTED,
  DROP_NONE,
  DROP_OVERSIZED,
  FLOW_NAT,
  FLOW_PACKETS,
  FLOW_PEER,
  FLOW_REWRITE,
  FLOW_SCOPE_TUN,
  FRAME_IN_BASE,
  FRAME_IN_CAPACITY,
  FRAME_IN_COUNT,
  FRAME_IN_CURSOR,
  FRAME_IN_DESC_BYTES,
  KIND_ICMP,
  MAX_PACKET_BYTES,
  PACKET_DROPPED,
  PACKET_FULL,
  PACKET_MISS,
  PACKET_NO_KEYPAIR,
  PACKET_QUEUED,
  REWRITE_OUTGOING,
  SLOW_NO_KEYPAIR,
  SLOW_TUN_PACKET,
  VIRTIO_BYTES,
} from "../abi";
import { flowFind, flowTouch } from "../flow/table";
import {
  isControlFrame,
  parse,
  parsedEcn,
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPayload,
  parsedTcpFlags,
  parsedVersion,
} from "../ip/parse";
import { applyRewrite } from "../ip/rewrite";
import { natNote } from "../nat/table";
import {
  splitBegin,
  splitCheck,
  splitCount,
  splitHeader,
  splitLength,
  splitPacket,
  splitSize,
} from "../offload/split";
import { finishPartial, GSO_NONE, VIRTIO_GSO_TYPE } from "../offload/virtio";
import { noteSealed } from "../wg/activity";
import { peerAt, sendKeypair } from "../wg/peers";
import { counterAllows, MESSAGE_OVERHEAD } from "../wg/transport";
import { sealToTrain } from "./seal";
import { drop, dropMany, setSlowInput, slowHasRoom, slowPut, slowSlot } from "./slow";
import { trainsHaveRoom } from "./train";

/** 65,535 bytes of payload behind an IPv6 header. */
const MAX_SUPER_PACKET = 65575;
const DATAGRAM_OVERHEAD = MESSAGE_OVERHEAD + CHANNEL_HEADER_BYTES;

/** Peer of the flow that `findRoute` found. */
let routePeer: i32 = 0;
/** Flow and keypair that it found; the keypair may be 0. */
let routeFlow: usize = 0;
let routeKeypair: usize = 0;

/** The peer that the last packet with PACKET_NO_KEYPAIR was for. */
export function unsentPeer(): i32 {
  return routePeer;
}

/**
 * Processes frames FRAME_IN_CURSOR … FRAME_IN_COUNT. `now` is a tick.
 * BATCH_DONE, or BATCH_MORE: drain trains and the slow path, then call again with the cursor as it is.
 */
export function encapsulate(now: i32): i32 {
  const count = min(load<i32>(FRAME_IN_COUNT), FRAME_IN_CAPACITY);
  let cursor = load<i32>(FRAME_IN_CURSOR);
  while (cursor < count) {
    const descriptor = <usize>FRAME_IN_BASE + <usize>cursor * FRAME_IN_DESC_BYTES;
    setSlowInput(cursor);
    if (!takeFrame(<usize>load<u32>(descriptor), load<i32>(descriptor, 4), now)) return BATCH_MORE;
    cursor += 1;
    store<i32>(FRAME_IN_CURSOR, cursor);
  }
  return BATCH_DONE;
}

/**
 * Runs one packet of `length` bytes at `packet` through lookup, rewrite and seal, as if it came from the TUN device.
 * Returns PACKET_*; it goes into no SLOW slot.
 */
export function encapsulatePacket(packet: usize, length: i32, now: i32): i32 {
  const refused = parse(packet, length, MAX_PACKET_BYTES);
  if (refused !== DROP_NONE) {
    drop(refused);
    return PACKET_DROPPED;
  }
  const result = sendPacket(packet, now);
  if (result === PACKET_NO_KEYPAIR) countExhausted();
  return result;
}

/** False: an output region is full and nothing was changed. */
function takeFrame(header: usize, length: i32, now: i32): bool {
  const packet = header + VIRTIO_BYTES;
  const isSingle = length > VIRTIO_BYTES && load<u8>(header, VIRTIO_GSO_TYPE) === GSO_NONE;
  let refused = parse(packet, length - VIRTIO_BYTES, isSingle ? MAX_PACKET_BYTES : MAX_SUPER_PACKET);
  if (refused !== DROP_NONE) {
    drop(refused);
    return true;
  }
  if (isSingle) {
    refused = finishPartial(header);
    if (refused === DROP_NONE) return takePacket(packet, now);
  } else {
    refused = splitCheck(header);
    if (refused === DROP_NONE) return takeSuperPacket(packet, now);
  }
  dropMany(refused, refused === DROP_OVERSIZED ? splitCount : 1);
  return true;
}

function takePacket(packet: usize, now: i32): bool {
  const length = parsedLength;
  const result = sendPacket(packet, now);
  if (result === PACKET_FULL) return false;
  if (result === PACKET_QUEUED) return true;

  if (!slowHasRoom(1)) return false;
  toSlowPath(packet, length, result);
  return true;
}

/** Looks the parsed packet up and sends it; untouched unless PACKET_QUEUED. */
function sendPacket(packet: usize, now: i32): i32 {
  const found = findRoute(packet, 1);
  if (found !== PACKET_QUEUED) return found;
  if (!trainsHaveRoom(1, parsedLength + DATAGRAM_OVERHEAD)) return PACKET_FULL;

  noteFlow(1, now);
  applyRewrite(packet, routeFlow, packet + <usize>parsedL4, parsedKind, parsedVersion, 1);
  const peer = peerAt(routePeer);
  sealToTrain(peer, routeKeypair, packet, parsedLength, parsedEcn);
  noteSealed(peer, 1, parsedLength, now);
  return PACKET_QUEUED;
}

function takeSuperPacket(packet: usize, now: i32): bool {
  const found = findRoute(packet, splitCount);
  if (found !== PACKET_QUEUED) {
    if (!slowHasRoom(splitCount)) return false;
    splitBegin(packet);
    for (let i = 0; i < splitCount; i++) {
      const at = splitPacket(packet, i);
      toSlowPath(at, splitLength, found);
    }
    return true;
  }
  if (!trainsHaveRoom(splitCount, splitHeader + splitSize + DATAGRAM_OVERHEAD)) return false;

  noteFlow(splitCount, now);
  applyRewrite(packet, routeFlow, packet + <usize>parsedL4, parsedKind, parsedVersion, 0);
  splitBegin(packet);
  const peer = peerAt(routePeer);
  for (let i = 0; i < splitCount; i++) {
    const at = splitPacket(packet, i);
    sealToTrain(peer, routeKeypair, at, splitLength, parsedEcn);
  }
  noteSealed(peer, splitCount, parsedLength + (splitCount - 1) * splitHeader, now);
  return true;
}

/** PACKET_QUEUED if the parsed packet has a flow and its peer can seal `messages` more; sets the `route*` variables. */
function findRoute(packet: usize, messages: i32): i32 {
  if (parsedKind === KIND_ICMP || isControlFrame(packet)) return PACKET_MISS;
  routeFlow = flowFind(packet, FLOW_SCOPE_TUN);
  if (routeFlow === 0) return PACKET_MISS;

  routePeer = load<i32>(routeFlow, FLOW_PEER);
  routeKeypair = sendKeypair(peerAt(routePeer));
  if (routeKeypair === 0) return PACKET_NO_KEYPAIR;
  return counterAllows(routeKeypair, messages) ? PACKET_QUEUED : PACKET_NO_KEYPAIR;
}

/** Counts the parsed packet in its flow and its NAT entry. */
function noteFlow(packets: i32, now: i32): void {
  flowTouch(routeFlow, parsedLength - parsedPayload, now);
  if (packets > 1)
    store<u64>(routeFlow, load<u64>(routeFlow, FLOW_PACKETS) + <u64>(packets - 1), FLOW_PACKETS);
  const nat = load<i32>(routeFlow, FLOW_NAT);
  if (nat === 0) return;
  natNote(nat - 1, load<u32>(routeFlow, FLOW_REWRITE) & REWRITE_OUTGOING, parsedTcpFlags, now);
}

function toSlowPath(packet: usize, length: i32, result: i32): void {
  const slot = slowSlot();
  memory.copy(slot, packet, length);
  if (result === PACKET_MISS) {
    slowPut(SLOW_TUN_PACKET, slot, length, 0, 0);
  } else {
    slowPut(SLOW_NO_KEYPAIR, slot, length, routePeer, 0);
    countExhausted();
  }
}

/** After PACKET_NO_KEYPAIR: there is a keypair, but its counter may not go further. */
function countExhausted(): void {
  if (routeKeypair !== 0) drop(DROP_COUNTER_EXHAUSTED);
}
