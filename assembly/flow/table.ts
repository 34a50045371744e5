// Exact-match flow table, 4-way set associative: what the machines decided about a flow, for all its further
// packets. An entry counts only while both policy epochs and the generation of its NAT entry are those of its
// installation; everything else is a miss, and the slow path decides anew. Epochs therefore only ever grow: with a
// peer's epoch reset, flows of the peer id's former holder would come alive again.

import {
  FLOW_BYTES,
  FLOW_CAPACITY,
  FLOW_DESTINATION,
  FLOW_GLOBAL_EPOCH,
  FLOW_IP_DELTA,
  FLOW_KEY,
  FLOW_L4_DELTA,
  FLOW_NAT,
  FLOW_NAT_GENERATION,
  FLOW_NEW_ADDRESS,
  FLOW_NEW_PORT,
  FLOW_PACKETS,
  FLOW_PAYLOAD_BYTES,
  FLOW_PEER,
  FLOW_PEER_EPOCH,
  FLOW_PORTS,
  FLOW_REWRITE,
  FLOW_SOURCE,
  FLOW_USED_AT,
  FLOW_WAYS,
  FLOWS_BASE,
  GLOBAL_EPOCH,
  PEER_BYTES,
  PEER_EPOCH,
  PEERS_BASE,
  REWRITE_OUTGOING,
} from "../abi";
import { delta16, deltaBytes, fold } from "../ip/checksum";
import { parsedPorts, parsedProtocol, parsedVersion } from "../ip/parse";
import { natGeneration, natIsLive } from "../nat/table";
import { hash5 } from "./hash";

const SETS = FLOW_CAPACITY / FLOW_WAYS;
const SET_BYTES = FLOW_BYTES * FLOW_WAYS;
const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMPV6 = 58;

/**
 * Entry of the packet that was parsed last, or 0. `scope`: FLOW_SCOPE_TUN or the peer that it came from.
 * Valid until the next `flowAdd`.
 */
export function flowFind(packet: usize, scope: i32): usize {
  const key = <u32>parsedProtocol | ((<u32>parsedVersion) << 8) | ((<u32>scope) << 16);
  if (parsedVersion === 4) {
    return find(load<u32>(packet, 12), 0, load<u32>(packet, 16), 0, ((<u64>key) << 32) | parsedPorts);
  }
  const source = load<u64>(packet, 8);
  const destination = load<u64>(packet, 24);
  return find(
    source,
    load<u64>(packet, 16),
    destination,
    load<u64>(packet, 32),
    ((<u64>key) << 32) | parsedPorts,
  );
}

/** Counts a packet of `flow` with `payloadBytes` of transport payload; keeps the entry from being replaced. */
export function flowTouch(flow: usize, payloadBytes: i32, now: u32): void {
  store<u32>(flow, now, FLOW_USED_AT);
  store<u64>(flow, load<u64>(flow, FLOW_PACKETS) + 1, FLOW_PACKETS);
  store<u64>(flow, load<u64>(flow, FLOW_PAYLOAD_BYTES) + <u64>payloadBytes, FLOW_PAYLOAD_BYTES);
}

/**
 * Installs a flow; an entry with the same key is replaced. Returns its entry, or 0 when its NAT entry is not live.
 *
 * At `template` stand FLOW_BYTES in the entry's layout with key, FLOW_PEER, FLOW_REWRITE, FLOW_NAT,
 * FLOW_NEW_ADDRESS, FLOW_NEW_PORT and FLOW_USED_AT (the tick now); the core fills in the rest.
 */
export function flowAdd(template: usize): usize {
  const nat = load<u32>(template, FLOW_NAT);
  if (nat !== 0 && !natIsLive(<i32>nat - 1)) return 0;

  const entry = victim(template);
  memory.copy(entry, template, FLOW_BYTES);
  store<u32>(entry, load<u32>(GLOBAL_EPOCH), FLOW_GLOBAL_EPOCH);
  store<u32>(entry, load<u32>(peerEpochAt(load<u32>(entry, FLOW_PEER))), FLOW_PEER_EPOCH);
  store<u32>(entry, nat === 0 ? 0 : natGeneration(<i32>nat - 1), FLOW_NAT_GENERATION);
  store<u64>(entry, 0, FLOW_PACKETS);
  store<u64>(entry, 0, FLOW_PAYLOAD_BYTES);
  if (load<u32>(entry, FLOW_REWRITE) !== 0) storeDeltas(entry);
  return entry;
}

