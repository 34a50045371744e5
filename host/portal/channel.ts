import type { Note } from "../core/note.ts";
import { note } from "../core/note.ts";
import type { Random } from "../core/random.ts";
import { after, type Deadline, earliest, type Instant } from "../core/time.ts";
import { RetrySchedule } from "./retry.ts";
import {
  decodeFrame,
  decodeReply,
  encodeFrame,
  type Frame,
  type Generation,
  PHOENIX_TOPIC,
  type PortalRole,
  type Push,
} from "./wire.ts";

// portal §4.3
const CONNECT_TIMEOUT_MS = 15_000;
const JOIN_TIMEOUT_MS = 5_000;
const HEARTBEAT_MS = 10_000;
const MAX_UNANSWERED_HEARTBEATS = 4;
// portal §16.9
const NO_RELAYS_INTERVAL_MS = 5_000;
const NO_RELAYS = "no_relays";
/** Messages kept until the join is answered; a peer that needs more has lost track of what it asked. */
const MAX_QUEUED = 256;

const CLOSE_NORMAL = 1000;

/** Why a channel stopped for good. */
export type ChannelFatal =
  /** The portal refused the token; a new one is needed (portal §16.3). */
  | { readonly kind: "token-rejected"; readonly code: "invalid_token" | "missing_token" }
  /** The token ended, or another connection with another token took the place of this one. */
  | { readonly kind: "token-expired" }
  | { readonly kind: "join-refused"; readonly reason: string | undefined }
  /** No connection for as long as the options allow. */
  | { readonly kind: "partitioned" };

export type ChannelState = "connecting" | "joining" | "joined" | "retrying" | "stopped";

export type ChannelCommand =
  /** Open a WebSocket; answer with `handleOpened`, `handleRejected` or `handleClosed`. */
  | { readonly kind: "connect" }
  | { readonly kind: "send"; readonly text: string }
  /** Close the WebSocket, open or not, and forget it: nothing is reported about it any more. */
  | { readonly kind: "close"; readonly code: number };

export type ChannelEvent =
  | { readonly kind: "state"; readonly state: ChannelState; readonly retryAt: Instant | undefined }
  /** A push: the caller decodes the payload. */
  | { readonly kind: "push"; readonly event: string; readonly payload: unknown }
  /** Emitted once, as the last event. */
  | { readonly kind: "fatal"; readonly error: ChannelFatal }
  | Note;

/** A refused upgrade. */
export interface Rejection {
  readonly status: number;
  /** Member `code` of a problem body. */
  readonly code: string | undefined;
  readonly retryAfterMs: number | undefined;
}

export interface ChannelOptions {
  readonly role: PortalRole;
  readonly generation: Generation;
  readonly joinPayload: unknown;
  /** How long the channel may be without a join before it gives up; undefined: for ever. */
  readonly maxPartitionMs?: number | undefined;
}

/**
 * A peer's side of the channel to a portal (portal §4, §16): joins, keeps the connection alive, and
 * opens the next one when it is lost.
 *
 * The driver executes `pollCommand`, hands in what its WebSocket reports, and arms one timer for
 * `pollTimeout`. There is at most one WebSocket; whatever an abandoned one still reports must not be
 * handed in. Losing the connection says nothing about tunnels: only what the portal pushes does.
 */
export class PortalChannel {
  readonly #options: ChannelOptions;
  readonly #retries: RetrySchedule;
  readonly #commands: ChannelCommand[] = [];
  readonly #events: ChannelEvent[] = [];
  readonly #queue: Push[] = [];
  #state: ChannelState = "connecting";
  #nextRef = 0;
  #joinRef: number | undefined;
  #joinedAt: Instant | undefined;
  #unanswered: number[] = [];
  /** End of the wait for the socket, for the join's reply, or for the next attempt. */
  #stateDeadline: Instant | undefined;
  #heartbeatAt: Instant | undefined;
  #noRelaysAt: Instant | undefined;
  #partitionedSince: Instant | undefined;

  constructor(options: ChannelOptions, random: Random, now: Instant) {
    this.#options = options;
    this.#retries = new RetrySchedule(random);
    this.#partitionedSince = now;
    this.#connect(now);
  }

  get state(): ChannelState {
    return this.#state;
  }

