import { type SocketAddress, socketAddressText } from "../address.ts";
import type { DropReason } from "../drop.ts";
import { IceAgent, type IceState, type IceTransmit, pairText } from "../ice/agent.ts";
import {
  type Candidate,
  type CandidateKind,
  formatCandidate,
  isUsableAddress,
  type LocalCandidate,
  parseCandidate,
} from "../ice/candidate.ts";
import type { NodeId, PathId, PeerId } from "../id.ts";
import { note } from "../note.ts";
import { encodeGoodbye } from "../packet/control-frame.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Path, PathTable } from "../path.ts";
import type { Random } from "../random.ts";
import type { Mapping } from "../stun/binding-probe.ts";
import type { StunMessage } from "../stun/message.ts";
import { after, type Deadline, earliest, type Instant } from "../time.ts";
import type { Datagram } from "../transmit.ts";
import type { NoiseCrypto, StaticIdentity } from "../wg/crypto.ts";
import { WireGuardPeer } from "../wg/peer.ts";
import type { ConnectionParameters, ConnectionStatus, ConnectivityEvent } from "./connectivity.ts";
import type { RoleSettings } from "./settings.ts";

export interface ConnectionOptions {
  readonly node: NodeId;
  readonly peer: PeerId;
  readonly parameters: ConnectionParameters;
  readonly core: PacketCore;
  readonly paths: PathTable;
  readonly crypto: NoiseCrypto;
  readonly random: Random;
  readonly identity: StaticIdentity;
  /** Wall clock at the instant of construction. */
  readonly unixTimeMs: number;
  readonly settings: RoleSettings;
}

/** connectivity §9.5. */
const CANDIDATE_TIMEOUT_MS = 10_000;
const DISCONNECT_GRACE_MS = 2_000;
/** connectivity §9.3. */
const IDLE_AFTER_MS = 20_000;
/** connectivity §9.4: a handshake for a path or a grant follows the last such one only after this. */
const HANDSHAKE_SPACING_MS = 20_000;
/** connectivity §9.2: handshake messages kept until a path is chosen; the newest stay. */
const MAX_KEPT_MESSAGES = 128;
/** A portal message may carry a list of any length. */
const MAX_CANDIDATES_PER_CALL = 128;

/**
 * Everything between one peer slot and the network: ICE finds the path, WireGuard makes the keys.
 *
 * Timers: candidate timeout, disconnect grace, idle, the checks of ICE, the timers of WireGuard.
 * After each call drain `pollTransmit` and `pollEvent`. After a "failed" event the connection only waits
 * to be disposed of.
 */
export class Connection {
  readonly node: NodeId;
  readonly peer: PeerId;
  readonly parameters: ConnectionParameters;
  readonly #core: PacketCore;
  readonly #paths: PathTable;
  readonly #settings: RoleSettings;
  readonly #agent: IceAgent;
  readonly #wireGuard: WireGuardPeer;
  readonly #transmits: IceTransmit[] = [];
  readonly #events: ConnectivityEvent[] = [];
  readonly #createdAt: Instant;

  #path: (Path & { readonly id: PathId; readonly text: string; readonly since: Instant }) | undefined;
  #kept: Uint8Array[] = [];
  /** Local candidates to signal with the next drain. */
  #unsignalled: LocalCandidate[] = [];
  #hasRemoteCandidate = false;
  #graceUntil: Instant | undefined;
  #state: ConnectionStatus["state"] = "connecting";
  #stateSince: Instant;
  /** Last inner packet, or what counts like one. */
  #activeAt: Instant;
  #proactiveHandshakeAt: Instant | undefined;
  #established = false;
  #failed = false;

