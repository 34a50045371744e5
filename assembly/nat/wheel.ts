// When NAT entries are due (tunnel-core §14.3, HEAD), and the timing wheel that finds them.
//
// A bucket holds the entries whose deadline fell into its 1,024 ms when they were placed. Refreshing an entry
// moves its deadline, not the entry: a sweep that meets an entry too early places it anew. Only FIN and RST make
// a deadline earlier, and only they move an entry at once.
//
// Ticks are u32 milliseconds that wrap. 2^32 is a multiple of the wheel's period, so bucket numbers wrap with them.

import { KIND_TCP, NAT_TTL_FIN_MS, NAT_TTL_TCP_MS, NAT_TTL_UDP_MS, NAT_TTL_UNCONFIRMED_MS } from "../abi";
import {
  ENTRY_BUCKET,
  ENTRY_FLAGS,
  ENTRY_KIND,
  ENTRY_LIST_NEXT,
  ENTRY_LIST_PREV,
  ENTRY_OUTGOING_AT,
  ENTRY_PACKET_AT,
  FLAG_CONFIRMED,
  FLAG_FIN_BOTH,
  FLAG_RST,
  NAT_WHEEL_HEADS,
} from "./layout";

const BUCKET_SHIFT: u32 = 10;
/** 8,192 × 1,024 ms = 8,388 s, more than the longest time-to-live. */
const BUCKETS = 8192;

let sweptAt: u32 = 0;

/** The tick at which `entry` is due; with RST seen the tick of the last sweep, so the next one takes it. */
export function deadlineOf(entry: usize): u32 {
  const flags = <i32>load<u8>(entry, ENTRY_FLAGS);
  if ((flags & FLAG_RST) !== 0) return sweptAt;
  if ((flags & FLAG_FIN_BOTH) === FLAG_FIN_BOTH) return load<u32>(entry, ENTRY_PACKET_AT) + NAT_TTL_FIN_MS;
  if ((flags & FLAG_CONFIRMED) === 0) return load<u32>(entry, ENTRY_OUTGOING_AT) + NAT_TTL_UNCONFIRMED_MS;
  const ttl = load<u8>(entry, ENTRY_KIND) === KIND_TCP ? NAT_TTL_TCP_MS : NAT_TTL_UDP_MS;
  return load<u32>(entry, ENTRY_PACKET_AT) + ttl;
}

/** Whether `entry` is due at `now`, the tick of the sweep in progress. */
export function isDue(entry: usize, now: u32): bool {
  return <i32>(now - deadlineOf(entry)) >= 0;
}

/** Puts an entry that is in no bucket into the bucket of its deadline, never behind the next sweep. */
export function wheelPlace(entry: usize): void {
  let deadline = deadlineOf(entry);
  if (<i32>(deadline - sweptAt) < 0) deadline = sweptAt;
  const bucket = (deadline >> BUCKET_SHIFT) & (BUCKETS - 1);
  const head = headOf(bucket);
  const next = load<u32>(head);
  store<u16>(entry, <u16>bucket, ENTRY_BUCKET);
  store<u32>(entry, next, ENTRY_LIST_NEXT);
  store<u32>(entry, 0, ENTRY_LIST_PREV);
  if (next !== 0) store<u32>(<usize>next, <u32>entry, ENTRY_LIST_PREV);
  store<u32>(head, <u32>entry);
}

export function wheelRemove(entry: usize): void {
  const next = load<u32>(entry, ENTRY_LIST_NEXT);
  const prev = load<u32>(entry, ENTRY_LIST_PREV);
  if (next !== 0) store<u32>(<usize>next, prev, ENTRY_LIST_PREV);
  if (prev !== 0) {
    store<u32>(<usize>prev, next, ENTRY_LIST_NEXT);
  } else {
    store<u32>(headOf(load<u16>(entry, ENTRY_BUCKET)), next);
  }
}

/** Begins a sweep at `now`: returns how many buckets to take, starting with `sweepFirst()`'s value before the call. */
export function sweepBegin(now: u32): i32 {
  // 22 bits of bucket numbers: the wheel's 13 and the laps that fit into a u32 tick.
  const passed = <i32>(((now >> BUCKET_SHIFT) - (sweptAt >> BUCKET_SHIFT)) & 0x3fffff);
  sweptAt = now;
  // The current bucket is only partly over, so each sweep takes it and the next one takes it again.
  return min(passed + 1, BUCKETS);
}

/** Number of the first bucket that the next sweep has to take. */
export function sweepFirst(): i32 {
  return <i32>((sweptAt >> BUCKET_SHIFT) & (BUCKETS - 1));
}

/** Empties the bucket with that number (modulo the wheel) and returns its first entry, chained by ENTRY_LIST_NEXT. */
export function wheelTake(bucket: i32): usize {
  const head = headOf(bucket & (BUCKETS - 1));
  const first = <usize>load<u32>(head);
  store<u32>(head, 0);
  return first;
}

function headOf(bucket: u32): usize {
  return <usize>NAT_WHEEL_HEADS + ((<usize>bucket) << 2);
}
