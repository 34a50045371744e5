import type { DropReason } from "../drop.ts";
import type { PeerId } from "../id.ts";
import { type Note, note } from "../note.ts";
import type { Keypair, PacketCore } from "../packet-core.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import { type NoiseCrypto, type StaticIdentity, wipe } from "./crypto.ts";
import { Handshakes } from "./handshakes.ts";
import { LocalIndexes } from "./index.ts";
import { Keypairs } from "./keypairs.ts";
import { type Initiation, type Message, parseMessage, type Response } from "./messages.ts";
import { Tai64nClock } from "./tai64n.ts";
import {
  DEFAULT_TIMERS,
  keepaliveDeadline,
  persistentKeepaliveDeadline,
  REJECT_AFTER_MESSAGES,
  rekeyDeadline,
  rekeyReason,
  type TimerInput,
  type WireGuardTimers,
} from "./timers.ts";

/** Unpolled messages and events; the oldest gives way. */
const QUEUE_LIMIT = 16;
/** Pause before an empty packet is tried again that the packet core could not send for want of a path. */
const SEAL_RETRY_MS = 1_000;
/** Without a new handshake for this many keypair lifetimes everything is wiped. */
const WIPE_LIFETIMES = 3;
const EMPTY = new Uint8Array(0);

export interface WireGuardPeerOptions {
  readonly core: PacketCore;
  readonly peer: PeerId;
  readonly crypto: NoiseCrypto;
  readonly random: Random;
  readonly identity: StaticIdentity;
  readonly remotePublicKey: Uint8Array;
  /** 32 bytes; all zero for none. Copied, as the peer wipes its copy. */
  readonly presharedKey: Uint8Array;
  /** Wall clock at the instant of construction, in milliseconds. */
  readonly unixTimeMs: number;
  readonly timers?: WireGuardTimers;
  /** Never starts a handshake before one was completed, nor for want of a keypair: only timers do. */
  readonly responderOnly?: boolean;
  /** Off unless set. */
  readonly persistentKeepaliveMs?: number | undefined;
}

export type WireGuardEvent =
  /**
   * A keypair became usable for sending. Initiated: the response arrived and the empty packet is sealed, or
   * owed until there is a path. Otherwise: the first message on a keypair that we answered arrived.
   */
  | { readonly kind: "handshake-completed"; readonly initiated: boolean }
  /**
   * All keypairs are wiped and no timer runs until `startHandshake` or an accepted initiation.
   * `unanswered`: an attempt ended without response; `unused`: no handshake for 540 s.
   */
  | { readonly kind: "expired"; readonly reason: "unanswered" | "unused" }
  | Note;

/** An initiation was sent and no handshake completed since. */
interface Attempt {
  readonly startedAt: Instant;
  readonly repeatAt: Instant;
}

/**
 * One end of a WireGuard connection: handshakes in both roles, keypair rotation and timers (connectivity §10).
 *
 * Data messages are the packet core's: this machine installs keypairs there and reads its activity. The core
 * seals and opens without asking, so call `handleTouched` for every peer of `drainTouched`, at least once a
 * second. After each call drain `pollMessage` and `pollEvent`, then arm a timer for `pollTimeout`.
 */
export class WireGuardPeer {
  readonly #core: PacketCore;
  readonly #peer: PeerId;
  readonly #random: Random;
  readonly #timers: WireGuardTimers;
  readonly #responderOnly: boolean;
  readonly #persistentKeepaliveMs: number | undefined;
  readonly #keypairs: Keypairs;
  /** Undefined if the remote public key has low order: then no handshake can succeed. */
  readonly #handshakes: Handshakes | undefined;
  readonly #messages: Uint8Array[] = [];
  readonly #events: WireGuardEvent[] = [];

  #attempt: Attempt | undefined;
  /** When a timer's initiation leaves: delayed by jitter. */
  #initiateAt: Instant | undefined;
  /** Last completed handshake, or start of life; undefined while expired. */
  #freshAt: Instant | undefined;
  #completedOnce = false;
  #handshakeReceivedAt: Instant | undefined;
  #handshakeSentAt: Instant | undefined;
  /** Local index of the keypair that the remote may not use before our first message on it. */
  #confirmationOwed: number | undefined;
  #sealRetryAt: Instant | undefined;
  #deadline: Deadline | undefined;

