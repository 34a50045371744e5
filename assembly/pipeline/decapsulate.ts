// UDP to TUN, one datagram after the other:
//   sort → find the keypair → replay check → open into a slot → note the peer → parse → find the flow → note NAT →
//   rewrite → merge ECN → coalesce into frames.
// Nothing of a message is looked at before its tag held. What the core cannot decide stays in its SLOW slot.

import {
  BATCH_DONE,
  BATCH_MORE,
  CHANNEL_FIRST,
  CHANNEL_HEADER_BYTES,
  CHANNEL_LAST,
  DATAGRAM_IN_BASE,
  DATAGRAM_IN_COUNT,
  DATAGRAM_IN_CURSOR,
  DATAGRAM_IN_DESC_BYTES,
  DATAGRAM_IN_OFFSET,
  DROP_NONE,
  DROP_OVERSIZED,
  DROP_UNKNOWN_INDEX,
  FLOW_NAT,
  FLOW_REWRITE,
  KEYPAIR_CONFIRMED,
  KEYPAIR_FLAGS,
  KIND_ICMP,
  MAX_DATAGRAM_BYTES,
  MAX_PACKET_BYTES,
  PACKET_DROPPED,
  PACKET_FULL,
  PACKET_MISS,
  PACKET_QUEUED,
  REWRITE_OUTGOING,
  SLOW_DATAGRAM,
  SLOW_KEYPAIR_CONFIRMED,
  SLOW_PEER_PACKET,
  UDP_IN_BUFFERS,
} from "../abi";
import { flowFind, flowTouch } from "../flow/table";
import {
  isControlFrame,
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPayload,
  parsedTcpFlags,
  parsedVersion,
  parsePadded,
} from "../ip/parse";
import { applyRewrite, mergeEcn } from "../ip/rewrite";
import { natNote } from "../nat/table";
import { coalesceFinish, coalescePut } from "../offload/coalesce";
import { framesBegin, framesHaveRoom } from "../offload/frames";
import { noteInner, noteReceived } from "../wg/activity";
import { keypairOf, peerAt, peerOfIndex } from "../wg/peers";
import { isDataMessage, MESSAGE_OVERHEAD, openMessage, receiverIndex } from "../wg/transport";
import { drop, setSlowInput, slowHasRoom, slowPut, slowSlot } from "./slow";

/**
 * Processes receive buffers from DATAGRAM_IN_CURSOR and DATAGRAM_IN_OFFSET on. `now` is a tick.
 * BATCH_DONE, or BATCH_MORE: drain frames and the slow path, then call again with cursor and offset as they are.
 */
export function decapsulate(now: i32): i32 {
  framesBegin();
  const count = min(load<i32>(DATAGRAM_IN_COUNT), UDP_IN_BUFFERS);
  let result = BATCH_DONE;
  let cursor = load<i32>(DATAGRAM_IN_CURSOR);
  while (cursor < count && result === BATCH_DONE) {
    setSlowInput(cursor);
    result = takeTrain(<usize>DATAGRAM_IN_BASE + <usize>cursor * DATAGRAM_IN_DESC_BYTES, now);
    if (result === BATCH_DONE) {
      cursor += 1;
      store<i32>(DATAGRAM_IN_CURSOR, cursor);
      store<i32>(DATAGRAM_IN_OFFSET, 0);
    }
  }
  coalesceFinish();
  return result;
}

/**
 * Runs one decrypted packet of `length` bytes (padding allowed) at `packet` through lookup and rewrite, as if `peer`
 * had just sent it in a datagram with that ECN codepoint. Returns PACKET_*; it goes into no SLOW slot.
 */
export function deliverPacket(peer: i32, packet: usize, length: i32, ecn: i32, now: i32): i32 {
  framesBegin();
  if (!framesHaveRoom(MAX_PACKET_BYTES)) return PACKET_FULL;
  const refused = parsePadded(packet, length, MAX_PACKET_BYTES);
  if (refused !== DROP_NONE) {
    drop(refused);
    return PACKET_DROPPED;
  }
  const result = receivePacket(peer, packet, ecn, now);
  coalesceFinish();
  return result;
}

