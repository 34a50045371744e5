import type { ClientId, GatewayId, RelayId, ResourceId } from "../../core/id.ts";
import type { Note } from "../../core/note.ts";
import type { Random } from "../../core/random.ts";
import { type Deadline, earliest, type Instant, type UnixTime } from "../../core/time.ts";
import { type ClientStatement, decodeClientStatement } from "../client-messages.ts";
import type { Decoded } from "../decode.ts";
import { decodeGatewayStatement, type GatewayStatement } from "../gateway-messages.ts";
import { decodeRelayJoin, encodeRelayPush } from "../relay-messages.ts";
import {
  decodeFrame,
  errorReply,
  type Frame,
  MAX_INBOUND_FRAME_BYTES,
  okReply,
  PHOENIX_TOPIC,
} from "../wire.ts";
import { Admissions, type Eviction, MESSAGE_BURST } from "./admission.ts";
import { Authorizations, routeOf } from "./authorizations.ts";
import { connectable, interfaceOf, noteShown, pushDeletions, pushUpdates } from "./client-view.ts";
import { derivedBytes } from "./derivations.ts";
import { DeviceRegistry } from "./devices.ts";
import { type Hello, parseTarget, type Refusal, tokenText } from "./hello.ts";
import type { Configuration } from "./model.ts";
import { type Close, Outbox, type Send } from "./outbox.ts";
import type { ClientPeer, ConnectionId, GatewayPeer, Peer, RelayPeer } from "./peers.ts";
import { RelayPresence } from "./relay-presence.ts";
import { isExpired, parseToken, type TokenTable } from "./tokens.ts";
import { isTokenValid, turnExpiry, type World } from "./world.ts";

// portal §4.3, §22.3, §22.6
const IDLE_MS = { client: 37_000, gateway: 37_000, relay: 41_000 };
const JOIN_TIMEOUT_MS = 10_000;
const MESSAGES_PER_SECOND = 200;
const MAX_CANDIDATES = 64;
const MAX_CANDIDATE_LENGTH = 512;
/** Expiry and silence are looked for once a second (portal §24.4). */
const SWEEP_MS = 1_000;

// WebSocket close codes
const NORMAL = 1000;
const IDLE = 1002;
const POLICY_VIOLATION = 1008;
const TOO_BIG = 1009;
const REPLACED = 1012;

export interface PortalOptions {
  readonly configuration: Configuration;
  readonly tokens: TokenTable;
  /** 32 secret bytes that outlive the process: ids, addresses and keys of devices follow from them. */
  readonly seed: Uint8Array;
  /** Where peers would upload flow logs, if that were on; they insist on a URL. */
  readonly url: string;
}

export type HelloResult =
  | { readonly kind: "accepted"; readonly connection: ConnectionId }
  | { readonly kind: "refused"; readonly refusal: Refusal };

/** Numbers for people and health checks. */
export interface PortalStatus {
  readonly clients: number;
  readonly gateways: number;
  readonly relays: number;
  readonly grants: number;
}

/**
 * The portal: who is connected, who may reach what, and what everybody has to be told (portal §19).
 *
 * The driver asks `handleHello` about each upgrade and reports frames and ends of the connections that
 * it accepted. After every `handle*` it drains `pollSend`, then `pollClose`, then `pollNote`, and arms one
 * timer for `pollTimeout`. A connection that was closed by `pollClose` is forgotten: reporting its end does
 * no harm. Nothing that a peer sends makes the machine throw; refused input is counted.
 */
export class PortalState {
  readonly #world: World;
  readonly #url: string;
  readonly #devices: DeviceRegistry;
  readonly #admissions: Admissions;
  readonly #authorizations: Authorizations;
  readonly #relays: RelayPresence;
  readonly #peers = new Map<ConnectionId, Peer>();
  #unixOffsetMs: number;
  #sweepAt: Instant;

