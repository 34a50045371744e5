// The end of the outbound path: one packet becomes one datagram of a train.

import {
  ARGUMENT_BASE,
  CHANNEL_HEADER_BYTES,
  DROP_COUNTER_EXHAUSTED,
  PACKET_FULL,
  PACKET_NO_KEYPAIR,
  PACKET_QUEUED,
  PEER_CHANNEL,
  PEER_PATH,
} from "../abi";
import { noteSealed } from "../wg/activity";
import { isPeer, peerAt, sendKeypair } from "../wg/peers";
import { counterAllows, MESSAGE_OVERHEAD, sealMessage } from "../wg/transport";
import { drop } from "./slow";
import { trainReserve, trainsHaveRoom } from "./train";

/** Seals `length` bytes at `packet` into the newest train or a new one; on a relayed path as ChannelData. */
export function sealToTrain(peer: usize, keypair: usize, packet: usize, length: i32, ecn: i32): void {
  const path = load<u32>(peer, PEER_PATH);
  const channel = load<u32>(peer, PEER_CHANNEL);
  const message = length + MESSAGE_OVERHEAD;
  if (channel === 0) {
    sealMessage(trainReserve(path, ecn, message), packet, length, keypair);
    return;
  }
  const at = trainReserve(path, ecn, message + CHANNEL_HEADER_BYTES);
  store<u16>(at, bswap<u16>(<u16>channel));
  store<u16>(at, bswap<u16>(<u16>message), 2);
  sealMessage(at + CHANNEL_HEADER_BYTES, packet, length, keypair);
}

/**
 * Seals the `length` bytes at ARGUMENT_BASE for `peer`, without lookup or policy; 0: a keepalive.
 * PACKET_QUEUED, PACKET_FULL or PACKET_NO_KEYPAIR.
 */
export function sealPacket(peer: i32, length: i32, now: i32): i32 {
  if (!isPeer(peer)) return PACKET_NO_KEYPAIR;
  const at = peerAt(peer);
  const keypair = sendKeypair(at);
  if (keypair === 0) return PACKET_NO_KEYPAIR;
  if (!counterAllows(keypair, 1)) {
    drop(DROP_COUNTER_EXHAUSTED);
    return PACKET_NO_KEYPAIR;
  }
  if (!trainsHaveRoom(1, length + MESSAGE_OVERHEAD + CHANNEL_HEADER_BYTES)) return PACKET_FULL;

  sealToTrain(at, keypair, ARGUMENT_BASE, length, length === 0 ? 0 : ecnOf(ARGUMENT_BASE));
  noteSealed(at, 1, length, now);
  return PACKET_QUEUED;
}

function ecnOf(packet: usize): i32 {
  const traffic = <i32>load<u8>(packet, 1);
  return load<u8>(packet) >> 4 === 6 ? (traffic >> 4) & 3 : traffic & 3;
}
