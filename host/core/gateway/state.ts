import { IPV4_TUNNEL, IPV6_TUNNEL, isTunnelAddress } from "../address.ts";
import type { Connectivity, ConnectivityEvent } from "../connection/connectivity.ts";
import { type Disposition, drop } from "../drop.ts";
import type { Explanation, Question } from "../explanation.ts";
import type { ClientId, PeerId, ResourceId } from "../id.ts";
import type { GatewayIngress, GatewayInterface } from "../messages.ts";
import { note } from "../note.ts";
import { type ControlFrame, decodeControlFrame } from "../packet/control-frame.ts";
import { icmpErrorOf } from "../packet/icmp-error.ts";
import { parseIpPacket } from "../packet/ip-packet.ts";
import type { PacketCore } from "../packet-core.ts";
import { FilterPool } from "../policy/filter.ts";
import { after, type Deadline, earliest, type Instant, type UnixTime } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import type { TunnelMachine } from "../tunnel-machine.ts";
import { ClientOnGateway } from "./client-on-gateway.ts";
import { ClientTable } from "./client-table.ts";
import { DnsNat } from "./dns-nat.ts";
import type { GatewayCommand, GatewayEvent, GatewayTunConfig } from "./events.ts";
import { explainOnGateway, type GatewayExplainParts, type GatewayStatus, gatewayStatus } from "./explain.ts";
import { admitFromClient } from "./from-client.ts";
import { admitFromSite } from "./from-site.ts";
import { WallClock } from "./wall-clock.ts";

/** tunnel-core §2.4: NAT entries are looked through this often. */
const NAT_SWEEP_INTERVAL_MS = 1000;

export interface GatewayOptions {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
  /** Wall clock at the time of construction, milliseconds. */
  readonly unixTimeMs: number;
}

type Init = Extract<GatewayIngress, { kind: "init" }>;
type CreateAuthorization = Extract<GatewayIngress, { kind: "create-authorization" }>;

/**
 * The gateway (tunnel-core §13): admits clients as the portal says, judges the first packet of each flow
 * in both directions, and lets proxy IPs stand for the addresses of names.
 *
 * A client's state outlives its connection; Goodbye, revocation, expiry and shutdown end it.
 */
export class GatewayState implements TunnelMachine<GatewayCommand, GatewayEvent> {
  readonly #core: PacketCore;
  readonly #connectivity: Connectivity;
  readonly #clock: WallClock;
  readonly #filters: FilterPool;
  readonly #clients = new ClientTable();
  readonly #dnsNat: DnsNat;
  readonly #events: GatewayEvent[] = [];
  #interface: GatewayInterface | undefined;
  /** When the first grant ends. */
  #eviction: Instant | "none" | "unknown" = "none";
  #sweptAt: Instant;

  constructor({ core, connectivity, unixTimeMs }: GatewayOptions, now: Instant) {
    this.#core = core;
    this.#connectivity = connectivity;
    this.#clock = new WallClock(unixTimeMs, now);
    this.#filters = new FilterPool(core);
    this.#dnsNat = new DnsNat(core);
    this.#sweptAt = now;
  }

