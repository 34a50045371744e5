// NAT of DNS resources (tunnel-core §14, HEAD): a bijection, per owner, between
//   inside  = (kind, value, proxy IP)   what the client sends, and
//   outside = (kind, value, real IP)    what the network sees.
// A value is a port or an echo identifier. The destination port is part of neither: one entry serves all ports.
//
// Outgoing: the entry of the inside key if there is one, whatever its proxy IP stands for by now; else a new one.
// Incoming: the entry of the outside key, or the news that it has expired.
// Removal happens only in `natTick` and `natReset`.

import {
  KIND_TCP,
  NAT_BASE,
  NAT_CAPACITY,
  NAT_ENTRY_BYTES,
  NAT_EXHAUSTED,
  NAT_EXPIRED,
  NAT_NONE,
} from "../abi";
import { chooseOutside } from "./choose";
import { dropOwner, enlist, expire, forget, liveCount, takeFree, touchExpired } from "./entries";
import { addressHigh, addressLow, insideFind, insideLink, outsideFind, outsideLink, ownerKey } from "./index";
import {
  ENTRY_FLAGS,
  ENTRY_GENERATION,
  ENTRY_INSIDE_VALUE,
  ENTRY_KIND,
  ENTRY_LIST_NEXT,
  ENTRY_OUTGOING_AT,
  ENTRY_OUTSIDE_VALUE,
  ENTRY_OWNER,
  ENTRY_PACKET_AT,
  ENTRY_PROXY_ADDRESS,
  ENTRY_REAL_ADDRESS,
  ENTRY_STATE,
  FLAG_CONFIRMED,
  FLAG_FIN_BOTH,
  FLAG_FIN_INCOMING,
  FLAG_FIN_OUTGOING,
  FLAG_RST,
  STATE_EXPIRED,
  STATE_LIVE,
} from "./layout";
import { isDue, sweepBegin, sweepFirst, wheelPlace, wheelRemove, wheelTake } from "./wheel";

const TCP_FIN = 1;
const TCP_SYN = 2;
const TCP_RST = 4;
const TCP_ACK = 16;

/**
 * The entry for an outgoing packet, created if needed (§14.2); refreshes it. `value` is in host order; addresses
 * have 4 or 16 bytes by `version`. Returns the entry, or NAT_EXHAUSTED when no outside value or no entry is free.
 */
export function natOutgoing(
  owner: i32,
  kind: i32,
  value: i32,
  proxy: usize,
  real: usize,
  version: i32,
  now: u32,
): i32 {
  const key = ownerKey(owner, kind, version);
  const known = insideFind(key, value, addressLow(proxy, version), addressHigh(proxy, version));
  if (known !== 0) {
    refreshOutgoing(known, now);
    return idOf(known);
  }

  const low = addressLow(real, version);
  const high = addressHigh(real, version);
  const outsideValue = chooseOutside(key, value, low, high);
  if (outsideValue < 0) return NAT_EXHAUSTED;
  const expired = outsideFind(key, outsideValue, low, high);
  if (expired !== 0) forget(expired);

  const entry = takeFree();
  if (entry === 0) return NAT_EXHAUSTED;
  store<u32>(entry, key, ENTRY_OWNER);
  store<u16>(entry, <u16>value, ENTRY_INSIDE_VALUE);
  store<u16>(entry, <u16>outsideValue, ENTRY_OUTSIDE_VALUE);
  store<u64>(entry, addressLow(proxy, version), ENTRY_PROXY_ADDRESS);
  store<u64>(entry, addressHigh(proxy, version), ENTRY_PROXY_ADDRESS + 8);
  store<u64>(entry, low, ENTRY_REAL_ADDRESS);
  store<u64>(entry, high, ENTRY_REAL_ADDRESS + 8);
  store<u8>(entry, 0, ENTRY_FLAGS);
  refreshOutgoing(entry, now);
  enlist(entry);
  insideLink(entry);
  outsideLink(entry);
  wheelPlace(entry);
  return idOf(entry);
}

/**
 * The entry that a packet from the network belongs to (§14.4); a hit counts as a reply.
 * Returns the entry, NAT_EXPIRED when it was removed, or NAT_NONE when the key was never used.
 */
