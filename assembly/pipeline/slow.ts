// What leaves a pipeline for the TypeScript machines, and what does not leave it at all.

import {
  DROPS_BASE,
  SLOT_BYTES,
  SLOT_HEADROOM,
  SLOTS_BASE,
  SLOW_BASE,
  SLOW_CAPACITY,
  SLOW_COUNT,
  SLOW_DESC_BYTES,
} from "../abi";

/** Offsets inside a SLOW descriptor. */
export const SLOW_REASON: usize = 0;
export const SLOW_OFFSET: usize = 4;
export const SLOW_LENGTH: usize = 8;
export const SLOW_PEER: usize = 12;
export const SLOW_INPUT: usize = 16;
export const SLOW_DETAIL: usize = 20;

/** Counts one refused packet or datagram. */
export function drop(reason: i32): void {
  dropMany(reason, 1);
}

export function dropMany(reason: i32, packets: i32): void {
  const counter = <usize>DROPS_BASE + ((<usize>reason) << 3);
  store<u64>(counter, load<u64>(counter) + <u64>packets);
}

/** Whether `more` descriptors fit. */
export function slowHasRoom(more: i32): bool {
  return load<i32>(SLOW_COUNT) + more <= SLOW_CAPACITY;
}

/** Where the packet of the next descriptor goes: its own slot, behind the headroom. */
export function slowSlot(): usize {
  return <usize>SLOTS_BASE + <usize>load<u32>(SLOW_COUNT) * SLOT_BYTES + SLOT_HEADROOM;
}

/** Appends a descriptor for the input at work; the caller has asked `slowHasRoom`. */
export function slowPut(reason: i32, packet: usize, length: i32, peer: i32, detail: i32): void {
  const count = load<u32>(SLOW_COUNT);
  const at = slowAt(count);
  store<u32>(at, reason, SLOW_REASON);
  store<u32>(at, <u32>packet, SLOW_OFFSET);
  store<u32>(at, length, SLOW_LENGTH);
  store<u32>(at, peer, SLOW_PEER);
  store<u32>(at, slowInput, SLOW_INPUT);
  store<u32>(at, detail, SLOW_DETAIL);
  store<u32>(SLOW_COUNT, count + 1);
}

export function slowAt(index: u32): usize {
  return <usize>SLOW_BASE + <usize>index * SLOW_DESC_BYTES;
}

/** Index of the input descriptor at work. */
let slowInput: i32 = 0;

export function setSlowInput(index: i32): void {
  slowInput = index;
}