/** Invalidates all flows from and to `peer`. */
export function flowsRemovePeer(peer: i32): void {
  const at = peerEpochAt(peer);
  store<u32>(at, load<u32>(at) + 1);
}

/** Invalidates all flows. */
export function flowsRemoveAll(): void {
  store<u32>(GLOBAL_EPOCH, load<u32>(GLOBAL_EPOCH) + 1);
}

function find(source: u64, source2: u64, destination: u64, destination2: u64, tail: u64): usize {
  let entry = setOf(source, source2, destination, destination2, tail);
  const end = entry + SET_BYTES;
  while (entry < end) {
    if (
      load<u64>(entry, FLOW_PORTS) === tail &&
      load<u64>(entry, FLOW_DESTINATION) === destination &&
      load<u64>(entry, FLOW_SOURCE) === source &&
      load<u64>(entry, FLOW_DESTINATION + 8) === destination2 &&
      load<u64>(entry, FLOW_SOURCE + 8) === source2
    ) {
      return isValid(entry) ? entry : 0;
    }
    entry += FLOW_BYTES;
  }
  return 0;
}

function setOf(source: u64, source2: u64, destination: u64, destination2: u64, tail: u64): usize {
  const hash = hash5(source, source2, destination, destination2, tail);
  return <usize>FLOWS_BASE + <usize>(hash & (SETS - 1)) * SET_BYTES;
}

function isValid(entry: usize): bool {
  if (load<u32>(entry, FLOW_GLOBAL_EPOCH) !== load<u32>(GLOBAL_EPOCH)) return false;
  if (load<u32>(entry, FLOW_PEER_EPOCH) !== load<u32>(peerEpochAt(load<u32>(entry, FLOW_PEER)))) return false;
  const nat = load<u32>(entry, FLOW_NAT);
  return nat === 0 || load<u32>(entry, FLOW_NAT_GENERATION) === natGeneration(<i32>nat - 1);
}

/** Where to store the template: over its own key, else over an empty, invalid or the longest unused entry. */
function victim(template: usize): usize {
  const tail = load<u64>(template, FLOW_PORTS);
  const first = setOf(
    load<u64>(template, FLOW_SOURCE),
    load<u64>(template, FLOW_SOURCE + 8),
    load<u64>(template, FLOW_DESTINATION),
    load<u64>(template, FLOW_DESTINATION + 8),
    tail,
  );
  const now = load<u32>(template, FLOW_USED_AT);
  let chosen: usize = 0;
  let chosenAge: i64 = -1;
  for (let entry = first; entry < first + SET_BYTES; entry += FLOW_BYTES) {
    if (memory.compare(entry, template, FLOW_GLOBAL_EPOCH) === 0) return entry;
    const isUsed = load<u8>(entry, FLOW_KEY + 1) !== 0 && isValid(entry);
    const age: i64 = isUsed ? <i64>(now - load<u32>(entry, FLOW_USED_AT)) : i64.MAX_VALUE;
    if (age > chosenAge) {
      chosen = entry;
      chosenAge = age;
    }
  }
  return chosen;
}

function storeDeltas(entry: usize): void {
  const isOutgoing = (load<u32>(entry, FLOW_REWRITE) & REWRITE_OUTGOING) !== 0;
  const old = entry + (isOutgoing ? FLOW_DESTINATION : FLOW_SOURCE);
  const address = deltaBytes(old, entry + FLOW_NEW_ADDRESS, 16);

  const protocol = load<u8>(entry, FLOW_KEY);
  const isEcho = protocol === PROTOCOL_ICMP || protocol === PROTOCOL_ICMPV6;
  const oldPort = load<u16>(entry + (isOutgoing || isEcho ? FLOW_PORTS : FLOW_PORTS + 2));
  const port = delta16(oldPort, load<u16>(entry, FLOW_NEW_PORT));

  store<u16>(entry, <u16>address, FLOW_IP_DELTA);
  // ICMPv4 has no pseudo-header: only the identifier counts.
  store<u16>(entry, <u16>(protocol === PROTOCOL_ICMP ? port : fold(address + port)), FLOW_L4_DELTA);
}

function peerEpochAt(peer: u32): usize {
  return <usize>PEERS_BASE + <usize>peer * PEER_BYTES + PEER_EPOCH;
}
