import { expectedUsername, readPeerRequest } from "../ice/binding.ts";
import { isUsableAddress } from "../ice/candidate.ts";
import type { NodeId, PeerId, RelayId } from "../id.ts";
import type { Relay } from "../messages.ts";
import { note } from "../note.ts";
import type { PacketCore } from "../packet-core.ts";
import type { PathTable } from "../path.ts";
import type { Random } from "../random.ts";
import type { Mapping } from "../stun/binding-probe.ts";
import { equalInConstantTime, hex } from "../stun/bytes.ts";
import { decodeStun, type StunMessage, transactionKey } from "../stun/message.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import type { NoiseCrypto, StaticIdentity } from "../wg/crypto.ts";
import { HandshakeGate, identifyInitiation } from "../wg/gate.ts";
import { peerOfIndex } from "../wg/index.ts";
import { Connection } from "./connection.ts";
import type {
  ConnectionParameters,
  ConnectionStatus,
  Connectivity,
  ConnectivityEvent,
} from "./connectivity.ts";
import { DropCounters } from "./counters.ts";
import { DeadlineQueue } from "./deadline-queue.ts";
import { Fifo } from "./fifo.ts";
import { Relays } from "./relays.ts";
import type { RoleSettings } from "./settings.ts";
import { Transactions } from "./transactions.ts";

export interface ConnectionNodeOptions {
  readonly core: PacketCore;
  /** Where chosen paths get their numbers; shared with the driver. */
  readonly paths: PathTable;
  readonly crypto: NoiseCrypto;
  readonly random: Random;
  readonly identity: StaticIdentity;
  /** Wall clock at the instant of construction, in milliseconds. */
  readonly unixTimeMs: number;
  /** CLIENT_SETTINGS or GATEWAY_SETTINGS. */
  readonly settings: RoleSettings;
}

/** connectivity §4.3. */
const MAX_DATAGRAM_BYTES = 1316;
/** connectivity §5: the port at which former relays are recognised. */
const RELAY_PORT = 3478;

/**
 * The connections of one node, and the relays that tell it its addresses.
 *
 * Inbound datagrams find their connection by map: checks by USERNAME, responses by transaction id, initiations
 * by static key, other handshake messages by the peer slot in their index. Timeouts find theirs by a heap.
 *
 * The driver calls `handleTimeout` not only at the deadline but also after each batch in which the packet
 * core touched peers: that is how idle connections wake and WireGuard's timers are armed.
 */
export class ConnectionNode implements Connectivity {
  readonly #options: ConnectionNodeOptions;
  readonly #startedAt: Instant;
  readonly #relays: Relays;
  readonly #byNode = new Map<NodeId, Connection>();
  readonly #byPeer = new Map<PeerId, Connection>();
  readonly #byUsername = new Map<string, Connection>();
  readonly #byPublicKey = new Map<string, Connection>();
  readonly #transactions = new Transactions<Connection>();
  readonly #deadlines = new DeadlineQueue<Connection>();
  /** Connections that may have events to poll. */
  readonly #eventful = new Set<Connection>();
  readonly #transmits = new Fifo<Transmit>();
  readonly #events = new Fifo<ConnectivityEvent>();
  readonly #drops = new DropCounters();
  #identity: StaticIdentity;
  #gate: HandshakeGate;

  constructor(options: ConnectionNodeOptions, now: Instant) {
    this.#options = options;
    this.#startedAt = now;
    this.#identity = options.identity;
    this.#relays = new Relays(options.random);
    this.#gate = new HandshakeGate(options.identity.publicKey, options.random, now);
  }