  constructor(options: ConnectionOptions, now: Instant) {
    this.node = options.node;
    this.peer = options.peer;
    this.parameters = options.parameters;
    this.#core = options.core;
    this.#paths = options.paths;
    this.#settings = options.settings;
    this.#createdAt = now;
    this.#stateSince = now;
    this.#activeAt = now;
    const { localIce, remoteIce, role } = options.parameters;
    this.#agent = new IceAgent({
      role,
      local: localIce,
      remote: remoteIce,
      timings: options.settings.timings,
      random: options.random,
    });
    this.#wireGuard = new WireGuardPeer(
      {
        core: options.core,
        peer: options.peer,
        crypto: options.crypto,
        random: options.random,
        identity: options.identity,
        remotePublicKey: options.parameters.remotePublicKey,
        presharedKey: options.parameters.presharedKey,
        unixTimeMs: options.unixTimeMs,
        responderOnly: role === "controlled",
      },
      now,
    );
    this.#settle(now);
  }

  get failed(): boolean {
    return this.#failed;
  }

  /** A relay proved an address: host and server-reflexive candidates (connectivity §7.1). */
  addMapping(mapping: Mapping, now: Instant): void {
    this.#addLocal("host", mapping.local, mapping.local, now);
    this.#addLocal("server-reflexive", mapping.mapped, mapping.local, now);
    this.#settle(now);
  }

  addRemoteCandidates(texts: readonly string[], now: Instant): void {
    for (const candidate of this.#parse(texts)) {
      this.#agent.addRemoteCandidate(candidate, now);
      this.#hasRemoteCandidate = true;
      this.#wake(now);
    }
    this.#settle(now);
  }

  removeRemoteCandidates(texts: readonly string[], now: Instant): void {
    for (const candidate of this.#parse(texts)) {
      this.#agent.removeRemoteCandidate(candidate, now);
      this.#wake(now);
    }
    this.#settle(now);
  }

  /** An equal grant arrived (connectivity §9.4): wakes, signals again, and may start a handshake. */
  reuse(now: Instant): void {
    this.#wake(now);
    this.#unsignalled = [...this.#agent.localCandidates];
    if (this.#path !== undefined) this.#startHandshake(now);
    this.#settle(now);
  }

  handleRequest(datagram: Datagram, message: StunMessage, now: Instant): DropReason | undefined {
    const refusal = this.#agent.handleRequest(datagram, message, now);
    this.#settle(now);
    return refusal;
  }

  handleSuccess(datagram: Datagram, message: StunMessage, now: Instant): DropReason | undefined {
    const refusal = this.#agent.handleSuccess(datagram, message, now);
    this.#settle(now);
    return refusal;
  }

  /** A handshake message or cookie reply, from wherever: the answer goes to the chosen path. */
  handleWireGuard(bytes: Uint8Array, now: Instant): "accepted" | DropReason {
    const result = this.#wireGuard.handleMessage(bytes, now);
    this.#settle(now);
    return result;
  }

  handleKeypairConfirmed(localIndex: number, now: Instant): void {
    this.#wireGuard.handleKeypairConfirmed(localIndex, now);
    this.#settle(now);
  }

  /** Without a path there is nobody to send an initiation to: the first choice starts one. */
  handleNoKeypair(now: Instant): void {
    this.#wake(now);
    if (this.#path !== undefined) this.#wireGuard.handleNoKeypair(now);
    this.#settle(now);
  }

  /** The packet core sent or received something: an idle connection wakes, WireGuard arms its timers. */
  handleTouched(now: Instant): void {
    this.#wireGuard.handleTouched(now);
    if (this.#state === "idle") this.#noteActivity(now);
    this.#settle(now);
  }

  handleTimeout(now: Instant): void {
    if (this.#failed) return;
    if (isDue(this.#candidateDeadline(), now)) this.#fail("no candidates of the peer");
    else if (isDue(this.#graceUntil, now)) this.#fail("no working path");
    else if (isDue(this.#wireGuard.pollTimeout()?.at, now)) this.#wireGuard.handleTimeout(now);

    if (isDue(this.#idleDeadline(), now) || this.#state === "idle") this.#noteActivity(now);
    this.#settle(now);
  }

  pollTransmit(): IceTransmit | undefined {
    return this.#transmits.shift();
  }

  /** One message carries all candidates since the last drain, best first. */
  pollEvent(): ConnectivityEvent | undefined {
    if (this.#unsignalled.length > 0) {
      const candidates = this.#unsignalled.toSorted((a, b) => b.priority - a.priority).map(formatCandidate);
      this.#unsignalled = [];
      return { kind: "candidates-added", node: this.node, candidates };
    }
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    if (this.#failed) return undefined;
    return earliest(
      deadline(this.#candidateDeadline(), "candidate timeout"),
      deadline(this.#graceUntil, "disconnect grace"),
      deadline(this.#idleDeadline(), "idle"),
      this.#agent.pollTimeout(),
      this.#wireGuard.pollTimeout(),
    );
  }

  status(): ConnectionStatus {
    return {
      state: this.#state,
      path: this.#path?.text,
      since: this.#stateSince,
      pathSince: this.#path?.since,
      roundTripMs: this.#agent.chosen?.roundTripMs,
      handshakeAt: this.#wireGuard.handshakeAt,
    };
  }

  /** Tells the peer that this end closes on purpose; nothing while packets cannot be sealed. */
  sayGoodbye(now: Instant): void {
    if (this.#path === undefined || !this.#wireGuard.sendable) return;
    this.#core.seal(this.peer, encodeGoodbye(), now);
  }

  /** Removes keypairs and path from the packet core. The slot stays its owner's. */
  dispose(): void {
    this.#wireGuard.dispose();
    this.#core.setPath(this.peer, undefined);
    if (this.#path !== undefined) this.#paths.release(this.#path.id);
    this.#path = undefined;
    this.#kept = [];
    this.#unsignalled = [];
    this.#failed = true;
  }

  #addLocal(kind: CandidateKind, address: SocketAddress, base: SocketAddress, now: Instant): void {
    if (!isUsableAddress(address) || !isUsableAddress(base)) return;
    const candidate = this.#agent.addLocalCandidate(kind, address, base, now);
    if (candidate === undefined) return;
    this.#unsignalled.push(candidate);
    this.#wake(now);
  }

  /** Skips what does not parse, and what bears a foreign ufrag: a leftover of other credentials. */
  #parse(texts: readonly string[]): Candidate[] {
    const { username } = this.parameters.remoteIce;
    return texts.slice(0, MAX_CANDIDATES_PER_CALL).flatMap((text) => {
      const parsed = parseCandidate(text);
      return parsed !== undefined && (parsed.ufrag ?? username) === username ? [parsed.candidate] : [];
    });
  }

  // Everything that a call may have set in motion, in the order in which it must leave.
  #settle(now: Instant): void {
    if (this.#failed) return;
    this.#agent.handleTimeout(now);
    this.#followChoice(now);
    this.#watchState(this.#agent.state, now);
    for (let t = this.#agent.pollTransmit(); t !== undefined; t = this.#agent.pollTransmit()) {
      this.#transmits.push(t);
    }
    this.#drainWireGuard(now);
  }

  /** Takes the chosen pair as path. When the last pair failed the old path stays: nothing better is known. */
  #followChoice(now: Instant): void {
    const chosen = this.#agent.chosen;
    if (chosen === undefined) return;

    const path = { source: chosen.local.base, destination: chosen.remote.address };
    const text = pairText(chosen);
    if (this.#path !== undefined && pathKey(this.#path) === pathKey(path)) {
      if (this.#path.text !== text) this.#path = { ...this.#path, text };
      return;
    }
    const previous = this.#path;
    const id = this.#paths.acquire(path);
    this.#core.setPath(this.peer, id);
    if (previous !== undefined) this.#paths.release(previous.id);
    this.#path = { ...path, id, text, since: now };
    this.#events.push(note("debug", "path chosen", { node: this.node, path: text }));

    for (const message of this.#kept) this.#sendOnPath(message);
    this.#kept = [];
    this.#wireGuard.handlePath(now);
    this.#startHandshake(now);
  }

  #watchState(state: IceState, now: Instant): void {
    if (state !== "disconnected") this.#graceUntil = undefined;
    else this.#graceUntil ??= after(now, DISCONNECT_GRACE_MS);
  }

  #drainWireGuard(now: Instant): void {
    for (let m = this.#wireGuard.pollMessage(); m !== undefined; m = this.#wireGuard.pollMessage()) {
      if (this.#path !== undefined) this.#sendOnPath(m);
      else this.#keep(m);
    }
    for (let e = this.#wireGuard.pollEvent(); e !== undefined; e = this.#wireGuard.pollEvent()) {
      if (e.kind === "expired") this.#fail(`handshake ${e.reason}`);
      else if (e.kind === "note") this.#events.push(e);
    }
    if (!this.#established && !this.#failed && this.#path !== undefined && this.#wireGuard.sendable) {
      this.#established = true;
      this.#activeAt = now;
      this.#enter("connected", now);
      this.#events.push({ kind: "established", node: this.node, handshakeMs: now - this.#createdAt });
    }
  }

  #sendOnPath(payload: Uint8Array): void {
    if (this.#path === undefined) return;
    this.#transmits.push({ source: this.#path.source, destination: this.#path.destination, payload });
  }

  #keep(message: Uint8Array): void {
    this.#kept.push(message);
    if (this.#kept.length > MAX_KEPT_MESSAGES) this.#kept.shift();
  }

  /** connectivity §10.5: only the controlling side, and not again soon after it did so on its own. */
  #startHandshake(now: Instant): void {
    if (this.parameters.role !== "controlling" || this.#wireGuard.handshaking) return;
    const last = this.#proactiveHandshakeAt;
    if (last !== undefined && now < after(last, HANDSHAKE_SPACING_MS)) return;

    this.#proactiveHandshakeAt = now;
    this.#wireGuard.startHandshake(now);
  }

  /** Reads when the last inner packet passed, and lets the connection fall asleep or wake up by it. */
  #noteActivity(now: Instant): void {
    const innerAt = this.#core.activity(this.peer, now).innerAt;
    if (innerAt !== undefined && innerAt > this.#activeAt) this.#activeAt = innerAt;

    const asleep = now >= after(this.#activeAt, IDLE_AFTER_MS);
    if (asleep && this.#state === "connected" && this.#agent.state === "connected") {
      this.#enter("idle", now);
      this.#agent.setTimings(this.#settings.idleTimings, now);
    } else if (!asleep && this.#state === "idle") {
      this.#leaveIdle(now);
    }
  }

  #wake(now: Instant): void {
    this.#activeAt = now;
    if (this.#state === "idle") this.#leaveIdle(now);
  }

  #leaveIdle(now: Instant): void {
    this.#enter("connected", now);
    this.#agent.setTimings(this.#settings.timings, now);
  }

  #enter(state: ConnectionStatus["state"], now: Instant): void {
    this.#state = state;
    this.#stateSince = now;
  }

  #candidateDeadline(): Instant | undefined {
    return this.#hasRemoteCandidate ? undefined : after(this.#createdAt, CANDIDATE_TIMEOUT_MS);
  }

  #idleDeadline(): Instant | undefined {
    if (this.#state !== "connected" || this.#agent.state !== "connected") return undefined;
    return after(this.#activeAt, IDLE_AFTER_MS);
  }

  #fail(reason: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#events.push({ kind: "failed", node: this.node, reason });
  }
}

function pathKey(path: Path): string {
  return `${socketAddressText(path.source)}>${socketAddressText(path.destination)}`;
}

function isDue(at: Instant | undefined, now: Instant): boolean {
  return at !== undefined && at <= now;
}

function deadline(at: Instant | undefined, reason: string): Deadline | undefined {
  return at === undefined ? undefined : { at, reason };
}