  /** The WebSocket is open. */
  handleOpened(now: Instant): void {
    if (this.#state !== "connecting") return;
    this.#heartbeatAt = after(now, HEARTBEAT_MS);
    this.#join(now);
  }

  /** The upgrade was answered with an HTTP error. */
  handleRejected(rejection: Rejection, now: Instant): void {
    if (this.#state !== "connecting") return;
    const { status, code } = rejection;
    if (status === 401 && (code === "invalid_token" || code === "missing_token")) {
      this.#stop({ kind: "token-rejected", code });
      return;
    }
    this.#events.push(note("warn", "portal refused the connection", { status, code }));
    this.#retryAt(this.#retries.afterRejection(rejection, now), now);
  }

  /** The connection failed or ended, whatever the code. */
  handleClosed(now: Instant): void {
    if (this.#state === "retrying" || this.#state === "stopped") return;
    this.#retryAt(this.#retries.next(now), now);
  }

  handleFrame(text: string, now: Instant): void {
    if (this.#state !== "joining" && this.#state !== "joined") return;
    const frame = decodeFrame(text);
    if (frame === undefined) {
      this.#events.push(note("warn", "portal sent a frame that cannot be decoded", { length: text.length }));
    } else if (frame.event === "phx_reply") {
      this.#handleReply(frame, now);
    } else if (frame.topic === this.#options.role) {
      this.#handlePush(frame, now);
    }
  }

  handleTimeout(now: Instant): void {
    this.#checkPartition(now);
    if (this.#stateDeadline !== undefined && now >= this.#stateDeadline) this.#handleStateDeadline(now);
    if (this.#heartbeatAt !== undefined && now >= this.#heartbeatAt) this.#heartbeat(now);
  }

  /**
   * Sends, or keeps until the join is answered. False: not connected, a copy is still waiting, or the
   * same complaint was made a moment ago; the message is dropped.
   */
  send(push: Push, now: Instant): boolean {
    if (push.event === NO_RELAYS && !this.#mayComplain(now)) return false;
    if (this.#state === "joined") {
      this.#emit(this.#options.role, push);
      return true;
    }
    if (this.#state !== "joining" || this.#queue.length >= MAX_QUEUED) return false;
    if (this.#queue.some((waiting) => isSame(waiting, push))) return false;
    this.#queue.push(push);
    return true;
  }

  /** Leaves the connection and opens a new one at once, with a fresh backoff (network change). */
  reconnect(now: Instant): void {
    if (this.#state === "stopped") return;
    this.#retries.reset();
    if (this.#state !== "retrying") this.#commands.push({ kind: "close", code: CLOSE_NORMAL });
    this.#retryAt(this.#retries.atOnce(now), now);
  }

  /** Ends the channel from this side. */
  close(): void {
    if (this.#state === "stopped") return;
    if (this.#state !== "retrying") this.#commands.push({ kind: "close", code: CLOSE_NORMAL });
    this.#leave();
    this.#enter("stopped", undefined);
  }

  pollCommand(): ChannelCommand | undefined {
    return this.#commands.shift();
  }

  pollEvent(): ChannelEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    return earliest(
      deadline(this.#stateDeadline, `portal ${this.#state}`),
      deadline(this.#heartbeatAt, "portal heartbeat"),
      deadline(this.#giveUpAt(), "portal partition budget"),
    );
  }

  #connect(now: Instant): void {
    this.#retries.noteAttempt(now);
    this.#nextRef = 0;
    this.#commands.push({ kind: "connect" });
    this.#enter("connecting", after(now, CONNECT_TIMEOUT_MS));
  }

  #join(now: Instant): void {
    this.#joinRef = this.#emit(this.#options.role, { event: "phx_join", payload: this.#options.joinPayload });
    this.#enter("joining", after(now, JOIN_TIMEOUT_MS));
  }

  /** The portal forgot the join. If it forgets at once, a new connection is better than a busy loop. */
  #rejoin(now: Instant): void {
    if (this.#joinedAt !== undefined && now < after(this.#joinedAt, JOIN_TIMEOUT_MS)) {
      this.#abandon(this.#retries.next(now), now);
    } else {
      this.#join(now);
    }
  }

  #handleReply(frame: Frame, now: Instant): void {
    const reply = decodeReply(frame.payload);
    if (reply === undefined) return;
    if (frame.topic === PHOENIX_TOPIC) {
      // Any answer proves that the portal is there, so older heartbeats need none.
      if (this.#unanswered.includes(frame.ref as number)) this.#unanswered = [];
    } else if (this.#joinRef !== undefined && frame.ref === this.#joinRef) {
      this.#handleJoinReply(reply, now);
    } else if (reply.status === "error" && reply.reason === "unmatched topic") {
      if (this.#state === "joined") this.#rejoin(now);
    } else if (reply.status === "error") {
      this.#events.push(note("debug", "portal refused a message", { reason: reply.reason }));
    }
  }

  #handleJoinReply(reply: { status: "ok" | "error"; reason: string | undefined }, now: Instant): void {
    this.#joinRef = undefined;
    if (reply.status === "error") {
      this.#stop({ kind: "join-refused", reason: reply.reason });
      return;
    }
    this.#retries.reset();
    this.#partitionedSince = undefined;
    this.#joinedAt = now;
    this.#enter("joined", undefined);
    this.#announceCapabilities();
    for (const push of this.#queue.splice(0)) {
      if (push.event !== NO_RELAYS || this.#mayComplain(now)) this.#emit(this.#options.role, push);
    }
  }

  /** Says on every join what this side cannot do (portal §16.8); first-generation portals have no such message. */
  #announceCapabilities(): void {
    if (this.#options.role === "relay" || this.#options.generation === 1) return;
    this.#emit(this.#options.role, { event: "set_snownet_capabilities", payload: { iceless: false } });
  }

  #handlePush({ event, payload }: Frame, now: Instant): void {
    switch (event) {
      case "phx_close":
        this.#abandon(this.#retries.next(now), now);
        return;
      case "phx_error":
        // The portal closes the socket too if it means it (portal §4.4).
        return;
      case "disconnect":
        this.#handleDisconnect(payload);
        return;
      default:
        if (this.#state === "joined") this.#events.push({ kind: "push", event, payload });
    }
  }

  #handleDisconnect(payload: unknown): void {
    const reason = typeof payload === "object" && payload !== null && "reason" in payload && payload.reason;
    if (reason === "token_expired") this.#stop({ kind: "token-expired" });
  }

  #handleStateDeadline(now: Instant): void {
    if (this.#state === "retrying") this.#connect(now);
    else this.#abandon(this.#retries.next(now), now);
  }

  #heartbeat(now: Instant): void {
    if (this.#unanswered.length >= MAX_UNANSWERED_HEARTBEATS) {
      this.#events.push(note("warn", "portal is silent", { heartbeats: this.#unanswered.length }));
      this.#abandon(this.#retries.next(now), now);
      return;
    }
    this.#unanswered.push(this.#emit(PHOENIX_TOPIC, { event: "heartbeat", payload: {} }));
    this.#heartbeatAt = after(now, HEARTBEAT_MS);
  }

  #mayComplain(now: Instant): boolean {
    if (this.#noRelaysAt !== undefined && now < after(this.#noRelaysAt, NO_RELAYS_INTERVAL_MS)) return false;
    if (this.#state === "joined") this.#noRelaysAt = now;
    return true;
  }

  #abandon(retryAt: Instant, now: Instant): void {
    this.#commands.push({ kind: "close", code: CLOSE_NORMAL });
    this.#retryAt(retryAt, now);
  }

  #retryAt(retryAt: Instant, now: Instant): void {
    this.#leave();
    this.#partitionedSince ??= now;
    this.#enter("retrying", retryAt);
  }

  #stop(error: ChannelFatal): void {
    if (this.#state === "joining" || this.#state === "joined") {
      this.#commands.push({ kind: "close", code: CLOSE_NORMAL });
    }
    this.#leave();
    this.#enter("stopped", undefined);
    this.#events.push({ kind: "fatal", error });
  }

  #checkPartition(now: Instant): void {
    const giveUpAt = this.#giveUpAt();
    if (giveUpAt === undefined || now < giveUpAt) return;
    if (this.#state === "connecting") this.#commands.push({ kind: "close", code: CLOSE_NORMAL });
    this.#stop({ kind: "partitioned" });
  }

  #giveUpAt(): Instant | undefined {
    const { maxPartitionMs } = this.#options;
    if (maxPartitionMs === undefined || this.#partitionedSince === undefined) return undefined;
    return this.#state === "stopped" ? undefined : after(this.#partitionedSince, maxPartitionMs);
  }

  /** Forgets what belongs to the connection: waiting messages are discarded with it (portal §4.4). */
  #leave(): void {
    this.#queue.length = 0;
    this.#unanswered = [];
    this.#joinRef = undefined;
    this.#heartbeatAt = undefined;
  }

  #enter(state: ChannelState, stateDeadline: Instant | undefined): void {
    this.#state = state;
    this.#stateDeadline = stateDeadline;
    this.#events.push({ kind: "state", state, retryAt: state === "retrying" ? stateDeadline : undefined });
  }

  #emit(topic: string, push: Push): number {
    const ref = this.#nextRef++;
    this.#commands.push({ kind: "send", text: encodeFrame({ topic, ...push, ref }) });
    return ref;
  }
}

function deadline(at: Instant | undefined, reason: string): Deadline | undefined {
  return at === undefined ? undefined : { at, reason };
}

function isSame(a: Push, b: Push): boolean {
  return a.event === b.event && JSON.stringify(a.payload) === JSON.stringify(b.payload);
}
