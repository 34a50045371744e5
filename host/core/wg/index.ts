import type { PeerId } from "../id.ts";
import type { Random } from "../random.ts";

// 31            19 18        8 7             0
// +---------------+-----------+---------------+
// | per connection|  peer id  | handshake no. |   connectivity §10.3
// +---------------+-----------+---------------+
const HANDSHAKE_BITS = 8;
const PEER_BITS = 11;
const CONNECTION_SHIFT = HANDSHAKE_BITS + PEER_BITS;
const PEER_MASK = (1 << PEER_BITS) - 1;

/** Keypair slots per peer in the packet core: a local index lives in slot `index mod 8`. */
export const KEYPAIR_SLOTS = 8;

/** The peer slot that a receiver index from the network claims; its other bits are still to be compared. */
export function peerOfIndex(localIndex: number): PeerId {
  return (localIndex >>> HANDSHAKE_BITS) & PEER_MASK;
}

export function slotOfIndex(localIndex: number): number {
  return localIndex % KEYPAIR_SLOTS;
}

/** Hands out the local indexes of one connection. */
export class LocalIndexes {
  readonly #upper: number;
  #handshake = 0;

  constructor(peer: PeerId, random: Random) {
    const connection = Math.floor(random.uniform() * 2 ** (32 - CONNECTION_SHIFT));
    this.#upper = ((connection << CONNECTION_SHIFT) | (peer << HANDSHAKE_BITS)) >>> 0;
  }

  /** Counts up before each message, so the first is 1; passes over slots that hold a live keypair or handshake. */
  next(slotIsTaken: (slot: number) => boolean): number {
    do {
      this.#handshake = (this.#handshake + 1) & 0xff;
    } while (slotIsTaken(slotOfIndex(this.#handshake)));
    return this.#upper + this.#handshake;
  }

  /** Whether a receiver index belongs to this connection. */
  owns(localIndex: number): boolean {
    return localIndex >>> HANDSHAKE_BITS === this.#upper >>> HANDSHAKE_BITS;
  }
}