  upsert(
    node: NodeId,
    peer: PeerId,
    parameters: ConnectionParameters,
    now: Instant,
  ): "created" | "reused" | "no-relays" {
    const existing = this.#byNode.get(node);
    if (existing !== undefined && existing.peer === peer && isSameGrant(existing.parameters, parameters)) {
      existing.reuse(now);
      this.#settle(existing, now);
      return "reused";
    }
    if (this.#relays.size === 0) return "no-relays";

    if (existing !== undefined) this.#discard(existing);
    const connection = this.#connect(node, peer, parameters, now);
    for (const mapping of this.#relays.mappings) connection.addMapping(mapping, now);
    this.#settle(connection, now);
    return "created";
  }

  remove(node: NodeId, _now: Instant): void {
    const connection = this.#byNode.get(node);
    if (connection !== undefined) this.#discard(connection);
  }

  close(node: NodeId, now: Instant): void {
    this.#byNode.get(node)?.sayGoodbye(now);
    this.remove(node, now);
  }

  addRemoteCandidates(node: NodeId, candidates: readonly string[], now: Instant): void {
    const connection = this.#connectionFor(node);
    connection?.addRemoteCandidates(candidates, now);
    if (connection !== undefined) this.#settle(connection, now);
  }

  removeRemoteCandidates(node: NodeId, candidates: readonly string[], now: Instant): void {
    const connection = this.#connectionFor(node);
    connection?.removeRemoteCandidates(candidates, now);
    if (connection !== undefined) this.#settle(connection, now);
  }

  updateRelays(disconnected: readonly RelayId[], connected: readonly Relay[], now: Instant): void {
    this.#relays.update(disconnected, connected, now);
    this.#drainRelays(now);
  }

  status(node: NodeId, _now: Instant): ConnectionStatus | undefined {
    return this.#byNode.get(node)?.status();
  }

  reset(privateKey: Uint8Array, now: Instant): void {
    for (const connection of [...this.#byNode.values()]) this.#discard(connection);
    this.#transactions.clear();
    this.#transmits.clear();
    this.#events.clear();
    this.#identity = { privateKey, publicKey: this.#options.crypto.publicKey(privateKey) };
    this.#gate = new HandshakeGate(this.#identity.publicKey, this.#options.random, now);
    this.#relays.restart(now);
    this.#drainRelays(now);
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    const refusal = this.#sort(datagram, now);
    if (refusal !== undefined) this.#drops.add(refusal);
  }

  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void {
    const connection = this.#byPeer.get(peer);
    connection?.handleKeypairConfirmed(localIndex, now);
    if (connection !== undefined) this.#settle(connection, now);
  }

  handleNoKeypair(peer: PeerId, now: Instant): void {
    const connection = this.#byPeer.get(peer);
    connection?.handleNoKeypair(now);
    if (connection !== undefined) this.#settle(connection, now);
  }

  handleTimeout(now: Instant): void {
    this.#relays.handleTimeout(now);
    this.#drainRelays(now);
    for (const peer of this.#options.core.drainTouched()) {
      const connection = this.#byPeer.get(peer);
      connection?.handleTouched(now);
      if (connection !== undefined) this.#settle(connection, now);
    }

    const due: Connection[] = [];
    for (let c = this.#deadlines.takeDue(now); c !== undefined; c = this.#deadlines.takeDue(now)) due.push(c);
    for (const connection of due) {
      connection.handleTimeout(now);
      this.#settle(connection, now);
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): ConnectivityEvent | undefined {
    const own = this.#events.shift();
    if (own !== undefined) return own;

    for (const connection of this.#eventful) {
      const event = connection.pollEvent();
      if (event !== undefined) return event;
      this.#eventful.delete(connection);
    }
    return undefined;
  }

  pollTimeout(): Deadline | undefined {
    const first = this.#deadlines.first();
    const reason = first?.key.pollTimeout()?.reason ?? "connection";
    return earliest(this.#relays.pollTimeout(), first === undefined ? undefined : { at: first.at, reason });
  }

  /** Datagrams and messages that were refused, by reason, since construction. */
  drops(): Record<string, number> {
    return this.#drops.snapshot();
  }

  #connect(node: NodeId, peer: PeerId, parameters: ConnectionParameters, now: Instant): Connection {
    const { core, paths, crypto, random, settings, unixTimeMs } = this.#options;
    const connection = new Connection(
      {
        node,
        peer,
        parameters,
        core,
        paths,
        crypto,
        random,
        settings,
        identity: this.#identity,
        unixTimeMs: unixTimeMs + (now - this.#startedAt),
      },
      now,
    );
    this.#byNode.set(node, connection);
    this.#byPeer.set(peer, connection);
    this.#byUsername.set(usernameOf(parameters), connection);
    this.#byPublicKey.set(hex(parameters.remotePublicKey), connection);
    return connection;
  }

  /** Forgets the connection with everything it still wanted to say. */
  #discard(connection: Connection): void {
    this.#unlink(connection);
    this.#eventful.delete(connection);
  }

  #unlink(connection: Connection): void {
    connection.dispose();
    this.#deadlines.set(connection, undefined);
    deleteIf(this.#byNode, connection.node, connection);
    deleteIf(this.#byPeer, connection.peer, connection);
    deleteIf(this.#byUsername, usernameOf(connection.parameters), connection);
    deleteIf(this.#byPublicKey, hex(connection.parameters.remotePublicKey), connection);
  }

  #connectionFor(node: NodeId): Connection | undefined {
    const connection = this.#byNode.get(node);
    if (connection === undefined) this.#drops.add("candidates-for-nobody");
    return connection;
  }

  /** connectivity §5; returns why the datagram was refused. */
  #sort(datagram: Datagram, now: Instant): string | undefined {
    if (datagram.payload.length > MAX_DATAGRAM_BYTES) return "oversized";

    const message = decodeStun(datagram.payload);
    if (message === "malformed") return this.#handleHandshake(datagram, now);

    if (this.#relays.isServer(datagram.from)) {
      const isAnswer = this.#relays.handleMessage(message, datagram, now);
      this.#drainRelays(now);
      return isAnswer ? undefined : "stun-unmatched";
    }
    if (datagram.from.port === RELAY_PORT && this.#relays.wasServer(datagram.from)) return "former-relay";
    return this.#handleCheck(message, datagram, now);
  }

  #handleCheck(message: StunMessage, datagram: Datagram, now: Instant): string | undefined {
    const connection = this.#checkOwner(message, now);
    if (typeof connection === "string") return connection;

    const refusal =
      message.class === "request"
        ? connection.handleRequest(datagram, message, now)
        : connection.handleSuccess(datagram, message, now);
    this.#settle(connection, now);
    return refusal;
  }

  /** Errors and indications are nobody's: a peer's 487 repairs nothing that the portal did not break. */
  #checkOwner(message: StunMessage, now: Instant): Connection | "malformed" | "stun-unmatched" {
    if (message.method !== "binding") return "stun-unmatched";
    if (message.class === "request") {
      const request = readPeerRequest(message);
      return request === undefined
        ? "malformed"
        : (this.#byUsername.get(request.username) ?? "stun-unmatched");
    }
    if (message.class !== "success") return "stun-unmatched";

    const owner = this.#transactions.ownerOf(transactionKey(message.transactionId), now);
    return owner === undefined || owner.failed ? "stun-unmatched" : owner;
  }

  #handleHandshake(datagram: Datagram, now: Instant): string | undefined {
    const { payload } = datagram;
    const admission = this.#gate.admit(payload, datagram.from, now);
    if (admission.kind === "drop") return admission.reason;
    if (admission.kind === "cookie-reply") {
      // Finding the chosen path would cost the very computation that the cookie is to spare us.
      this.#transmits.push(reply(datagram, admission.message));
      return "handshake-rate";
    }

    const connection = payload[0] === 1 ? this.#initiator(payload) : this.#byPeer.get(receiverPeer(payload));
    if (connection === undefined) return "unknown-sender";

    const result = connection.handleWireGuard(payload, now);
    this.#settle(connection, now);
    return result === "accepted" ? undefined : result;
  }

  #initiator(initiation: Uint8Array): Connection | undefined {
    const key = identifyInitiation(initiation, this.#identity, this.#options.crypto);
    return key === undefined ? undefined : this.#byPublicKey.get(hex(key));
  }

  #drainRelays(now: Instant): void {
    for (let t = this.#relays.pollTransmit(); t !== undefined; t = this.#relays.pollTransmit()) {
      this.#transmits.push(t);
    }
    for (let e = this.#relays.pollEvent(); e !== undefined; e = this.#relays.pollEvent()) {
      if (e.kind === "mapping") this.#addMapping(e.mapping, now);
      else this.#events.push(e);
    }
  }

  #addMapping(mapping: Mapping, now: Instant): void {
    if (!isUsableAddress(mapping.local)) {
      this.#events.push(
        note("warn", "arrival address of datagrams is unknown, so there is no host candidate"),
      );
    }
    for (const connection of [...this.#byNode.values()]) {
      connection.addMapping(mapping, now);
      this.#settle(connection, now);
    }
  }

  /** Takes what the connection wants sent, arms its deadline, and lets go of it if it failed. */
  #settle(connection: Connection, now: Instant): void {
    for (let t = connection.pollTransmit(); t !== undefined; t = connection.pollTransmit()) {
      if (t.transaction !== undefined) this.#transactions.remember(t.transaction, connection, now);
      this.#transmits.push({ source: t.source, destination: t.destination, payload: t.payload });
    }
    this.#eventful.add(connection);
    if (connection.failed) this.#unlink(connection);
    else this.#deadlines.set(connection, connection.pollTimeout()?.at);
  }
}

function usernameOf(parameters: ConnectionParameters): string {
  return expectedUsername(parameters.localIce, parameters.remoteIce);
}

function isSameGrant(a: ConnectionParameters, b: ConnectionParameters): boolean {
  return (
    a.role === b.role &&
    a.localIce.username === b.localIce.username &&
    a.localIce.password === b.localIce.password &&
    a.remoteIce.username === b.remoteIce.username &&
    a.remoteIce.password === b.remoteIce.password &&
    equalInConstantTime(a.remotePublicKey, b.remotePublicKey) &&
    equalInConstantTime(a.presharedKey, b.presharedKey)
  );
}

/** Responses carry the receiver index at offset 8, cookie replies at 4; both little-endian. */
function receiverPeer(message: Uint8Array): PeerId {
  const offset = message[0] === 2 ? 8 : 4;
  return peerOfIndex(
    new DataView(message.buffer, message.byteOffset, message.byteLength).getUint32(offset, true),
  );
}

function reply(datagram: Datagram, payload: Uint8Array): Transmit {
  return { source: datagram.local, destination: datagram.from, payload };
}

function deleteIf<K>(map: Map<K, Connection>, key: K, connection: Connection): void {
  if (map.get(key) === connection) map.delete(key);
}
