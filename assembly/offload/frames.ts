// Frames for the TUN device in TUN_OUT. The region is divided into lanes of 64 KiB; in each lane frames stand one
// behind the other, and only the last one of a lane can grow. So up to LANES flows can have an open run at a time,
// and the order of the frames is that of their descriptors, wherever they stand.

import {
  ARGUMENT_BASE,
  FRAME_OUT_BASE,
  FRAME_OUT_CAPACITY,
  FRAME_OUT_COUNT,
  FRAME_OUT_DESC_BYTES,
  PACKET_FULL,
  PACKET_QUEUED,
  TUN_OUT_BASE,
  TUN_OUT_USED,
  VIRTIO_BYTES,
} from "../abi";
import { writePlainHeader } from "./virtio";

export const LANES = 16;
export const LANE_BYTES = 65536;

/** Bytes used in each lane, u32; valid while FRAME_OUT_COUNT is not 0. */
const USED: usize = memory.data(64, 16);
/** Flow whose run is open at the end of each lane, u32, 0 = none. */
const OWNERS: usize = memory.data(64, 16);

/** The lane that single packets go to while they fit. */
let packLane: i32 = 0;

/** Starts over when the host has consumed all frames. Called at the start of each call that makes frames. */
export function framesBegin(): void {
  if (load<u32>(FRAME_OUT_COUNT) !== 0) return;
  memory.fill(USED, 0, 4 * LANES);
  store<u32>(TUN_OUT_USED, 0);
  packLane = 0;
}

/** Whether one more packet of `length` bytes fits. */
export function framesHaveRoom(length: i32): bool {
  if (load<i32>(FRAME_OUT_COUNT) >= FRAME_OUT_CAPACITY) return false;
  const needed = length + VIRTIO_BYTES;
  if (laneFree(packLane) >= needed) return true;
  for (let lane = 0; lane < LANES; lane++) {
    if (laneFree(lane) >= needed) return true;
  }
  return false;
}

/** The lane in which `flow` has an open run, or −1. */
export function laneOfFlow(flow: usize): i32 {
  for (let lane = 0; lane < LANES; lane++) {
    if (load<u32>(OWNERS + ((<usize>lane) << 2)) === <u32>flow) return lane;
  }
  return -1;
}

export function laneOwner(lane: i32): usize {
  return <usize>load<u32>(OWNERS + ((<usize>lane) << 2));
}

export function setLaneOwner(lane: i32, flow: usize): void {
  store<u32>(OWNERS + ((<usize>lane) << 2), <u32>flow);
}

export function laneFree(lane: i32): i32 {
  return LANE_BYTES - load<i32>(USED + ((<usize>lane) << 2));
}

/** Where the next byte of the lane goes. */
export function laneEnd(lane: i32): usize {
  return <usize>TUN_OUT_BASE + <usize>(lane * LANE_BYTES) + <usize>load<u32>(USED + ((<usize>lane) << 2));
}

export function laneTake(lane: i32, bytes: i32): void {
  const used = USED + ((<usize>lane) << 2);
  store<i32>(used, load<i32>(used) + bytes);
  store<i32>(TUN_OUT_USED, load<i32>(TUN_OUT_USED) + bytes);
}

/** The lane with the most room, first among those without an open run; −1 if none has `needed` bytes. */
export function roomiestLane(needed: i32): i32 {
  let chosen = -1;
  let most = needed - 1;
  let isChosenOpen = true;
  for (let lane = 0; lane < LANES; lane++) {
    const free = laneFree(lane);
    const isOpen = laneOwner(lane) !== 0;
    if (free < needed || (isOpen && !isChosenOpen)) continue;
    if (free > most || (!isOpen && isChosenOpen)) {
      chosen = lane;
      most = free;
      isChosenOpen = isOpen;
    }
  }
  return chosen;
}

/** The lane for a single packet: the one that is being packed, else the roomiest. */
export function laneForPacking(needed: i32): i32 {
  if (laneOwner(packLane) !== 0 || laneFree(packLane) < needed) packLane = roomiestLane(needed);
  return packLane;
}

/** Appends a frame at the end of `lane`: plain header, then `length` bytes of `packet`. Returns its descriptor. */
export function frameAppend(lane: i32, packet: usize, length: i32): usize {
  const at = laneEnd(lane);
  writePlainHeader(at);
  memory.copy(at + VIRTIO_BYTES, packet, length);
  laneTake(lane, length + VIRTIO_BYTES);

  const count = load<u32>(FRAME_OUT_COUNT);
  const descriptor = <usize>FRAME_OUT_BASE + <usize>count * FRAME_OUT_DESC_BYTES;
  store<u32>(descriptor, <u32>at);
  store<u32>(descriptor, length + VIRTIO_BYTES, 4);
  store<u32>(FRAME_OUT_COUNT, count + 1);
  return descriptor;
}

/** Queues the IP packet of `length` bytes at ARGUMENT_BASE for the TUN device. PACKET_QUEUED or PACKET_FULL. */
export function writeTun(length: i32): i32 {
  framesBegin();
  if (!framesHaveRoom(length)) return PACKET_FULL;
  frameAppend(laneForPacking(length + VIRTIO_BYTES), ARGUMENT_BASE, length);
  return PACKET_QUEUED;
}
