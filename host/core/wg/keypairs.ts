import type { PeerId } from "../id.ts";
import type { Keypair, PacketCore } from "../packet-core.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import { slotOfIndex } from "./index.ts";
import type { WireGuardTimers } from "./timers.ts";

/** Previous, current and next; after crossing handshakes two may be older than the current one. */
export const MAX_KEYPAIRS = 3;

export interface LiveKeypair {
  readonly localIndex: number;
  readonly initiated: boolean;
  readonly createdAt: Instant;
}

/**
 * Which keypairs of a peer live in the packet core, and which one it sends with (connectivity §10.4).
 *
 * Older keypairs stay until they expire or a fourth one comes: packets sealed with them may still arrive.
 */
export class Keypairs {
  readonly #core: PacketCore;
  readonly #peer: PeerId;
  readonly #rejectAfterMs: number;
  readonly #ownSendLimitMs: number;
  /** In order of creation. */
  #live: LiveKeypair[] = [];
  #current: LiveKeypair | undefined;
  #sends = false;

  constructor(core: PacketCore, peer: PeerId, timers: WireGuardTimers) {
    this.#core = core;
    this.#peer = peer;
    this.#rejectAfterMs = timers.rejectAfterMs;
    this.#ownSendLimitMs = timers.rejectAfterMs - timers.keepaliveMs;
  }

  /** Chosen for sending, perhaps too old for it by now. */
  get current(): LiveKeypair | undefined {
    return this.#current;
  }

  /** Whether the packet core can seal for this peer, given a path. */
  get sendable(): boolean {
    return this.#sends;
  }

  get count(): number {
    return this.#live.length;
  }

  occupies(slot: number): boolean {
    return this.#live.some((keypair) => slotOfIndex(keypair.localIndex) === slot);
  }

  /** One that we initiated is current at once, any other when it is confirmed. */
  add(keypair: Keypair, now: Instant): void {
    const added: LiveKeypair = {
      localIndex: keypair.localIndex,
      initiated: keypair.initiated,
      createdAt: now,
    };
    this.#core.addKeypair(this.#peer, keypair);
    this.#live.push(added);
    if (added.initiated) this.#select(added);

    if (this.#live.length > MAX_KEYPAIRS) {
      const oldest = this.#live.find((candidate) => candidate !== this.#current);
      if (oldest !== undefined) this.#remove(oldest);
    }
  }

  /** First message on a keypair that we answered: it becomes current unless the current one is younger. */
  confirm(localIndex: number): boolean {
    const position = this.#live.findIndex((keypair) => keypair.localIndex === localIndex);
    const confirmed = this.#live[position];
    if (confirmed === undefined || confirmed.initiated) return false;

    if (this.#current === undefined || this.#live.indexOf(this.#current) < position) this.#select(confirmed);
    return true;
  }

  /** Ends what is too old. True if the current keypair is gone and was of our making: it is to be renewed. */
  expire(now: Instant): boolean {
    const current = this.#current;
    for (const keypair of [...this.#live]) {
      if (now >= keypair.createdAt + this.#rejectAfterMs) this.#remove(keypair);
    }
    if (current !== undefined && this.#current === undefined) return current.initiated;

    if (this.#current !== undefined && now >= this.#sendLimit(this.#current)) this.stopSending();
    return false;
  }

  stopSending(): void {
    if (!this.#sends) return;
    this.#sends = false;
    this.#core.selectKeypair(this.#peer, undefined);
  }

  clear(): void {
    for (const keypair of [...this.#live]) this.#remove(keypair);
  }

  deadline(): Deadline | undefined {
    const oldest = this.#live[0];
    return earliest(
      oldest && { at: oldest.createdAt + this.#rejectAfterMs, reason: "keypair expires" },
      this.#current !== undefined && this.#sends
        ? { at: this.#sendLimit(this.#current), reason: "keypair too old for sending" }
        : undefined,
    );
  }

  #select(keypair: LiveKeypair): void {
    this.#current = keypair;
    this.#sends = true;
    this.#core.selectKeypair(this.#peer, keypair.localIndex);
  }

  #remove(keypair: LiveKeypair): void {
    if (keypair === this.#current) {
      this.stopSending();
      this.#current = undefined;
    }
    this.#live = this.#live.filter((candidate) => candidate !== keypair);
    this.#core.removeKeypair(this.#peer, keypair.localIndex);
  }

  /** What we initiated stops early, so that its last packets arrive before the responder expires it. */
  #sendLimit(keypair: LiveKeypair): Instant {
    return keypair.createdAt + (keypair.initiated ? this.#ownSendLimitMs : this.#rejectAfterMs);
  }
}
