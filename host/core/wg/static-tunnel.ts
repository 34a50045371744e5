import {
  type Cidr,
  contains,
  type IpAddress,
  isIpv4,
  type SocketAddress,
  sameSocketAddress,
} from "../address.ts";
import { type Disposition, drop } from "../drop.ts";
import type { PathId, PeerId } from "../id.ts";
import { type Note, note } from "../note.ts";
import { flowKeyOf, parseIpPacket } from "../packet/ip-packet.ts";
import type { PacketCore } from "../packet-core.ts";
import type { PathTable } from "../path.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import type { TunnelMachine } from "../tunnel-machine.ts";
import { equalBytes, KEY_BYTES, type NoiseCrypto, type StaticIdentity } from "./crypto.ts";
import { HandshakeGate, identifyInitiation } from "./gate.ts";
import { peerOfIndex } from "./index.ts";
import { parseMessage } from "./messages.ts";
import { WireGuardPeer } from "./peer.ts";
import { PLAIN_TIMERS, type WireGuardTimers } from "./timers.ts";

/** Packets kept per peer while a handshake runs; the oldest gives way. */
const BUFFERED_PACKETS = 128;
/** Unpolled cookie replies; the oldest gives way. */
const COOKIE_REPLIES = 64;
/** Unpolled events; the oldest gives way. */
const EVENTS = 256;
/** The packet core is asked this often which peers sent or received. */
const TOUCHED_INTERVAL_MS = 1_000;

export interface StaticPeer {
  readonly publicKey: Uint8Array;
  readonly presharedKey?: Uint8Array | undefined;
  /** Unset: known once the peer sends a handshake. */
  readonly endpoint?: SocketAddress | undefined;
  readonly allowedIps: readonly Cidr[];
  /** Persistent keepalive; unset or 0: off. */
  readonly keepaliveSeconds?: number | undefined;
}

export interface StaticTunnelOptions {
  readonly core: PacketCore;
  readonly paths: PathTable;
  readonly crypto: NoiseCrypto;
  readonly random: Random;
  readonly privateKey: Uint8Array;
  readonly peers: readonly StaticPeer[];
  /** Source of the paths to configured endpoints, per family; undefined: no socket. */
  readonly local: { readonly v4: SocketAddress | undefined; readonly v6: SocketAddress | undefined };
  /** Wall clock at the instant of construction, in milliseconds. */
  readonly unixTimeMs: number;
  readonly timers?: WireGuardTimers;
}

/** Forgets keys, peers and flows; every later input is dropped. */
export type StaticTunnelCommand = { readonly kind: "shutdown" };

export type StaticTunnelEvent =
  | { readonly kind: "handshake-completed"; readonly publicKey: Uint8Array }
  | Note;

interface Entry {
  readonly id: PeerId;
  readonly publicKey: Uint8Array;
  readonly machine: WireGuardPeer;
  readonly keepsAlive: boolean;
  readonly waiting: Uint8Array[];
  endpoint:
    | { readonly source: SocketAddress; readonly destination: SocketAddress; readonly id: PathId }
    | undefined;
}

interface Route {
  readonly network: Cidr;
  readonly entry: Entry;
}

/**
 * Plain WireGuard between fixed peers, as other implementations speak it: allowed IPs route what leaves and
 * check what arrives.
 *
 * A peer's endpoint follows the source of its latest authenticated handshake message. Data messages are opened
 * in the packet core, which does not tell where they came from, so a roaming peer is followed at its next
 * handshake: within two minutes while data flows, 15 s after the first packet that it does not answer.
 */
export class StaticTunnel implements TunnelMachine<StaticTunnelCommand, StaticTunnelEvent> {
  readonly #core: PacketCore;
  readonly #paths: PathTable;
  readonly #crypto: NoiseCrypto;
  readonly #identity: StaticIdentity;
  readonly #local: StaticTunnelOptions["local"];
  readonly #gate: HandshakeGate;
  readonly #entries = new Map<PeerId, Entry>();
  /** Longest prefix first. */
  #routes: readonly Route[];
  readonly #cookieReplies: Transmit[] = [];
  readonly #events: StaticTunnelEvent[] = [];
  #touchedAt: Instant | undefined;

