// The two hash indexes of the NAT: inside and outside keys. Both chain entries, so deleting leaves no tombstone.
//
// The value is added to the hash of the rest of the key: the values of one address stand in neighbouring
// buckets, never collide with each other, and a search for a free one walks memory in order.

import { NAT_CAPACITY } from "../abi";
import { hash3 } from "../flow/hash";
import {
  ENTRY_INSIDE_NEXT,
  ENTRY_INSIDE_VALUE,
  ENTRY_OUTSIDE_NEXT,
  ENTRY_OUTSIDE_VALUE,
  ENTRY_OWNER,
  ENTRY_PROXY_ADDRESS,
  ENTRY_REAL_ADDRESS,
  NAT_INSIDE_HEADS,
  NAT_OUTSIDE_HEADS,
} from "./layout";

/** Owner, kind and IP version as they stand at ENTRY_OWNER. */
export function ownerKey(owner: i32, kind: i32, version: i32): u32 {
  return <u32>owner | ((<u32>kind) << 16) | ((<u32>version) << 24);
}

/** First and second half of the address at `ptr`, of which an IPv4 address has 4 bytes. */
export function addressLow(ptr: usize, version: i32): u64 {
  return version === 4 ? <u64>load<u32>(ptr) : load<u64>(ptr);
}

export function addressHigh(ptr: usize, version: i32): u64 {
  return version === 4 ? 0 : load<u64>(ptr, 8);
}

/** Address of the live entry with that inside key, or 0. */
export function insideFind(key: u32, value: i32, low: u64, high: u64): usize {
  let entry = <usize>load<u32>(bucket(NAT_INSIDE_HEADS, key, value, low, high));
  while (entry !== 0) {
    if (
      <i32>load<u16>(entry, ENTRY_INSIDE_VALUE) === value &&
      load<u64>(entry, ENTRY_PROXY_ADDRESS) === low &&
      load<u64>(entry, ENTRY_PROXY_ADDRESS + 8) === high &&
      load<u32>(entry, ENTRY_OWNER) === key
    ) {
      return entry;
    }
    entry = <usize>load<u32>(entry, ENTRY_INSIDE_NEXT);
  }
  return 0;
}

/** Address of the live or expired entry with that outside key, or 0. */
export function outsideFind(key: u32, value: i32, low: u64, high: u64): usize {
  let entry = <usize>load<u32>(bucket(NAT_OUTSIDE_HEADS, key, value, low, high));
  while (entry !== 0) {
    if (
      <i32>load<u16>(entry, ENTRY_OUTSIDE_VALUE) === value &&
      load<u64>(entry, ENTRY_REAL_ADDRESS) === low &&
      load<u64>(entry, ENTRY_REAL_ADDRESS + 8) === high &&
      load<u32>(entry, ENTRY_OWNER) === key
    ) {
      return entry;
    }
    entry = <usize>load<u32>(entry, ENTRY_OUTSIDE_NEXT);
  }
  return 0;
}

export function insideLink(entry: usize): void {
  chain(insideBucket(entry), entry, ENTRY_INSIDE_NEXT);
}

export function insideUnlink(entry: usize): void {
  unchain(insideBucket(entry), entry, ENTRY_INSIDE_NEXT);
}

export function outsideLink(entry: usize): void {
  chain(outsideBucket(entry), entry, ENTRY_OUTSIDE_NEXT);
}

export function outsideUnlink(entry: usize): void {
  unchain(outsideBucket(entry), entry, ENTRY_OUTSIDE_NEXT);
}

function insideBucket(entry: usize): usize {
  const low = load<u64>(entry, ENTRY_PROXY_ADDRESS);
  const high = load<u64>(entry, ENTRY_PROXY_ADDRESS + 8);
  return bucket(
    NAT_INSIDE_HEADS,
    load<u32>(entry, ENTRY_OWNER),
    load<u16>(entry, ENTRY_INSIDE_VALUE),
    low,
    high,
  );
}

function outsideBucket(entry: usize): usize {
  const low = load<u64>(entry, ENTRY_REAL_ADDRESS);
  const high = load<u64>(entry, ENTRY_REAL_ADDRESS + 8);
  return bucket(
    NAT_OUTSIDE_HEADS,
    load<u32>(entry, ENTRY_OWNER),
    load<u16>(entry, ENTRY_OUTSIDE_VALUE),
    low,
    high,
  );
}

function bucket(heads: usize, key: u32, value: i32, low: u64, high: u64): usize {
  return heads + <usize>(((hash3(<u64>key, low, high) + <u32>value) & (NAT_CAPACITY - 1)) << 2);
}

function chain(head: usize, entry: usize, nextOffset: usize): void {
  store<u32>(entry + nextOffset, load<u32>(head));
  store<u32>(head, <u32>entry);
}

function unchain(head: usize, entry: usize, nextOffset: usize): void {
  let link = head;
  while (<usize>load<u32>(link) !== entry) link = <usize>load<u32>(link) + nextOffset;
  store<u32>(link, load<u32>(entry + nextOffset));
}
