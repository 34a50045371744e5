import type { DropReason } from "../drop.ts";
import type { Keypair } from "../packet-core.ts";
import type { Random } from "../random.ts";
import type { Instant } from "../time.ts";
import { CookieJar, mac1Key, verifyMac1 } from "./cookie.ts";
import { equalBytes, KEY_BYTES, type NoiseCrypto, wipe } from "./crypto.ts";
import { type LocalIndexes, slotOfIndex } from "./index.ts";
import type { CookieReply, Initiation, Response } from "./messages.ts";
import {
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  type Ends,
  openInitiation,
  type SentInitiation,
} from "./noise.ts";
import { isLaterTai64n, type Tai64nClock } from "./tai64n.ts";

/** A late response to the initiation before the last one is still good (connectivity §10.4). */
const OUTSTANDING_INITIATIONS = 2;

export interface HandshakeOptions {
  readonly ends: Ends;
  readonly crypto: NoiseCrypto;
  readonly random: Random;
  readonly clock: Tai64nClock;
  readonly indexes: LocalIndexes;
  readonly cookieLifetimeMs: number;
  /** Whether a keypair slot of the packet core is in use. */
  readonly occupied: (slot: number) => boolean;
}

/** The messages of one connection: makes and verifies them, and knows which of ours are unanswered. No timers. */
export class Handshakes {
  readonly #options: HandshakeOptions;
  readonly #mac1Key: Uint8Array;
  readonly #jar: CookieJar;
  /** Oldest first. */
  #outstanding: SentInitiation[] = [];
  #lastTimestamp: Uint8Array | undefined;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#mac1Key = mac1Key(options.ends.identity.publicKey);
    this.#jar = new CookieJar(options.ends.remotePublicKey, options.cookieLifetimeMs);
  }

  /** The next initiation, complete; undefined if the remote's key has low order. */
  initiate(now: Instant): Uint8Array | undefined {
    const { ends, crypto, random, clock } = this.#options;
    const room = this.#outstanding.slice(-(OUTSTANDING_INITIATIONS - 1));
    this.#forget((sent) => !room.includes(sent));

    const localIndex = this.#nextIndex();
    const created = createInitiation(
      ends,
      { localIndex, ephemeralPrivate: random.bytes(KEY_BYTES), timestamp: clock.stamp(now) },
      crypto,
    );
    if (created === undefined) return undefined;

    this.#outstanding.push(created.sent);
    this.#jar.authenticate(created.message, localIndex, now);
    return created.message;
  }

  /** Verifies an initiation and answers it. The keys in the result are the caller's to wipe. */
  answer(
    message: Initiation,
    now: Instant,
  ): { readonly response: Uint8Array; readonly keypair: Keypair } | DropReason {
    const { ends, crypto, random } = this.#options;
    if (!verifyMac1(message, this.#mac1Key)) return "bad-handshake";
    const opened = openInitiation(message, ends.identity, crypto);
    if (opened === undefined) return "bad-handshake";
    if (!equalBytes(opened.remoteStatic, ends.remotePublicKey)) return "unknown-sender";

    const consumed = consumeInitiation(opened, ends.staticShared);
    if (typeof consumed === "string") return consumed;
    if (this.#lastTimestamp !== undefined && !isLaterTai64n(consumed.timestamp, this.#lastTimestamp)) {
      return "bad-handshake";
    }

    const localIndex = this.#nextIndex();
    const ephemeralPrivate = random.bytes(KEY_BYTES);
    const created = createResponse(consumed, ends.presharedKey, { localIndex, ephemeralPrivate }, crypto);
    wipe(ephemeralPrivate, consumed.chainingKey);
    if (created === undefined) return "bad-handshake";

    this.#lastTimestamp = consumed.timestamp;
    this.#jar.authenticate(created.message, localIndex, now);
    const keypair = { localIndex, remoteIndex: consumed.remoteIndex, ...created.keys, initiated: false };
    return { response: created.message, keypair };
  }

  /** Verifies a response to one of our last initiations. The keys in the result are the caller's to wipe. */
  finish(message: Response): Keypair | DropReason {
    const sent = this.#outstanding.find((candidate) => candidate.localIndex === message.receiver);
    if (sent === undefined || !verifyMac1(message, this.#mac1Key)) return "bad-handshake";

    const keys = consumeResponse(message, sent, this.#options.ends, this.#options.crypto);
    if (typeof keys === "string") return keys;

    // Some responders keep only the keypair of the last initiation that they answered: after a late response
    // that one stays acceptable, after the last one there is nothing to wait for.
    const last = this.#outstanding.at(-1) === sent;
    this.#forget((candidate) => last || candidate === sent);
    return { localIndex: sent.localIndex, remoteIndex: message.sender, ...keys, initiated: true };
  }

  acceptCookie(reply: CookieReply, now: Instant): boolean {
    return this.#jar.accept(reply, now);
  }

  /** No response is acceptable any more. */
  forgetOutstanding(): void {
    this.#forget(() => true);
  }

  dispose(): void {
    this.forgetOutstanding();
    this.#jar.clear();
    wipe(this.#options.ends.presharedKey, this.#options.ends.staticShared);
  }

  #nextIndex(): number {
    return this.#options.indexes.next(
      (slot) =>
        this.#options.occupied(slot) ||
        this.#outstanding.some((sent) => slotOfIndex(sent.localIndex) === slot),
    );
  }

  #forget(which: (sent: SentInitiation) => boolean): void {
    for (const sent of this.#outstanding) {
      if (which(sent)) wipe(sent.ephemeralPrivate, sent.chainingKey);
    }
    this.#outstanding = this.#outstanding.filter((sent) => !which(sent));
  }
}