  constructor(options: PortalOptions, random: Random, unixTime: UnixTime, now: Instant) {
    this.#world = {
      configuration: options.configuration,
      tokens: options.tokens,
      clients: new Map<ClientId, ClientPeer>(),
      gateways: new Map<GatewayId, GatewayPeer>(),
      outbox: new Outbox(),
      random,
    };
    this.#url = options.url;
    this.#devices = new DeviceRegistry(options.seed);
    this.#admissions = new Admissions(this.#world, this.#devices);
    this.#authorizations = new Authorizations(this.#world, derivedBytes(options.seed, "ingest"));
    this.#relays = new RelayPresence(random);
    this.#unixOffsetMs = unixTime * 1000 - now;
    this.#sweepAt = now + SWEEP_MS;
  }

  get configuration(): Configuration {
    return this.#world.configuration;
  }

  get status(): PortalStatus {
    return {
      clients: this.#world.clients.size,
      gateways: this.#world.gateways.size,
      relays: this.#relays.count,
      grants: this.#authorizations.count,
    };
  }

  /** Refused input by reason, since the start. */
  get counters(): ReadonlyMap<string, number> {
    return this.#world.outbox.counters;
  }

  /** False: the hello's token has an id that the table lacks, so that reading it again may help. */
  knowsToken(hello: Hello): boolean {
    const target = parseTarget(hello.target);
    const text = target && tokenText(hello, target.query);
    const token = text === undefined ? undefined : parseToken(text);
    return token === undefined || this.#world.tokens.has(token.id);
  }

  handleHello(hello: Hello, now: Instant): HelloResult {
    const admission = this.#admissions.decide(hello, now, this.#unixTime(now));
    if (admission.kind === "refused") {
      this.#world.outbox.count(`refused-${admission.refusal.code}`);
      return { kind: "refused", refusal: admission.refusal };
    }
    if (admission.evicted !== undefined) this.#evict(admission.evicted, now);
    const { peer } = admission;
    this.#peers.set(peer.connection, peer);
    if (peer.role === "client") this.#world.clients.set(peer.device.id, peer);
    if (peer.role === "gateway") this.#world.gateways.set(peer.device.id, peer);
    return { kind: "accepted", connection: peer.connection };
  }

  handleFrame(connection: ConnectionId, text: string, now: Instant): void {
    const peer = this.#peers.get(connection);
    if (peer === undefined) return;
    peer.lastSeenAt = now;
    if (text.length > MAX_INBOUND_FRAME_BYTES) {
      this.#drop(peer, TOO_BIG, now);
    } else if (!takeAllowance(peer, now)) {
      this.#world.outbox.note("warn", "a peer sends too many messages", { role: peer.role });
      this.#drop(peer, POLICY_VIOLATION, now);
    } else {
      this.#handleText(peer, text, now);
    }
  }

  handleClosed(connection: ConnectionId, now: Instant): void {
    const peer = this.#peers.get(connection);
    if (peer !== undefined) this.#forget(peer, now);
  }

  /** Replaces the configuration; the account's id must be the same. Losses are pushed before gains (portal §13.6). */
  handleConfiguration(configuration: Configuration, now: Instant): void {
    const old = this.#world.configuration;
    this.#world.configuration = configuration;
    this.#revalidate(now);
    this.#devices.retain(configuration);
    const clients = [...this.#world.clients.values()].filter((peer) => peer.isJoined);
    for (const peer of clients) pushDeletions(this.#world, peer);
    for (const peer of clients) pushUpdates(this.#world, peer);
    for (const peer of this.#world.gateways.values()) this.#updateGateway(peer, old, now);
  }

  /** Replaces the tokens: peers whose token is gone are signed out, their grants withdrawn. */
  handleTokens(tokens: TokenTable, now: Instant): void {
    this.#world.tokens = tokens;
    this.#revalidate(now);
  }

  /** The wall clock was read again. */
  handleUnixTime(unixTime: UnixTime, now: Instant): void {
    this.#unixOffsetMs = unixTime * 1000 - now;
  }

  /** Refuses all hellos from now on; the driver closes the connections at its own pace (portal §24.4). */
  handleDrain(): void {
    this.#admissions.drain();
  }

  handleTimeout(now: Instant): void {
    if (this.#relays.settle(now)) this.#announceRelays();
    this.#authorizations.handleTimeout(now, this.#unixTime(now));
    if (now < this.#sweepAt) return;

    this.#sweepAt = now + SWEEP_MS;
    this.#admissions.handleTimeout(now);
    for (const peer of [...this.#peers.values()]) this.#sweep(peer, now);
  }

  pollSend(): Send | undefined {
    return this.#world.outbox.pollSend();
  }

  pollClose(): Close | undefined {
    return this.#world.outbox.pollClose();
  }

  pollNote(): Note | undefined {
    return this.#world.outbox.pollNote();
  }

  pollTimeout(): Deadline | undefined {
    return earliest(
      { at: this.#sweepAt, reason: "portal sweep" },
      at(this.#relays.settledAt, "portal relays settle"),
      at(this.#authorizations.nextTimeout, "portal acknowledgement"),
    );
  }

  // ── Frames ────────────────────────────────────────────────────────────────────────────────────

  #handleText(peer: Peer, text: string, now: Instant): void {
    const { outbox } = this.#world;
    const frame = decodeFrame(text);
    if (frame === undefined) {
      outbox.count("malformed-frame");
    } else if (frame.topic === PHOENIX_TOPIC && frame.event === "heartbeat") {
      outbox.frame(peer, okReply(PHOENIX_TOPIC, frame.ref));
    } else if (frame.topic === peer.role && frame.event === "phx_join") {
      this.#handleJoin(peer, frame, now);
    } else if (frame.topic !== peer.role || !peer.isJoined) {
      outbox.count("unmatched-topic");
      outbox.frame(peer, errorReply(frame.topic, frame.ref, "unmatched topic"));
    } else {
      this.#handleEvent(peer, frame, now);
    }
  }

  /** A repeated join is answered again; `phx_close` in between would look like a lost connection (portal §4.1). */
  #handleJoin(peer: Peer, frame: Frame, now: Instant): void {
    const { outbox } = this.#world;
    const join = peer.role === "relay" ? decodeRelayJoin(frame.payload) : undefined;
    if (peer.role === "relay" && join === undefined) {
      outbox.frame(peer, errorReply(frame.topic, frame.ref, "invalid_stamp_secret"));
      return;
    }
    peer.isJoined = true;
    outbox.frame(peer, okReply(frame.topic, frame.ref));
    switch (peer.role) {
      case "client":
        this.#initClient(peer);
        break;
      case "gateway":
        this.#initGateway(peer, now);
        break;
      case "relay":
        this.#initRelay(peer, join?.stampSecret ?? "", now);
    }
    outbox.note("info", `${peer.role} joined`, { connection: peer.connection });
  }

  #handleEvent(peer: Peer, frame: Frame, now: Instant): void {
    switch (peer.role) {
      case "client": {
        const decoded = decodeClientStatement(frame.event, frame.payload, peer.generation);
        if (decoded.kind === "message") this.#handleClient(peer, decoded.message, now);
        else if (!this.#answerBadRequest(peer, frame)) this.#refuse(peer, frame, decoded);
        return;
      }
      case "gateway": {
        const decoded = decodeGatewayStatement(frame.event, frame.payload, peer.generation);
        if (decoded.kind === "message") this.#handleGateway(peer, frame, decoded.message, now);
        else this.#refuse(peer, frame, decoded);
        return;
      }
      case "relay":
        this.#refuse(peer, frame, { kind: "unknown" });
    }
  }

  #refuse(peer: Peer, frame: Frame, decoded: Exclude<Decoded<unknown>, { kind: "message" }>): void {
    const isUnknown = decoded.kind === "unknown";
    this.#world.outbox.count(isUnknown ? "unknown-event" : "malformed-payload");
    this.#world.outbox.frame(
      peer,
      errorReply(frame.topic, frame.ref, isUnknown ? "unknown_message" : "invalid_payload"),
    );
  }

  /** A request for something that is no resource id gets the answer that any other unknown resource gets (portal §17). */
  #answerBadRequest(peer: ClientPeer, { event, payload }: Frame): boolean {
    if (event !== (peer.generation === 2 ? "request_authorization" : "create_flow")) return false;
    const id =
      typeof payload === "object" && payload !== null && "resource_id" in payload && payload.resource_id;
    if (typeof id !== "string" || id.length > 64) return false;
    this.#world.outbox.count("malformed-payload");
    this.#world.outbox.toClient(peer, {
      kind: "authorization-failed",
      resource: id as ResourceId,
      reason: "not_found",
      violatedProperties: [],
    });
    return true;
  }

  #handleClient(peer: ClientPeer, statement: ClientStatement, now: Instant): void {
    switch (statement.kind) {
      case "request-authorization":
        this.#authorizations.request(peer, statement, now, this.#unixTime(now));
        return;
      case "ice-candidates":
      case "invalidate-ice-candidates": {
        const candidates = this.#boundedCandidates(statement.candidates);
        for (const id of statement.gateways) {
          const gateway = this.#world.gateways.get(id);
          if (gateway === undefined || candidates.length === 0) continue;
          if (!this.#mayExchange(peer.device.id, id, now)) continue;
          const push = { kind: statement.kind, client: peer.device.id, candidates };
          this.#world.outbox.toGateway(gateway, push);
        }
        return;
      }
      case "no-relays":
        this.#renewRelays(peer);
        return;
      case "capabilities":
        // Neither side may go without ICE here, whatever it can (portal §22.7).
        return;
    }
  }

  #handleGateway(peer: GatewayPeer, frame: Frame, statement: GatewayStatement, now: Instant): void {
    const { outbox } = this.#world;
    switch (statement.kind) {
      case "authorization-created": {
        const isExpected = this.#authorizations.acknowledge(peer, statement.ref);
        if (!isExpected) outbox.count("invalid-ref");
        outbox.frame(
          peer,
          isExpected ? okReply(frame.topic, frame.ref) : errorReply(frame.topic, frame.ref, "invalid_ref"),
        );
        return;
      }
      case "ice-candidates":
      case "invalidate-ice-candidates": {
        const candidates = this.#boundedCandidates(statement.candidates);
        for (const id of statement.clients) {
          const client = this.#world.clients.get(id);
          if (client === undefined || candidates.length === 0) continue;
          if (!this.#mayExchange(id, peer.device.id, now)) continue;
          outbox.toClient(client, { kind: statement.kind, gateway: peer.device.id, candidates });
        }
        return;
      }
      case "no-relays":
        this.#renewRelays(peer);
        return;
      case "capabilities":
        return;
    }
  }

  #boundedCandidates(candidates: readonly string[]): readonly string[] {
    const kept = candidates.filter((line) => line.length <= MAX_CANDIDATE_LENGTH).slice(0, MAX_CANDIDATES);
    for (let i = kept.length; i < candidates.length; i++) this.#world.outbox.count("candidate-beyond-limit");
    return kept;
  }

  /** Candidates travel only along a live grant (portal §22.5). */
  #mayExchange(client: ClientId, gateway: GatewayId, now: Instant): boolean {
    if (this.#authorizations.isGranted(client, gateway, this.#unixTime(now))) return true;
    this.#world.outbox.count("candidates-without-grant");
    return false;
  }

  // ── Init ──────────────────────────────────────────────────────────────────────────────────────

  #initClient(peer: ClientPeer): void {
    const resources = connectable(this.#world, peer);
    const shown = interfaceOf(this.#world, peer);
    noteShown(peer, resources, shown);
    peer.relays = this.#relays.choose(peer.relays);
    this.#world.outbox.toClient(peer, {
      kind: "init",
      interface: shown,
      resources,
      relays: this.#relayList(peer, peer.relays),
      flowLogsUrl: this.#url,
    });
  }

  #initGateway(peer: GatewayPeer, now: Instant): void {
    const { device } = peer;
    peer.relays = this.#relays.choose(peer.relays);
    this.#world.outbox.toGateway(peer, {
      kind: "init",
      interface: { ipv4: device.ipv4, ipv6: device.ipv6 },
      relays: this.#relayList(peer, peer.relays),
      authorizations: this.#authorizations.liveGrants(device.id, this.#unixTime(now)).map((grant) => ({
        client: grant.client.id,
        resource: grant.resource.id,
        expiresAt: grant.expiresAt,
      })),
      accountSlug: this.#world.configuration.account.slug,
      flowLogsUrl: this.#url,
    });
  }

  #initRelay(peer: RelayPeer, stampSecret: string, now: Instant): void {
    const evicted = this.#relays.add(peer, stampSecret, now);
    if (evicted !== undefined) {
      this.#world.outbox.push(evicted, { event: "phx_close", payload: {} });
      this.#drop(evicted, NORMAL, now);
    }
    this.#world.outbox.push(peer, encodeRelayPush({ kind: "init" }));
  }

  #relayList(peer: ClientPeer | GatewayPeer, ids: readonly RelayId[]) {
    return this.#relays.describe(ids, peer.device.publicKey, turnExpiry(peer));
  }

  #renewRelays(peer: ClientPeer | GatewayPeer): void {
    peer.relays = this.#relays.choose([]);
    this.#pushRelays(peer, []);
  }

  #announceRelays(): void {
    for (const peer of this.#peers.values()) {
      if (peer.role === "relay" || !peer.isJoined) continue;
      const change = this.#relays.changeFor(peer.relays);
      if (change === undefined) continue;
      peer.relays = change.chosen;
      this.#pushRelays(peer, change.disconnected);
    }
  }

  #pushRelays(peer: ClientPeer | GatewayPeer, disconnected: readonly RelayId[]): void {
    const connected = this.#relayList(peer, peer.relays);
    const push = { kind: "relays-presence" as const, disconnected, connected };
    if (peer.role === "client") this.#world.outbox.toClient(peer, push);
    else this.#world.outbox.toGateway(peer, push);
  }

  // ── Changes ───────────────────────────────────────────────────────────────────────────────────

  /** Signs out whose token no longer holds, after withdrawing grants that rest on it. */
  #revalidate(now: Instant): void {
    const unixTime = this.#unixTime(now);
    this.#authorizations.revalidate(unixTime);
    for (const peer of [...this.#peers.values()]) {
      if (!isTokenValid(this.#world, peer.token, unixTime)) this.#signOut(peer, now);
    }
  }

  #updateGateway(peer: GatewayPeer, old: Configuration, now: Instant): void {
    const { configuration, outbox } = this.#world;
    if (configuration.account.slug !== old.account.slug && peer.isJoined) this.#initGateway(peer, now);
    for (const resource of configuration.resources.values()) {
      const before = old.resources.get(resource.id);
      if (before === undefined || filtersText(before) === filtersText(resource)) continue;
      // Gateways learn of other changes by losing the grant.
      if (routeOf(before) !== routeOf(resource)) continue;
      outbox.toGateway(peer, { kind: "resource-updated", resource });
    }
  }

  #sweep(peer: Peer, now: Instant): void {
    if (isExpired(peer.token, this.#unixTime(now))) {
      this.#signOut(peer, now);
    } else if (!peer.isJoined && now >= peer.openedAt + JOIN_TIMEOUT_MS) {
      this.#drop(peer, POLICY_VIOLATION, now);
    } else if (now >= peer.lastSeenAt + IDLE_MS[peer.role]) {
      this.#world.outbox.note("info", `${peer.role} is silent`, { connection: peer.connection });
      this.#drop(peer, IDLE, now);
    }
  }

  #evict({ peer, reason }: Eviction, now: Instant): void {
    if (reason === "sign-out") this.#signOut(peer, now);
    else this.#drop(peer, REPLACED, now);
  }

  /** Ends the connection for good: the peer needs another token. Relays know no such event (portal §13.6). */
  #signOut(peer: Peer, now: Instant): void {
    if (peer.role !== "relay") {
      this.#world.outbox.push(peer, { event: "disconnect", payload: { reason: "token_expired" } });
    }
    this.#drop(peer, NORMAL, now);
  }

  #drop(peer: Peer, code: number, now: Instant): void {
    this.#world.outbox.close(peer, code);
    this.#forget(peer, now);
  }

  /** Only peers that are listed get here: a replaced one is forgotten before its successor is listed. */
  #forget(peer: Peer, now: Instant): void {
    this.#peers.delete(peer.connection);
    switch (peer.role) {
      case "client":
        this.#authorizations.forgetRequests(peer);
        this.#world.clients.delete(peer.device.id);
        break;
      case "gateway":
        this.#world.gateways.delete(peer.device.id);
        break;
      case "relay":
        this.#relays.remove(peer, now);
    }
    if (peer.isJoined) {
      this.#world.outbox.note("info", `${peer.role} left`, { connection: peer.connection });
    }
  }

  #unixTime(now: Instant): UnixTime {
    return Math.floor((now + this.#unixOffsetMs) / 1000);
  }
}

function takeAllowance(peer: Peer, now: Instant): boolean {
  const earned = ((now - peer.allowanceAt) / 1000) * MESSAGES_PER_SECOND;
  peer.allowance = Math.min(MESSAGE_BURST, peer.allowance + earned) - 1;
  peer.allowanceAt = now;
  return peer.allowance >= 0;
}

function at(instant: Instant | undefined, reason: string): Deadline | undefined {
  return instant === undefined ? undefined : { at: instant, reason };
}

function filtersText(resource: { readonly kind: string; readonly filters?: unknown }): string {
  return JSON.stringify(resource.filters ?? []);
}
