// What each message leaves behind in its peer's slot, for WireGuard's timers and the machines' idle states.

import {
  PEER_BYTES,
  PEER_CAPACITY,
  PEER_DATA_RECEIVED_AT,
  PEER_DATA_SENT_AT,
  PEER_INNER_AT,
  PEER_RECEIVED_AT,
  PEER_RX_BYTES,
  PEER_RX_PACKETS,
  PEER_SENT_AT,
  PEER_TOUCHED,
  PEER_TX_BYTES,
  PEER_TX_PACKETS,
  PEER_UNACKNOWLEDGED_SINCE,
  PEER_UNANSWERED_SINCE,
  PEERS_BASE,
  TOUCHED_BASE,
  TOUCHED_COUNT,
} from "../abi";

/** Notes `packets` sealed messages with `bytes` of inner packets in all; 0 bytes: a keepalive. */
export function noteSealed(peer: usize, packets: i32, bytes: i32, now: i32): void {
  setTick(peer, PEER_SENT_AT, now);
  store<u32>(peer, 0, PEER_UNACKNOWLEDGED_SINCE);
  if (bytes === 0) return;

  setTick(peer, PEER_DATA_SENT_AT, now);
  setTick(peer, PEER_INNER_AT, now);
  if (load<u32>(peer, PEER_UNANSWERED_SINCE) === 0) setTick(peer, PEER_UNANSWERED_SINCE, now);
  store<u64>(peer, load<u64>(peer, PEER_TX_PACKETS) + <u64>packets, PEER_TX_PACKETS);
  store<u64>(peer, load<u64>(peer, PEER_TX_BYTES) + <u64>bytes, PEER_TX_BYTES);
}

/** Notes one authenticated message, keepalives included. */
export function noteReceived(peer: usize, now: i32): void {
  setTick(peer, PEER_RECEIVED_AT, now);
  store<u32>(peer, 0, PEER_UNANSWERED_SINCE);
}

/** Notes the inner packet of an authenticated message. */
export function noteInner(peer: usize, bytes: i32, now: i32): void {
  setTick(peer, PEER_DATA_RECEIVED_AT, now);
  setTick(peer, PEER_INNER_AT, now);
  if (load<u32>(peer, PEER_UNACKNOWLEDGED_SINCE) === 0) setTick(peer, PEER_UNACKNOWLEDGED_SINCE, now);
  store<u64>(peer, load<u64>(peer, PEER_RX_PACKETS) + 1, PEER_RX_PACKETS);
  store<u64>(peer, load<u64>(peer, PEER_RX_BYTES) + <u64>bytes, PEER_RX_BYTES);
}

/** A field that leaves "none" puts its peer on the list of touched peers, once until the host drains it. */
function setTick(peer: usize, field: usize, now: i32): void {
  const at = peer + field;
  if (load<u32>(at) === 0) touch(peer);
  store<u32>(at, now);
}

function touch(peer: usize): void {
  if (load<u32>(peer, PEER_TOUCHED) !== 0) return;
  const count = load<i32>(TOUCHED_COUNT);
  if (count >= PEER_CAPACITY) return;
  store<u16>(<usize>TOUCHED_BASE + ((<usize>count) << 1), <u16>((peer - <usize>PEERS_BASE) / PEER_BYTES));
  store<i32>(TOUCHED_COUNT, count + 1);
  store<u32>(peer, 1, PEER_TOUCHED);
}
