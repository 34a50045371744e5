// Peers and their keypairs: what is looked up per message, and what each message leaves behind for the timers.

import {
  KEYPAIR_BYTES,
  KEYPAIR_CONFIRMED,
  KEYPAIR_FLAGS,
  KEYPAIR_LOCAL_INDEX,
  KEYPAIR_RECEIVE_STATE,
  KEYPAIR_RECEIVES,
  KEYPAIR_REMOTE_INDEX,
  KEYPAIR_SEND_STATE,
  KEYPAIRS_BASE,
  KEYPAIRS_PER_PEER,
  PEER_BYTES,
  PEER_CAPACITY,
  PEER_CHANNEL,
  PEER_EPOCH,
  PEER_LIVE,
  PEER_PATH,
  PEER_SEND_KEYPAIR,
  PEER_TOUCHED,
  PEERS_BASE,
} from "../abi";
import { aeadInit } from "../crypto/aead";

const KEY_BYTES: usize = 32;

/** Where the search for a free slot starts: a freed slot rests as long as others are free. */
let nextPeer: i32 = 0;

export function peerAt(peer: i32): usize {
  return <usize>PEERS_BASE + <usize>peer * PEER_BYTES;
}

export function isPeer(peer: i32): bool {
  return peer >= 0 && peer < PEER_CAPACITY && load<u32>(peerAt(peer), PEER_LIVE) !== 0;
}

/** Takes a free peer slot; −1 when all are in use. Its epoch continues, so flows of a former owner stay invalid. */
export function peerAdd(): i32 {
  for (let tried = 0; tried < PEER_CAPACITY; tried++) {
    const peer = (nextPeer + tried) % PEER_CAPACITY;
    const at = peerAt(peer);
    if (load<u32>(at, PEER_LIVE) !== 0) continue;
    const epoch = load<u32>(at, PEER_EPOCH) + 1;
    // Its former owner may still be on the list of touched peers, and no peer is on it twice.
    const touched = load<u32>(at, PEER_TOUCHED);
    memory.fill(at, 0, PEER_BYTES);
    store<u32>(at, epoch, PEER_EPOCH);
    store<u32>(at, touched, PEER_TOUCHED);
    store<u32>(at, 1, PEER_LIVE);
    nextPeer = (peer + 1) % PEER_CAPACITY;
    return peer;
  }
  return -1;
}

/** Frees the slot, wipes its keypairs and invalidates its flows. The caller resets its NAT entries. */
export function peerRemove(peer: i32): void {
  if (!isPeer(peer)) return;
  for (let slot = 0; slot < KEYPAIRS_PER_PEER; slot++) {
    memory.fill(keypairSlot(peer, slot), 0, KEYPAIR_BYTES);
  }
  const at = peerAt(peer);
  store<u32>(at, load<u32>(at, PEER_EPOCH) + 1, PEER_EPOCH);
  store<u32>(at, 0, PEER_LIVE);
  store<u32>(at, 0, PEER_SEND_KEYPAIR);
  store<u32>(at, 0, PEER_PATH);
}

/** `path` 0: none. `channel` 0: datagrams go out as they are, otherwise as ChannelData on that channel. */
export function peerSetPath(peer: i32, path: i32, channel: i32): void {
  if (!isPeer(peer)) return;
  store<u32>(peerAt(peer), path, PEER_PATH);
  store<u32>(peerAt(peer), channel, PEER_CHANNEL);
}

/**
 * Installs a keypair in the slot that its local index names, in place of what was there.
 *
 * `keys`: 32 bytes to send with, 32 bytes to receive with; wiped before it returns.
 * `flags`: KEYPAIR_CONFIRMED for a keypair that we initiated.
 */
export function keypairAdd(peer: i32, localIndex: i32, remoteIndex: i32, flags: i32, keys: usize): void {
  if (isPeer(peer)) {
    const keypair = keypairSlot(peer, localIndex);
    wipeKeypair(peer, keypair);
    aeadInit(keypair + KEYPAIR_SEND_STATE, keys);
    aeadInit(keypair + KEYPAIR_RECEIVE_STATE, keys + KEY_BYTES);
    store<u32>(keypair, localIndex, KEYPAIR_LOCAL_INDEX);
    store<u32>(keypair, remoteIndex, KEYPAIR_REMOTE_INDEX);
    store<u32>(keypair, KEYPAIR_RECEIVES | (flags & KEYPAIR_CONFIRMED), KEYPAIR_FLAGS);
  }
  memory.fill(keys, 0, 2 * KEY_BYTES);
}

export function keypairRemove(peer: i32, localIndex: i32): void {
  const keypair = keypairFind(peer, localIndex);
  if (keypair !== 0) wipeKeypair(peer, keypair);
}

/** Chooses the keypair to send with. False: it is not there, and the choice stays as it was. */
export function keypairSelect(peer: i32, localIndex: i32): bool {
  const keypair = keypairFind(peer, localIndex);
  if (keypair === 0) return false;
  store<u32>(peerAt(peer), idOf(keypair) + 1, PEER_SEND_KEYPAIR);
  return true;
}

export function keypairDeselect(peer: i32): void {
  if (isPeer(peer)) store<u32>(peerAt(peer), 0, PEER_SEND_KEYPAIR);
}

/** Pointer to the live keypair of `peer` with that local index, 0 if there is none. */
export function keypairFind(peer: i32, localIndex: i32): usize {
  if (!isPeer(peer)) return 0;
  const keypair = keypairSlot(peer, localIndex);
  return isLive(keypair, localIndex) ? keypair : 0;
}

/** Pointer to the keypair that a data message with this receiver index belongs to, 0 if none is live. */
export function keypairOf(receiverIndex: i32): usize {
  const peer = peerOfIndex(receiverIndex);
  if (load<u32>(peerAt(peer), PEER_LIVE) === 0) return 0;
  const keypair = keypairSlot(peer, receiverIndex);
  return isLive(keypair, receiverIndex) ? keypair : 0;
}

/** Bits 8–18 of a local index (connectivity §10.3). */
export function peerOfIndex(localIndex: i32): i32 {
  return (localIndex >> 8) & (PEER_CAPACITY - 1);
}

/** Pointer to the keypair to send with, 0 if the peer has none or no path. */
export function sendKeypair(peer: usize): usize {
  const choice = load<u32>(peer, PEER_SEND_KEYPAIR);
  if (choice === 0 || load<u32>(peer, PEER_PATH) === 0) return 0;
  return <usize>KEYPAIRS_BASE + <usize>(choice - 1) * KEYPAIR_BYTES;
}

function keypairSlot(peer: i32, localIndex: i32): usize {
  const id = peer * KEYPAIRS_PER_PEER + (localIndex & (KEYPAIRS_PER_PEER - 1));
  return <usize>KEYPAIRS_BASE + <usize>id * KEYPAIR_BYTES;
}

function isLive(keypair: usize, localIndex: i32): bool {
  return (
    load<u32>(keypair, KEYPAIR_LOCAL_INDEX) === <u32>localIndex &&
    (load<u32>(keypair, KEYPAIR_FLAGS) & KEYPAIR_RECEIVES) !== 0
  );
}

function idOf(keypair: usize): u32 {
  return <u32>((keypair - <usize>KEYPAIRS_BASE) / KEYPAIR_BYTES);
}

function wipeKeypair(peer: i32, keypair: usize): void {
  memory.fill(keypair, 0, KEYPAIR_BYTES);
  const at = peerAt(peer);
  if (load<u32>(at, PEER_SEND_KEYPAIR) === idOf(keypair) + 1) store<u32>(at, 0, PEER_SEND_KEYPAIR);
}
