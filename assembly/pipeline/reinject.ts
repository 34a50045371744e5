// After the slow path: a machine has installed a flow for a packet in a SLOW slot, and the packet runs again.

import {
  PACKET_DROPPED,
  PACKET_NO_KEYPAIR,
  SLOW_NO_KEYPAIR,
  SLOW_PEER_PACKET,
  SLOW_TUN_PACKET,
} from "../abi";
import { deliverPacket } from "./decapsulate";
import { encapsulatePacket, unsentPeer } from "./encapsulate";
import { SLOW_DETAIL, SLOW_LENGTH, SLOW_OFFSET, SLOW_PEER, SLOW_REASON, slowAt } from "./slow";

/**
 * Runs the packet of SLOW descriptor `index` through the pipeline that it left, again. Returns PACKET_*.
 *
 * PACKET_NO_KEYPAIR turns the descriptor into a SLOW_NO_KEYPAIR one with its peer set. PACKET_FULL: drain trains and
 * frames, but not the slow path, and call again. PACKET_DROPPED also for descriptors without a packet of their own.
 */
export function reinject(index: i32, now: i32): i32 {
  const at = slowAt(index);
  const reason = load<i32>(at, SLOW_REASON);
  const packet = <usize>load<u32>(at, SLOW_OFFSET);
  const length = load<i32>(at, SLOW_LENGTH);
  if (reason === SLOW_PEER_PACKET) {
    return deliverPacket(load<i32>(at, SLOW_PEER), packet, length, load<i32>(at, SLOW_DETAIL), now);
  }
  if (reason !== SLOW_TUN_PACKET && reason !== SLOW_NO_KEYPAIR) return PACKET_DROPPED;

  const result = encapsulatePacket(packet, length, now);
  if (result === PACKET_NO_KEYPAIR) {
    store<i32>(at, SLOW_NO_KEYPAIR, SLOW_REASON);
    store<i32>(at, unsentPeer(), SLOW_PEER);
  }
  return result;
}