  constructor(options: WireGuardPeerOptions, now: Instant) {
    this.#core = options.core;
    this.#peer = options.peer;
    this.#random = options.random;
    this.#timers = options.timers ?? DEFAULT_TIMERS;
    this.#responderOnly = options.responderOnly ?? false;
    this.#persistentKeepaliveMs = options.persistentKeepaliveMs;
    this.#keypairs = new Keypairs(options.core, options.peer, this.#timers);
    this.#handshakes = this.#handshakesOf(options, now);
    this.#freshAt = now;
    if (this.#handshakes === undefined) this.#push(note("warn", "remote public key is unusable"));
    this.#settle(now);
  }

  /** An initiation is out, and neither answered nor given up. */
  get handshaking(): boolean {
    return this.#attempt !== undefined;
  }

  /** The packet core has a keypair to seal with. */
  get sendable(): boolean {
    return this.#keypairs.sendable;
  }

  /** When the keypair in use was made. */
  get handshakeAt(): Instant | undefined {
    return this.#keypairs.current?.createdAt;
  }

  /** Sends an initiation at once; does nothing while a handshake is in progress. */
  startHandshake(now: Instant): void {
    if (this.#responderOnly && !this.#completedOnce) return;
    this.#beginAttempt(now);
    this.#settle(now);
  }

  /**
   * Types 1 to 3; the caller found this peer by the initiation's static key or the receiver index.
   * Everything is verified here all the same, and only `accepted` means that it came from the remote.
   */
  handleMessage(bytes: Uint8Array, now: Instant): "accepted" | DropReason {
    const message = parseMessage(bytes);
    if (typeof message === "string") return message;

    const result = this.#dispatch(message, now);
    this.#settle(now);
    return result;
  }

  /** From the packet core: first authenticated message on a keypair that we answered. */
  handleKeypairConfirmed(localIndex: number, now: Instant): void {
    if (this.#keypairs.confirm(localIndex)) this.#complete("responder", now);
    this.#settle(now);
  }

  /**
   * From the packet core: a packet could not be sealed. Starts a handshake if a keypair is what is missing,
   * also between 170 and 180 s when our own one is too old for sending (connectivity §10.6, QUIRK).
   */
  handleNoKeypair(now: Instant): void {
    this.#keypairs.expire(now);
    const mayInitiate = !this.#responderOnly || this.#keypairs.current?.initiated === true;
    if (!this.#keypairs.sendable && mayInitiate) this.#beginAttempt(now);
    this.#settle(now);
  }

  /** The packet core got a path for this peer: an owed empty packet leaves at once. */
  handlePath(now: Instant): void {
    this.#sealRetryAt = undefined;
    this.#settle(now);
  }

  /** The packet core sent or received something for this peer. */
  handleTouched(now: Instant): void {
    this.#settle(now);
  }

  handleTimeout(now: Instant): void {
    this.#settle(now);
  }

  /** The next handshake message, for the current path. */
  pollMessage(): Uint8Array | undefined {
    return this.#messages.shift();
  }

  pollEvent(): WireGuardEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    return this.#deadline;
  }

  /** Removes the keypairs from the packet core and wipes all keys. The peer slot and its path stay the caller's. */
  dispose(): void {
    this.#wipe();
    this.#handshakes?.dispose();
    this.#messages.length = 0;
    this.#events.length = 0;
    this.#deadline = undefined;
  }

  // ── Handshake messages ────────────────────────────────────────────────────────────────────────

  #dispatch(message: Message, now: Instant): "accepted" | DropReason {
    if (this.#handshakes === undefined) return "bad-handshake";
    switch (message.kind) {
      case "initiation":
        return this.#handleInitiation(message, this.#handshakes, now);
      case "response":
        return this.#handleResponse(message, this.#handshakes, now);
      case "cookie-reply":
        return this.#handshakes.acceptCookie(message, now) ? "accepted" : "bad-handshake";
      case "data":
        return "bad-handshake";
    }
  }

  #handleInitiation(message: Initiation, handshakes: Handshakes, now: Instant): "accepted" | DropReason {
    const answered = handshakes.answer(message, now);
    if (typeof answered === "string") return answered;

    this.#handshakeReceivedAt = now;
    this.#freshAt ??= now;
    this.#add(answered.keypair, now);
    this.#send(answered.response, now);
    return "accepted";
  }

  #handleResponse(message: Response, handshakes: Handshakes, now: Instant): "accepted" | DropReason {
    const keypair = handshakes.finish(message);
    if (typeof keypair === "string") return keypair;

    this.#handshakeReceivedAt = now;
    this.#add(keypair, now);
    this.#confirmationOwed = keypair.localIndex;
    this.#sealRetryAt = undefined;
    this.#payConfirmation(now);
    this.#complete("initiator", now);
    return "accepted";
  }

  #beginAttempt(now: Instant): void {
    if (this.#attempt !== undefined || this.#handshakes === undefined) return;
    this.#freshAt ??= now;
    this.#sendInitiation(now, now);
  }

  #sendInitiation(startedAt: Instant, now: Instant): void {
    this.#initiateAt = undefined;
    const message = this.#handshakes?.initiate(now);
    if (message === undefined) {
      this.#expire("unanswered");
      return;
    }
    this.#attempt = { startedAt, repeatAt: now + this.#timers.rekeyTimeoutMs + this.#jitter() };
    this.#send(message, now);
  }