  /** Throws if the packet core has no room for all peers. */
  constructor(options: StaticTunnelOptions, now: Instant) {
    this.#core = options.core;
    this.#paths = options.paths;
    this.#crypto = options.crypto;
    this.#identity = {
      privateKey: options.privateKey,
      publicKey: options.crypto.publicKey(options.privateKey),
    };
    this.#local = options.local;
    this.#gate = new HandshakeGate(this.#identity.publicKey, options.random, now);
    this.#routes = options.peers
      .flatMap((peer) => {
        const entry = this.#addPeer(peer, options, now);
        return peer.allowedIps.map((network) => ({ network, entry }));
      })
      .sort((a, b) => b.network.prefix - a.network.prefix);
    this.#settle(now);
  }

  handleTunPacket(packet: Uint8Array, now: Instant): Disposition {
    const parsed = parseIpPacket(packet);
    if (parsed === undefined) return drop("malformed");
    const entry = this.#route(parsed.destination);
    if (entry === undefined) return drop("unknown-resource");
    if (entry.endpoint === undefined) return drop("not-connected");

    if (!entry.machine.sendable) {
      this.#wait(entry, packet, now);
      return "consumed";
    }
    if (parsed.kind === "icmp") {
      this.#core.seal(entry.id, packet, now);
      return "consumed";
    }
    this.#core.addFlow(flowKeyOf(parsed, "tun"), entry.id, undefined, now);
    return "forward";
  }

  handlePeerPacket(peer: PeerId, packet: Uint8Array, now: Instant): Disposition {
    const parsed = parseIpPacket(packet);
    if (parsed === undefined) return drop("malformed");
    if (this.#route(parsed.source)?.id !== peer) return drop("not-allowed");

    if (parsed.kind === "icmp") {
      this.#core.writeTun(packet);
      return "consumed";
    }
    this.#core.addFlow(flowKeyOf(parsed, peer), peer, undefined, now);
    return "forward";
  }

  handleNoKeypair(peer: PeerId, packet: Uint8Array, now: Instant): void {
    const entry = this.#entries.get(peer);
    if (entry?.endpoint !== undefined) this.#wait(entry, packet, now);
  }

  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void {
    this.#entries.get(peer)?.machine.handleKeypairConfirmed(localIndex, now);
    this.#settle(now);
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    const admission = this.#gate.admit(datagram.payload, datagram.from, now);
    if (admission.kind === "cookie-reply") {
      this.#cookieReplies.push({
        source: datagram.local,
        destination: datagram.from,
        payload: admission.message,
      });
      if (this.#cookieReplies.length > COOKIE_REPLIES) this.#cookieReplies.shift();
    }
    if (admission.kind !== "accept") return;

    const found = this.#recipient(datagram.payload);
    if (found === undefined) return;
    if (found.entry.machine.handleMessage(datagram.payload, now) === "accepted" && found.roams) {
      this.#setEndpoint(found.entry, datagram.local, datagram.from, now);
    }
    this.#settle(now);
  }

  handleCommand(command: StaticTunnelCommand, now: Instant): void {
    switch (command.kind) {
      case "shutdown":
        this.#shutdown();
        break;
      default:
        command.kind satisfies never;
    }
    this.#settle(now);
  }

  handleTimeout(now: Instant): void {
    for (const peer of this.#core.drainTouched()) this.#entries.get(peer)?.machine.handleTouched(now);
    for (const entry of this.#entries.values()) entry.machine.handleTimeout(now);
    this.#touchedAt = undefined;
    this.#settle(now);
  }

  pollTransmit(): Transmit | undefined {
    for (const entry of this.#entries.values()) {
      for (
        let payload = entry.machine.pollMessage();
        payload !== undefined;
        payload = entry.machine.pollMessage()
      ) {
        if (entry.endpoint === undefined) continue;
        return { source: entry.endpoint.source, destination: entry.endpoint.destination, payload };
      }
    }
    return this.#cookieReplies.shift();
  }

  pollEvent(): StaticTunnelEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    const touched =
      this.#touchedAt === undefined ? undefined : { at: this.#touchedAt, reason: "peer activity" };
    return earliest(touched, ...[...this.#entries.values()].map((entry) => entry.machine.pollTimeout()));
  }

  #addPeer(peer: StaticPeer, options: StaticTunnelOptions, now: Instant): Entry {
    const id = this.#core.addPeer();
    if (id === undefined) throw new RangeError("the packet core has no room for another peer");

    const keepaliveMs = (peer.keepaliveSeconds ?? 0) * 1000;
    const machine = new WireGuardPeer(
      {
        core: options.core,
        peer: id,
        crypto: options.crypto,
        random: options.random,
        identity: this.#identity,
        remotePublicKey: peer.publicKey,
        presharedKey: peer.presharedKey ?? new Uint8Array(KEY_BYTES),
        unixTimeMs: options.unixTimeMs,
        timers: options.timers ?? PLAIN_TIMERS,
        persistentKeepaliveMs: keepaliveMs > 0 ? keepaliveMs : undefined,
      },
      now,
    );
    const entry: Entry = {
      id,
      publicKey: peer.publicKey.slice(),
      machine,
      keepsAlive: keepaliveMs > 0,
      waiting: [],
      endpoint: undefined,
    };
    this.#entries.set(id, entry);

    const source = peer.endpoint && (isIpv4(peer.endpoint.ip) ? this.#local.v4 : this.#local.v6);
    if (peer.endpoint !== undefined && source !== undefined) {
      this.#setEndpoint(entry, source, peer.endpoint, now);
      if (entry.keepsAlive) machine.startHandshake(now);
    }
    return entry;
  }

  #setEndpoint(entry: Entry, source: SocketAddress, destination: SocketAddress, now: Instant): void {
    const old = entry.endpoint;
    if (
      old !== undefined &&
      sameSocketAddress(old.source, source) &&
      sameSocketAddress(old.destination, destination)
    ) {
      return;
    }
    const id = this.#paths.acquire({ source, destination });
    entry.endpoint = { source, destination, id };
    this.#core.setPath(entry.id, id);
    if (old !== undefined) this.#paths.release(old.id);
    entry.machine.handlePath(now);
  }

  /** Responses and cookie replies name our index, initiations only the sender's static key. */
  #recipient(payload: Uint8Array): { readonly entry: Entry; readonly roams: boolean } | undefined {
    const message = parseMessage(payload);
    if (typeof message === "string") return undefined;

    if (message.kind === "initiation") {
      const publicKey = identifyInitiation(payload, this.#identity, this.#crypto);
      if (publicKey === undefined) return undefined;
      for (const entry of this.#entries.values()) {
        if (equalBytes(entry.publicKey, publicKey)) return { entry, roams: true };
      }
      return undefined;
    }
    const entry = this.#entries.get(peerOfIndex(message.receiver));
    return entry && { entry, roams: message.kind === "response" };
  }

  #route(address: IpAddress): Entry | undefined {
    return this.#routes.find((route) => contains(route.network, address))?.entry;
  }

  #wait(entry: Entry, packet: Uint8Array, now: Instant): void {
    entry.waiting.push(packet.slice());
    if (entry.waiting.length > BUFFERED_PACKETS) entry.waiting.shift();
    entry.machine.handleNoKeypair(now);
    this.#settle(now);
  }

  /** Acts on what the peers report, until they are quiet. */
  #settle(now: Instant): void {
    let active = false;
    for (const entry of this.#entries.values()) {
      for (let event = entry.machine.pollEvent(); event !== undefined; event = entry.machine.pollEvent()) {
        this.#handlePeerEvent(entry, event, now);
      }
      active ||= entry.machine.sendable;
    }
    if (active) this.#touchedAt ??= now + TOUCHED_INTERVAL_MS;
  }

  #handlePeerEvent(
    entry: Entry,
    event: NonNullable<ReturnType<WireGuardPeer["pollEvent"]>>,
    now: Instant,
  ): void {
    switch (event.kind) {
      case "handshake-completed":
        for (const packet of entry.waiting.splice(0)) this.#core.seal(entry.id, packet, now);
        this.#push({ kind: "handshake-completed", publicKey: entry.publicKey });
        break;
      case "expired":
        entry.waiting.length = 0;
        this.#push(note("info", "peer does not answer", { reason: event.reason }));
        if (entry.keepsAlive && entry.endpoint !== undefined) entry.machine.startHandshake(now);
        break;
      case "note":
        this.#push(event);
        break;
      default:
        event satisfies never;
    }
  }

  #push(event: StaticTunnelEvent): void {
    this.#events.push(event);
    if (this.#events.length > EVENTS) this.#events.shift();
  }

  #shutdown(): void {
    for (const entry of this.#entries.values()) {
      entry.machine.dispose();
      this.#core.removePeer(entry.id);
      if (entry.endpoint !== undefined) this.#paths.release(entry.endpoint.id);
    }
    this.#entries.clear();
    this.#routes = [];
    this.#touchedAt = undefined;
  }
}