  /** tunnel-core §13.2. */
  handleTunPacket(bytes: Uint8Array, now: Instant): Disposition {
    const packet = parseIpPacket(bytes);
    if (packet === undefined) return drop("malformed");
    if (!isTunnelAddress(packet.destination)) return drop("not-a-peer");

    const client = this.#clients.byIp(packet.destination);
    if (client === undefined || this.#interface === undefined) return drop("not-a-peer");
    return admitFromSite({ core: this.#core, interface: this.#interface }, client, packet, now);
  }

  /** tunnel-core §13.5. */
  handlePeerPacket(peer: PeerId, bytes: Uint8Array, now: Instant): Disposition {
    const client = this.#clients.byPeer(peer);
    if (client === undefined || this.#interface === undefined) return drop("not-a-peer");

    const packet = parseIpPacket(bytes);
    if (packet === undefined) return drop("malformed");

    const frame = decodeControlFrame(bytes);
    if (frame !== undefined) return this.#handleControlFrame(client, frame, now);
    if (typeof icmpErrorOf(packet) === "object") return drop("outbound-icmp-error");
    return admitFromClient({ core: this.#core, interface: this.#interface }, client, packet, now);
  }

  /** The packet is dropped: a gateway keeps nothing for clients that are not connected (tunnel-core §2.5). */
  handleNoKeypair(peer: PeerId, _packet: Uint8Array, now: Instant): void {
    this.#connectivity.handleNoKeypair(peer, now);
  }

  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void {
    this.#connectivity.handleKeypairConfirmed(peer, localIndex, now);
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    this.#connectivity.handleDatagram(datagram, now);
  }

  handleCommand(command: GatewayCommand, now: Instant): void {
    switch (command.kind) {
      case "portal":
        this.#handlePortal(command.message, now);
        break;
      case "resolved":
        this.#dnsNat.handleResolved(command.id, command.result, now);
        break;
      case "shutdown":
        for (const client of this.#clients.all()) this.#close(client, now);
        break;
    }
  }

  handleTimeout(now: Instant): void {
    this.#connectivity.handleTimeout(now);
    this.#evict(now);
    this.#dnsNat.handleTimeout(now);
    if (now >= this.#nextSweep()) {
      this.#sweptAt = now;
      if (this.#core.natCount() > 0) this.#core.natHandleTimeout(now);
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#connectivity.pollTransmit();
  }

  /** Own events come first, so that an acknowledgement precedes the candidates of its connection. */
  pollEvent(): GatewayEvent | undefined {
    const own = this.#events.shift();
    if (own !== undefined) return own;

    const event = this.#connectivity.pollEvent();
    return event === undefined ? undefined : translateEvent(event);
  }

  pollTimeout(): Deadline | undefined {
    return earliest(
      this.#connectivity.pollTimeout(),
      deadlineOf(this.#nextEviction(), "authorization ends"),
      deadlineOf(this.#dnsNat.deadline(), "name resolution"),
      deadlineOf(this.#core.natCount() > 0 ? this.#nextSweep() : undefined, "NAT sweep"),
    );
  }

  /** What would become of a client's packet; sends nothing and changes nothing. */
  explain(question: Question, now: Instant): Explanation {
    return explainOnGateway(this.#explainParts(), question, now);
  }

  /** Changes nothing. */
  status(now: Instant): GatewayStatus {
    return gatewayStatus(this.#explainParts(), now);
  }

  #explainParts(): GatewayExplainParts {
    return {
      core: this.#core,
      connectivity: this.#connectivity,
      clients: this.#clients,
      interface: this.#interface,
    };
  }

  #handlePortal(message: GatewayIngress, now: Instant): void {
    switch (message.kind) {
      case "init":
        this.#init(message, now);
        break;
      case "create-authorization":
        this.#admit(message, now);
        break;
      case "reject-access":
        this.#reject(message, now);
        break;
      case "resource-updated":
        for (const client of this.#clients.all()) {
          if (client.updateFilters(message.resource)) this.#applied(client, message.resource.id);
        }
        break;
      case "ice-candidates":
        this.#connectivity.addRemoteCandidates(message.client, message.candidates, now);
        break;
      case "invalidate-ice-candidates":
        this.#connectivity.removeRemoteCandidates(message.client, message.candidates, now);
        break;
      case "relays-presence":
        this.#connectivity.updateRelays(message.disconnected, message.connected, now);
        break;
    }
  }

  /** tunnel-core §13.8: what the portal lists is the full truth. */
  #init({ interface: own, relays, authorizations }: Init, now: Instant): void {
    this.#connectivity.updateRelays([], relays, now);
    this.#configure(own);

    const listed = new Map(
      authorizations.map(({ client, resource, expiresAt }) => [`${client} ${resource}`, expiresAt]),
    );
    for (const client of this.#clients.all()) {
      for (const resource of client.resources()) {
        const key = `${client.id} ${resource}`;
        if (listed.has(key)) client.setExpiry(resource, this.#instantOf(listed.get(key)));
        else if (client.revoke(resource, now)) this.#core.invalidatePeer(client.peer);
      }
    }
    this.#eviction = "unknown";
  }

  #configure({ ipv4, ipv6 }: GatewayInterface): void {
    if (this.#interface?.ipv4 === ipv4 && this.#interface.ipv6 === ipv6) return;

    this.#interface = { ipv4, ipv6 };
    this.#core.invalidateAll();
    const config: GatewayTunConfig = { ipv4, ipv6, routes: [IPV4_TUNNEL, IPV6_TUNNEL] };
    this.#events.push({ kind: "tun-config", config });
  }

  /** tunnel-core §13.3. Without an acknowledgement the portal tells the client that the gateway is offline. */
  #admit(message: CreateAuthorization, now: Instant): void {
    const { id, publicKey, presharedKey, ipv4, ipv6 } = message.client;
    if (this.#interface === undefined) {
      this.#events.push(note("warn", "authorization before the first init", { client: id }));
      return;
    }
    const known = this.#clients.byId(id);
    const peer = known?.peer ?? this.#core.addPeer();
    if (peer === undefined) {
      this.#events.push(note("warn", "no room for another client", { client: id }));
      return;
    }

    const connection = {
      remotePublicKey: publicKey,
      presharedKey,
      localIce: message.gatewayIce,
      remoteIce: message.clientIce,
      role: "controlled",
    } as const;
    if (this.#connectivity.upsert(id, peer, connection, now) === "no-relays") {
      if (known === undefined) this.#core.removePeer(peer);
      this.#events.push({ kind: "portal", message: { kind: "no-relays" } });
      return;
    }

    const client = known ?? this.#addClient(id, peer, { ipv4, ipv6 });
    if (known !== undefined) this.#clients.readdress(known, { ipv4, ipv6 });
    client.setActorName(message.client.actorName);
    client.grant(message.resource, this.#instantOf(message.expiresAt));
    this.#applied(client, message.resource.id);
    this.#eviction = "unknown";
    this.#events.push({ kind: "portal", message: { kind: "authorization-created", ref: message.ref } });
  }

  #addClient(id: ClientId, peer: PeerId, addresses: GatewayInterface): ClientOnGateway {
    const client = new ClientOnGateway(id, peer, addresses, this.#filters, this.#core);
    this.#clients.add(client);
    return client;
  }

  /** Flows are decided anew by the filters that the resource has now. */
  #applied(client: ClientOnGateway, resource: ResourceId): void {
    this.#core.invalidatePeer(client.peer);
    if (client.isClosed(resource)) {
      this.#events.push(note("warn", "no room for the filters of a resource", { resource }));
    }
  }

  #reject(message: Extract<GatewayIngress, { kind: "reject-access" }>, now: Instant): void {
    const client = this.#clients.byId(message.client);
    if (client === undefined || !client.revoke(message.resource, now)) return;

    this.#eviction = "unknown";
    this.#core.invalidatePeer(client.peer);
    if (client.isEmpty) this.#close(client, now);
  }

  #handleControlFrame(client: ClientOnGateway, frame: ControlFrame, now: Instant): Disposition {
    switch (frame.kind) {
      case "assigned-ips": {
        const resolution = this.#dnsNat.handleAssignedIps(client, frame, now);
        if (resolution !== undefined) {
          this.#events.push({ kind: "resolve", id: resolution.id, name: resolution.name });
        }
        return "consumed";
      }
      case "goodbye":
        this.#connectivity.remove(client.id, now);
        this.#forget(client);
        return "consumed";
      case "domain-status":
      case "unknown":
        return drop("unknown-control-frame");
    }
  }

  #evict(now: Instant): void {
    const eviction = this.#nextEviction();
    if (eviction === undefined || now < eviction) return;

    for (const client of this.#clients.all()) {
      if (client.expire(now)) this.#core.invalidatePeer(client.peer);
      if (client.isEmpty) this.#close(client, now);
    }
    this.#eviction = "unknown";
  }

  #nextEviction(): Instant | undefined {
    if (this.#eviction === "unknown") {
      const deadlines = this.#clients.all().map((client) => client.deadline() ?? Number.POSITIVE_INFINITY);
      const first = Math.min(...deadlines);
      this.#eviction = first === Number.POSITIVE_INFINITY ? "none" : first;
    }
    return this.#eviction === "none" ? undefined : this.#eviction;
  }

  #nextSweep(): Instant {
    return after(this.#sweptAt, NAT_SWEEP_INTERVAL_MS);
  }

  #close(client: ClientOnGateway, now: Instant): void {
    this.#connectivity.close(client.id, now);
    this.#forget(client);
  }

  #forget(client: ClientOnGateway): void {
    this.#dnsNat.forget(client);
    this.#clients.remove(client);
    this.#core.removePeer(client.peer);
    client.release();
    this.#eviction = "unknown";
  }

  #instantOf(expiresAt: UnixTime | undefined): Instant | undefined {
    return expiresAt === undefined ? undefined : this.#clock.instantOf(expiresAt);
  }
}

function deadlineOf(at: Instant | undefined, reason: string): Deadline | undefined {
  return at === undefined ? undefined : { at, reason };
}

function translateEvent(event: ConnectivityEvent): GatewayEvent {
  switch (event.kind) {
    case "candidates-added": {
      const clients = [event.node as ClientId];
      return { kind: "portal", message: { kind: "ice-candidates", clients, candidates: event.candidates } };
    }
    case "candidates-removed": {
      const clients = [event.node as ClientId];
      const { candidates } = event;
      return { kind: "portal", message: { kind: "invalidate-ice-candidates", clients, candidates } };
    }
    case "no-relays":
      return { kind: "portal", message: { kind: "no-relays" } };
    case "established":
      return note("info", "client connected", { client: event.node, handshakeMs: event.handshakeMs });
    case "failed":
      return note("info", "client connection lost", { client: event.node, reason: event.reason });
    case "note":
      return event;
  }
}
