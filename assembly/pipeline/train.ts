// Trains in UDP_OUT: datagrams for one path and one ECN codepoint, one behind the other, all of one length but the last.
// Only the newest train grows, so datagrams leave in the order in which they were sealed (connectivity §4.5).

import {
  TRAIN_BASE,
  TRAIN_CAPACITY,
  TRAIN_COUNT,
  TRAIN_DESC_BYTES,
  TRAIN_MAX_BYTES,
  TRAIN_MAX_SEGMENTS,
  UDP_OUT_BASE,
  UDP_OUT_BYTES,
  UDP_OUT_USED,
} from "../abi";

const OFFSET: usize = 0;
const LENGTH: usize = 4;
const SEGMENT: usize = 8;
const PATH: usize = 12;
const ECN: usize = 16;
const SEGMENTS: usize = 20;
const CLOSED: usize = 24;

/** What `seal` may clobber behind a datagram. */
const SLACK = 512;

/**
 * Whether `datagrams` of at most `length` bytes fit, that are of one length but for a shorter last one.
 * They need one new train per TRAIN_MAX_BYTES or TRAIN_MAX_SEGMENTS, and one for what the newest train cannot take.
 */
export function trainsHaveRoom(datagrams: i32, length: i32): bool {
  const bytes = datagrams * length;
  const trains = bytes / (TRAIN_MAX_BYTES - length) + datagrams / TRAIN_MAX_SEGMENTS + 2;
  return (
    load<i32>(UDP_OUT_USED) + bytes + SLACK <= UDP_OUT_BYTES &&
    load<i32>(TRAIN_COUNT) + trains <= TRAIN_CAPACITY
  );
}

/** Takes `length` bytes behind the newest train, or in a new one; the caller has asked `trainsHaveRoom`. */
export function trainReserve(path: u32, ecn: u32, length: i32): usize {
  const used = load<u32>(UDP_OUT_USED);
  const count = load<u32>(TRAIN_COUNT);
  store<u32>(UDP_OUT_USED, used + length);
  const at = <usize>UDP_OUT_BASE + <usize>used;
  if (count > 0 && joins(trainAt(count - 1), path, ecn, length)) return at;

  const train = trainAt(count);
  store<u32>(train, <u32>at, OFFSET);
  store<u32>(train, length, LENGTH);
  store<u32>(train, length, SEGMENT);
  store<u32>(train, path, PATH);
  store<u32>(train, ecn, ECN);
  store<u32>(train, 1, SEGMENTS);
  store<u32>(train, 0, CLOSED);
  store<u32>(TRAIN_COUNT, count + 1);
  return at;
}

/** Appends to the train if it may: same path and ECN, not longer than the others; a shorter one closes it. */
function joins(train: usize, path: u32, ecn: u32, length: i32): bool {
  if (load<u32>(train, CLOSED) !== 0 || load<u32>(train, PATH) !== path || load<u32>(train, ECN) !== ecn)
    return false;
  const segment = load<i32>(train, SEGMENT);
  const total = load<i32>(train, LENGTH) + length;
  const segments = load<i32>(train, SEGMENTS) + 1;
  if (length > segment || total > TRAIN_MAX_BYTES || segments > TRAIN_MAX_SEGMENTS) return false;

  store<u32>(train, total, LENGTH);
  store<u32>(train, segments, SEGMENTS);
  if (length < segment) store<u32>(train, 1, CLOSED);
  return true;
}

function trainAt(index: u32): usize {
  return <usize>TRAIN_BASE + <usize>index * TRAIN_DESC_BYTES;
}
