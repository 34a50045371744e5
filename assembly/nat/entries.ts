// Storage of NAT entries: free, live, expired.
//
//   free ──take──► live ──expire──► expired ──forget──► free
//                   └────────────drop───────────────────►
//
// An expired entry only remembers its outside key. The oldest ones make room when more than EXPIRED_LIMIT are
// remembered or when no other entry is left.

import { NAT_BASE, NAT_CAPACITY, NAT_ENTRY_BYTES } from "../abi";
import { insideUnlink, outsideUnlink } from "./index";
import {
  ENTRY_GENERATION,
  ENTRY_INSIDE_NEXT,
  ENTRY_LIST_NEXT,
  ENTRY_LIST_PREV,
  ENTRY_OWNER,
  ENTRY_OWNER_NEXT,
  ENTRY_OWNER_PREV,
  ENTRY_STATE,
  NAT_OWNER_HEADS,
  STATE_EXPIRED,
  STATE_FREE,
  STATE_LIVE,
} from "./layout";
import { wheelRemove } from "./wheel";

/** Outside keys that are remembered while untouched memory is left (quirk Q12 asks for 65,536; 10 MiB). */
const EXPIRED_LIMIT = 131072;

let touched: usize = 0;
let firstFree: usize = 0;
let newestExpired: usize = 0;
let oldestExpired: usize = 0;
let expiredCount: i32 = 0;
/** Entries in state live. */
export let liveCount: i32 = 0;
/** How often an entry stopped being live. */
export let removals: u32 = 0;

/** A free entry, or 0 when all are live. It belongs to no list; its generation is that of its last removal. */
export function takeFree(): usize {
  const isFull = touched === NAT_CAPACITY;
  if (firstFree === 0 && oldestExpired !== 0 && (isFull || expiredCount >= EXPIRED_LIMIT))
    forget(oldestExpired);
  if (firstFree !== 0) {
    const entry = firstFree;
    firstFree = <usize>load<u32>(entry, ENTRY_INSIDE_NEXT);
    return entry;
  }
  if (isFull) return 0;
  touched += 1;
  return <usize>NAT_BASE + (touched - 1) * NAT_ENTRY_BYTES;
}

/** Marks a taken entry live and lists it under its owner; the caller links it into indexes and wheel. */
export function enlist(entry: usize): void {
  const head = ownerHead(load<u16>(entry, ENTRY_OWNER));
  const next = load<u32>(head);
  store<u32>(entry, next, ENTRY_OWNER_NEXT);
  store<u32>(entry, 0, ENTRY_OWNER_PREV);
  if (next !== 0) store<u32>(<usize>next, <u32>entry, ENTRY_OWNER_PREV);
  store<u32>(head, <u32>entry);
  store<u8>(entry, STATE_LIVE, ENTRY_STATE);
  liveCount += 1;
}

/** Removes a live entry that is in no wheel bucket, remembering its outside key. */
export function expire(entry: usize): void {
  retire(entry);
  store<u8>(entry, STATE_EXPIRED, ENTRY_STATE);
  pushExpired(entry);
}

/** Counts a packet for an expired key as use, so that it is remembered longer. */
export function touchExpired(entry: usize): void {
  removeExpired(entry);
  pushExpired(entry);
}

/** Frees an expired entry. */
export function forget(entry: usize): void {
  removeExpired(entry);
  release(entry);
}

/** Frees all entries of `owner`, expired ones too. */
export function dropOwner(owner: i32): void {
  const head = ownerHead(owner);
  let entry = <usize>load<u32>(head);
  while (entry !== 0) {
    const next = <usize>load<u32>(entry, ENTRY_OWNER_NEXT);
    if (load<u8>(entry, ENTRY_STATE) === STATE_LIVE) {
      wheelRemove(entry);
      retire(entry);
      release(entry);
    } else {
      forget(entry);
    }
    entry = next;
  }
}

function retire(entry: usize): void {
  insideUnlink(entry);
  store<u32>(entry, load<u32>(entry, ENTRY_GENERATION) + 1, ENTRY_GENERATION);
  liveCount -= 1;
  removals += 1;
}

function release(entry: usize): void {
  outsideUnlink(entry);
  const next = load<u32>(entry, ENTRY_OWNER_NEXT);
  const prev = load<u32>(entry, ENTRY_OWNER_PREV);
  if (next !== 0) store<u32>(<usize>next, prev, ENTRY_OWNER_PREV);
  if (prev !== 0) {
    store<u32>(<usize>prev, next, ENTRY_OWNER_NEXT);
  } else {
    store<u32>(ownerHead(load<u16>(entry, ENTRY_OWNER)), next);
  }
  store<u8>(entry, STATE_FREE, ENTRY_STATE);
  store<u32>(entry, <u32>firstFree, ENTRY_INSIDE_NEXT);
  firstFree = entry;
}

function pushExpired(entry: usize): void {
  store<u32>(entry, <u32>newestExpired, ENTRY_LIST_NEXT);
  store<u32>(entry, 0, ENTRY_LIST_PREV);
  if (newestExpired !== 0) store<u32>(newestExpired, <u32>entry, ENTRY_LIST_PREV);
  newestExpired = entry;
  if (oldestExpired === 0) oldestExpired = entry;
  expiredCount += 1;
}

function removeExpired(entry: usize): void {
  const next = <usize>load<u32>(entry, ENTRY_LIST_NEXT);
  const prev = <usize>load<u32>(entry, ENTRY_LIST_PREV);
  if (next !== 0) store<u32>(next, <u32>prev, ENTRY_LIST_PREV);
  if (prev !== 0) store<u32>(prev, <u32>next, ENTRY_LIST_NEXT);
  if (newestExpired === entry) newestExpired = next;
  if (oldestExpired === entry) oldestExpired = prev;
  expiredCount -= 1;
}

function ownerHead(owner: u32): usize {
  return <usize>NAT_OWNER_HEADS + ((<usize>owner) << 2);
}