export function natIncoming(owner: i32, kind: i32, value: i32, real: usize, version: i32, now: u32): i32 {
  const key = ownerKey(owner, kind, version);
  const entry = outsideFind(key, value, addressLow(real, version), addressHigh(real, version));
  if (entry === 0) return NAT_NONE;
  if (load<u8>(entry, ENTRY_STATE) === STATE_EXPIRED) {
    touchExpired(entry);
    return NAT_EXPIRED;
  }
  refreshIncoming(entry, now);
  return idOf(entry);
}

/**
 * Notes a packet of `entry`: refreshes it, and for TCP tracks RST and FIN from the flags byte (§14.3).
 * Called for each translated packet. Ignores entries that are not live.
 */
export function natNote(entry: i32, outgoing: i32, tcpFlags: i32, now: u32): void {
  if (!natIsLive(entry)) return;
  const at = natEntry(entry);
  if (outgoing !== 0) {
    refreshOutgoing(at, now);
  } else {
    refreshIncoming(at, now);
  }
  if ((tcpFlags & (TCP_SYN | TCP_FIN | TCP_RST)) !== 0 && load<u8>(at, ENTRY_KIND) === KIND_TCP) {
    noteFlags(at, outgoing, tcpFlags);
  }
}

/** Address of an entry; layout in `layout.ts`. Valid until the entry is removed. */
export function natEntry(entry: i32): usize {
  return <usize>NAT_BASE + <usize>entry * NAT_ENTRY_BYTES;
}

/** Whether `entry` is in the table and not removed. */
export function natIsLive(entry: i32): bool {
  return entry >= 0 && entry < NAT_CAPACITY && load<u8>(natEntry(entry), ENTRY_STATE) === STATE_LIVE;
}

/** A number that changes whenever `entry` is removed. */
export function natGeneration(entry: i32): u32 {
  return load<u32>(natEntry(entry), ENTRY_GENERATION);
}

/** Removes all entries of `owner` and forgets its expired keys (§13.7 step 1). */
export function natReset(owner: i32): void {
  dropOwner(owner);
}

/** Removes what is due at `now` and returns how many. Call at least once a second while `natCount` is not 0. */
export function natTick(now: u32): i32 {
  const first = sweepFirst();
  const buckets = sweepBegin(now);
  if (liveCount === 0) return 0;

  let removed = 0;
  for (let i = 0; i < buckets; i++) removed += sweepBucket(first + i, now);
  return removed;
}

/** Live entries of all owners. */
export function natCount(): i32 {
  return liveCount;
}

function refreshOutgoing(entry: usize, now: u32): void {
  store<u32>(entry, now, ENTRY_PACKET_AT);
  store<u32>(entry, now, ENTRY_OUTGOING_AT);
}

function refreshIncoming(entry: usize, now: u32): void {
  store<u32>(entry, now, ENTRY_PACKET_AT);
  store<u8>(entry, <u8>(load<u8>(entry, ENTRY_FLAGS) | FLAG_CONFIRMED), ENTRY_FLAGS);
}

function noteFlags(entry: usize, outgoing: i32, tcpFlags: i32): void {
  const before = <i32>load<u8>(entry, ENTRY_FLAGS);
  let after = before;
  // A new connection on the same ports must not inherit the end of the old one (quirk Q11).
  if ((tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN) after &= ~(FLAG_FIN_BOTH | FLAG_RST);
  if ((tcpFlags & TCP_FIN) !== 0) after |= outgoing !== 0 ? FLAG_FIN_OUTGOING : FLAG_FIN_INCOMING;
  if ((tcpFlags & TCP_RST) !== 0) after |= FLAG_RST;
  if (after === before) return;

  store<u8>(entry, <u8>after, ENTRY_FLAGS);
  wheelRemove(entry);
  wheelPlace(entry);
}

function sweepBucket(bucket: i32, now: u32): i32 {
  let removed = 0;
  let entry = wheelTake(bucket);
  while (entry !== 0) {
    const next = <usize>load<u32>(entry, ENTRY_LIST_NEXT);
    if (isDue(entry, now)) {
      expire(entry);
      removed += 1;
    } else {
      wheelPlace(entry);
    }
    entry = next;
  }
  return removed;
}

function idOf(entry: usize): i32 {
  return <i32>((entry - NAT_BASE) / NAT_ENTRY_BYTES);
}
