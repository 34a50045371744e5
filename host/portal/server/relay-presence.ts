import type { RelayId } from "../../core/id.ts";
import type { Relay } from "../../core/messages.ts";
import type { Random } from "../../core/random.ts";
import { after, type Instant, type UnixTime } from "../../core/time.ts";
import { relayId, turnCredentials } from "./derivations.ts";
import type { RelayPeer } from "./peers.ts";

// portal §11
const RELAYS_PER_PEER = 2;
const QUIET_MS = 1_000;
/** A relay that comes and goes all the time must not keep others from being announced. */
const MAX_WAIT_MS = 5_000;

/** What a peer has to be told about its relays. */
export interface RelayChange {
  readonly disconnected: readonly RelayId[];
  readonly chosen: readonly RelayId[];
}

/** The relays that are online, and which of them a peer gets. */
export class RelayPresence {
  readonly #online = new Map<RelayId, RelayPeer>();
  readonly #random: Random;
  #firstChangeAt: Instant | undefined;
  #lastChangeAt: Instant | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  get count(): number {
    return this.#online.size;
  }

  /** Adds a relay that joined; returns the one with the same id that it takes the place of. */
  add(peer: RelayPeer, stampSecret: string, now: Instant): RelayPeer | undefined {
    const id = relayId(stampSecret);
    const evicted = this.#online.get(id);
    peer.id = id;
    peer.stampSecret = stampSecret;
    this.#online.set(id, peer);
    this.#noteChange(now);
    return evicted === peer ? undefined : evicted;
  }

  /** Of an evicted relay nothing is removed: its place is taken. */
  remove(peer: RelayPeer, now: Instant): void {
    if (peer.id === undefined || this.#online.get(peer.id) !== peer) return;
    this.#online.delete(peer.id);
    this.#noteChange(now);
  }

  /** End of the quiet period after the last relay that joined or left. */
  get settledAt(): Instant | undefined {
    if (this.#firstChangeAt === undefined || this.#lastChangeAt === undefined) return undefined;
    return Math.min(after(this.#lastChangeAt, QUIET_MS), after(this.#firstChangeAt, MAX_WAIT_MS));
  }

  /** True once per quiet period, when it is over. */
  settle(now: Instant): boolean {
    if (this.settledAt === undefined || now < this.settledAt) return false;
    this.#firstChangeAt = undefined;
    this.#lastChangeAt = undefined;
    return true;
  }

  /** Keeps the relays in use that are still there, and fills up at random: no peer knows where it is. */
  choose(inUse: readonly RelayId[]): readonly RelayId[] {
    const kept = inUse.filter((id) => this.#online.has(id));
    const others = [...this.#online.keys()].filter((id) => !kept.includes(id));
    while (kept.length < RELAYS_PER_PEER && others.length > 0) {
      const [picked] = others.splice(Math.floor(this.#random.uniform() * others.length), 1);
      if (picked !== undefined) kept.push(picked);
    }
    return kept;
  }

  /** Undefined: nothing that this peer has to know; a better relay is no reason to move (portal §11). */
  changeFor(sent: readonly RelayId[]): RelayChange | undefined {
    const disconnected = sent.filter((id) => !this.#online.has(id));
    const chosen = this.choose(sent);
    const isFuller = chosen.length > sent.length - disconnected.length;
    return disconnected.length > 0 || isFuller ? { disconnected, chosen } : undefined;
  }

  /** The relays as one node gets them: with credentials that stay the same until `expiresAt`. */
  describe(ids: readonly RelayId[], publicKey: string, expiresAt: UnixTime): Relay[] {
    return ids.flatMap((id) => {
      const peer = this.#online.get(id);
      if (peer === undefined) return [];
      const credentials = turnCredentials(publicKey, expiresAt, peer.stampSecret);
      return [{ id, v4: peer.v4, v6: peer.v6, ...credentials, expiresAt }];
    });
  }

  #noteChange(now: Instant): void {
    this.#firstChangeAt ??= now;
    this.#lastChangeAt = now;
  }
}