  #send(message: Uint8Array, now: Instant): void {
    this.#handshakeSentAt = now;
    this.#messages.push(message);
    if (this.#messages.length > QUEUE_LIMIT) this.#messages.shift();
  }

  #add(keypair: Keypair, now: Instant): void {
    this.#keypairs.add(keypair, now);
    wipe(keypair.sendKey, keypair.receiveKey);
  }

  #complete(role: "initiator" | "responder", now: Instant): void {
    this.#attempt = undefined;
    this.#initiateAt = undefined;
    this.#freshAt = now;
    this.#completedOnce = true;
    this.#push({ kind: "handshake-completed", initiated: role === "initiator" });
  }

  // ── Time ──────────────────────────────────────────────────────────────────────────────────────

  /** Does what is due and finds the next deadline; every `handle*` ends here. */
  #settle(now: Instant): void {
    this.#deadline = undefined;
    if (this.#freshAt === undefined) return;

    const renew = this.#keypairs.expire(now);
    if (now >= this.#freshAt + WIPE_LIFETIMES * this.#timers.rejectAfterMs) {
      this.#expire("unused");
      return;
    }
    this.#advanceAttempt(renew, now);
    this.#payConfirmation(now);
    this.#sendKeepalives(now);
    this.#deadline = this.#nextDeadline(now);
  }

  #advanceAttempt(renew: boolean, now: Instant): void {
    const attempt = this.#attempt;
    if (attempt !== undefined) {
      if (now >= attempt.startedAt + this.#timers.rekeyAttemptMs) this.#expire("unanswered");
      else if (now >= attempt.repeatAt) this.#sendInitiation(attempt.startedAt, now);
      return;
    }
    if (this.#initiateAt === undefined) {
      const input = this.#timerInput(now);
      if (input.sentMessages >= REJECT_AFTER_MESSAGES) this.#keypairs.stopSending();
      const reason = renew ? "own keypair expired" : rekeyReason(input, this.#timers, now);
      if (reason === undefined) return;
      this.#push(note("debug", "handshake due", { reason }));
      this.#initiateAt = now + this.#jitter();
    }
    if (now >= this.#initiateAt) this.#beginAttempt(now);
  }

  /** The responder stays mute until it hears from us on the new keypair (connectivity §10.4). */
  #payConfirmation(now: Instant): void {
    const localIndex = this.#confirmationOwed;
    if (localIndex === undefined || this.#mustWait(now)) return;

    const moot =
      this.#keypairs.current?.localIndex !== localIndex ||
      !this.#keypairs.sendable ||
      this.#core.sendCounter(this.#peer, localIndex) > 0n;
    if (moot || this.#sealEmpty(now)) this.#confirmationOwed = undefined;
  }

  #sendKeepalives(now: Instant): void {
    if (!this.#keypairs.sendable || this.#mustWait(now)) return;
    const due = this.#keepaliveDeadline(now);
    if (due !== undefined && now >= due.at) this.#sealEmpty(now);
  }

  #sealEmpty(now: Instant): boolean {
    const sealed = this.#core.seal(this.#peer, EMPTY, now);
    this.#sealRetryAt = sealed ? undefined : now + SEAL_RETRY_MS;
    return sealed;
  }

  #mustWait(now: Instant): boolean {
    return this.#sealRetryAt !== undefined && now < this.#sealRetryAt;
  }

  #keepaliveDeadline(now: Instant): Deadline | undefined {
    const input = this.#timerInput(now);
    const interval = this.#persistentKeepaliveMs;
    return earliest(
      keepaliveDeadline(input, this.#timers),
      interval === undefined ? undefined : persistentKeepaliveDeadline(input, interval),
    );
  }

  #nextDeadline(now: Instant): Deadline | undefined {
    if (this.#freshAt === undefined) return undefined;
    return earliest(
      { at: this.#freshAt + WIPE_LIFETIMES * this.#timers.rejectAfterMs, reason: "connection unused" },
      this.#keypairs.deadline(),
      ...this.#handshakeDeadlines(now),
      this.#sealDeadline(now),
    );
  }

  #handshakeDeadlines(now: Instant): (Deadline | undefined)[] {
    if (this.#attempt !== undefined) {
      return [
        { at: this.#attempt.startedAt + this.#timers.rekeyAttemptMs, reason: "handshake given up" },
        { at: this.#attempt.repeatAt, reason: "initiation repeated" },
      ];
    }
    if (this.#initiateAt !== undefined) return [{ at: this.#initiateAt, reason: "initiation delayed" }];
    return [rekeyDeadline(this.#timerInput(now), this.#timers, now)];
  }

  #sealDeadline(now: Instant): Deadline | undefined {
    const wanted =
      this.#confirmationOwed !== undefined
        ? { at: now, reason: "confirmation" }
        : this.#keypairs.sendable
          ? this.#keepaliveDeadline(now)
          : undefined;
    if (wanted === undefined || this.#sealRetryAt === undefined) return wanted;
    return { at: Math.max(wanted.at, this.#sealRetryAt), reason: wanted.reason };
  }

  #timerInput(now: Instant): TimerInput {
    const current = this.#keypairs.current;
    return {
      current,
      sentMessages: current === undefined ? 0n : this.#core.sendCounter(this.#peer, current.localIndex),
      activity: this.#core.activity(this.#peer, now),
      handshakeReceivedAt: this.#handshakeReceivedAt,
      handshakeSentAt: this.#handshakeSentAt,
    };
  }

  #jitter(): number {
    return this.#random.uniform() * this.#timers.jitterMs;
  }

  // ── Ending ────────────────────────────────────────────────────────────────────────────────────

  #expire(reason: "unanswered" | "unused"): void {
    this.#wipe();
    this.#push({ kind: "expired", reason });
  }

  #wipe(): void {
    this.#keypairs.clear();
    this.#handshakes?.forgetOutstanding();
    this.#attempt = undefined;
    this.#initiateAt = undefined;
    this.#confirmationOwed = undefined;
    this.#sealRetryAt = undefined;
    this.#freshAt = undefined;
  }

  #push(event: WireGuardEvent): void {
    this.#events.push(event);
    if (this.#events.length > QUEUE_LIMIT) this.#events.shift();
  }

  #handshakesOf(options: WireGuardPeerOptions, now: Instant): Handshakes | undefined {
    const staticShared = options.crypto.dh(options.identity.privateKey, options.remotePublicKey);
    if (staticShared === undefined) return undefined;
    return new Handshakes({
      ends: {
        identity: options.identity,
        remotePublicKey: options.remotePublicKey.slice(),
        presharedKey: options.presharedKey.slice(),
        staticShared,
      },
      crypto: options.crypto,
      random: options.random,
      clock: new Tai64nClock(options.unixTimeMs, now),
      indexes: new LocalIndexes(options.peer, options.random),
      cookieLifetimeMs: this.#timers.cookieLifetimeMs,
      occupied: (slot) => this.#keypairs.occupies(slot),
    });
  }
}
