// WireGuard data messages (connectivity §10.1): 4 0 0 0, receiver index, counter, ciphertext, tag.

import {
  COUNTER_LIMIT_HIGH,
  COUNTER_LIMIT_LOW,
  DROP_BAD_TAG,
  DROP_NONE,
  KEYPAIR_RECEIVE_STATE,
  KEYPAIR_REMOTE_INDEX,
  KEYPAIR_REPLAY,
  KEYPAIR_SEND_COUNTER,
  KEYPAIR_SEND_STATE,
  TAG_BYTES,
  WG_HEADER_BYTES,
} from "../abi";
import { open, seal } from "../crypto/aead";
import { replayAccept, replayCheck } from "./replay";

/** Message type 4 and its three zero bytes, as loaded little-endian. */
const DATA_TYPE: u32 = 4;
const RECEIVER: usize = 4;
const COUNTER: usize = 8;
const COUNTER_LIMIT: u64 = ((<u64>COUNTER_LIMIT_HIGH) << 32) | <u64>COUNTER_LIMIT_LOW;

/** Bytes that a data message has more than its packet. */
export const MESSAGE_OVERHEAD = WG_HEADER_BYTES + TAG_BYTES;

/** Whether a datagram has the shape of a data message. */
export function isDataMessage(message: usize, length: i32): bool {
  return length >= MESSAGE_OVERHEAD && load<u32>(message) === DATA_TYPE;
}

export function receiverIndex(message: usize): i32 {
  return load<i32>(message, RECEIVER);
}

/** Whether `messages` more may be sealed with this keypair. */
export function counterAllows(keypair: usize, messages: i32): bool {
  const counter = load<u64>(keypair, KEYPAIR_SEND_COUNTER);
  return counter <= COUNTER_LIMIT && COUNTER_LIMIT - counter >= <u64>messages;
}

/**
 * Writes the data message for the packet at `packet` to `message`, `length` + MESSAGE_OVERHEAD bytes, and moves the
 * counter on. The caller has asked `counterAllows`. Clobbers what `seal` clobbers behind it.
 */
export function sealMessage(message: usize, packet: usize, length: i32, keypair: usize): void {
  const counter = load<u64>(keypair, KEYPAIR_SEND_COUNTER);
  store<u32>(message, DATA_TYPE);
  store<u32>(message, load<u32>(keypair, KEYPAIR_REMOTE_INDEX), RECEIVER);
  store<u64>(message, counter, COUNTER);
  seal(message + WG_HEADER_BYTES, packet, length, keypair + KEYPAIR_SEND_STATE, message + COUNTER);
  store<u64>(keypair, counter + 1, KEYPAIR_SEND_COUNTER);
}

/**
 * Opens the data message of `length` bytes into `packet`; DROP_NONE, or why it was refused.
 * A refused message leaves no plaintext behind and does not move the replay window.
 */
export function openMessage(packet: usize, message: usize, length: i32, keypair: usize): i32 {
  const refused = replayCheck(keypair + KEYPAIR_REPLAY, message + COUNTER);
  if (refused !== DROP_NONE) return refused;

  const text = length - MESSAGE_OVERHEAD;
  if (!open(packet, message + WG_HEADER_BYTES, text, keypair + KEYPAIR_RECEIVE_STATE, message + COUNTER)) {
    return DROP_BAD_TAG;
  }
  return replayAccept(keypair + KEYPAIR_REPLAY, message + COUNTER);
}