function takeTrain(descriptor: usize, now: i32): i32 {
  const buffer = <usize>load<u32>(descriptor);
  const length = load<i32>(descriptor, 4);
  const segment = load<i32>(descriptor, 8);
  const ecn = load<i32>(descriptor, 12);
  let at = load<i32>(DATAGRAM_IN_OFFSET);
  while (at < length) {
    // A datagram makes at most one frame, or two descriptors: keypair confirmed, and its packet.
    if (!slowHasRoom(2) || !framesHaveRoom(MAX_PACKET_BYTES)) return BATCH_MORE;
    const size = segment > 0 ? min(segment, length - at) : length - at;
    takeDatagram(buffer + <usize>at, size, ecn, now);
    at += size;
    store<i32>(DATAGRAM_IN_OFFSET, at);
  }
  return BATCH_DONE;
}

function takeDatagram(datagram: usize, length: i32, ecn: i32, now: i32): void {
  if (length > MAX_DATAGRAM_BYTES) {
    drop(DROP_OVERSIZED);
    return;
  }
  let message = datagram;
  let messageLength = length;
  const inside = channelDataLength(datagram, length);
  if (inside > 0) {
    message += CHANNEL_HEADER_BYTES;
    messageLength = inside;
  }
  const keypair = isDataMessage(message, messageLength) ? keypairOf(receiverIndex(message)) : 0;
  if (keypair !== 0) {
    takeMessage(message, messageLength, keypair, ecn, now);
  } else if (isDataMessage(datagram, length)) {
    drop(DROP_UNKNOWN_INDEX);
  } else {
    slowPut(SLOW_DATAGRAM, datagram, length, 0, ecn);
  }
}

/** Length of the data in a ChannelData message (RFC 8656 §12.4; may be padded), 0 if it is none. */
function channelDataLength(datagram: usize, length: i32): i32 {
  if (length < CHANNEL_HEADER_BYTES) return 0;
  const channel = <i32>bswap<u16>(load<u16>(datagram));
  if (channel < CHANNEL_FIRST || channel > CHANNEL_LAST) return 0;
  const inside = <i32>bswap<u16>(load<u16>(datagram, 2));
  return inside <= length - CHANNEL_HEADER_BYTES ? inside : 0;
}

function takeMessage(message: usize, length: i32, keypair: usize, ecn: i32, now: i32): void {
  const packet = slowSlot();
  const refused = openMessage(packet, message, length, keypair);
  if (refused !== DROP_NONE) {
    drop(refused);
    return;
  }

  const localIndex = receiverIndex(message);
  const peer = peerOfIndex(localIndex);
  noteReceived(peerAt(peer), now);
  const flags = load<u32>(keypair, KEYPAIR_FLAGS);
  if ((flags & KEYPAIR_CONFIRMED) === 0) {
    store<u32>(keypair, flags | KEYPAIR_CONFIRMED, KEYPAIR_FLAGS);
    slowPut(SLOW_KEYPAIR_CONFIRMED, 0, 0, peer, localIndex);
  }
  const text = length - MESSAGE_OVERHEAD;
  if (text > 0) takeInner(peer, packet, text, ecn, now);
}

function takeInner(peer: i32, packet: usize, length: i32, ecn: i32, now: i32): void {
  noteInner(peerAt(peer), length, now);
  const refused = parsePadded(packet, length, MAX_PACKET_BYTES);
  if (refused !== DROP_NONE) {
    drop(refused);
    return;
  }

  const own = parsedLength;
  if (receivePacket(peer, packet, ecn, now) === PACKET_QUEUED) return;
  slowPut(SLOW_PEER_PACKET, packet, own, peer, ecn);
}

/** Looks the parsed packet up and queues it for the TUN device: PACKET_QUEUED, or PACKET_MISS and it is untouched. */
function receivePacket(peer: i32, packet: usize, ecn: i32, now: i32): i32 {
  if (parsedKind === KIND_ICMP || isControlFrame(packet)) return PACKET_MISS;
  const flow = flowFind(packet, peer);
  if (flow === 0) return PACKET_MISS;

  flowTouch(flow, parsedLength - parsedPayload, now);
  const nat = load<i32>(flow, FLOW_NAT);
  if (nat !== 0) natNote(nat - 1, load<u32>(flow, FLOW_REWRITE) & REWRITE_OUTGOING, parsedTcpFlags, now);
  applyRewrite(packet, flow, packet + <usize>parsedL4, parsedKind, parsedVersion, 1);
  mergeEcn(packet, ecn);
  coalescePut(packet, flow);
  return PACKET_QUEUED;
}
