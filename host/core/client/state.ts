import type { Connectivity, ConnectivityEvent } from "../connection/connectivity.ts";
import { type DnsRecord, StubResolver } from "../dns/stub-resolver.ts";
import { type Disposition, drop } from "../drop.ts";
import type { Explanation, Question } from "../explanation.ts";
import type { GatewayId, PeerId, ResourceId } from "../id.ts";
import type { ClientIngress, ClientInterface } from "../messages.ts";
import { decodeControlFrame, isControlFrame } from "../packet/control-frame.ts";
import { type IcmpError, icmpErrorOf } from "../packet/icmp-error.ts";
import { flowKeyOf, type IpPacket, parseIpPacket } from "../packet/ip-packet.ts";
import type { PacketCore } from "../packet-core.ts";
import { FilterPool } from "../policy/filter.ts";
import type { Resource } from "../policy/resource.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import type { TunnelMachine } from "../tunnel-machine.ts";
import { Access } from "./access.ts";
import { ClientDns } from "./dns.ts";
import type { ClientCommand, ClientEvent } from "./events.ts";
import { type ClientExplainParts, explainOnClient } from "./explain.ts";
import { type GatewayPeer, mayComeFrom } from "./gateways.ts";
import { Outbound } from "./outbound.ts";
import { Outbox } from "./outbox.ts";
import { Reports } from "./reports.ts";
import { ClientResources, leadsToSame } from "./resources.ts";
import { ClientRoutes } from "./routing.ts";
import { SiteStatuses } from "./site-status.ts";
import { type ClientStatus, clientStatus } from "./status.ts";

// "Communication administratively prohibited" of both families (tunnel-core §3.4).
const PROHIBITED_V4 = { type: 3, code: 13 };
const PROHIBITED_V6 = { type: 1, code: 1 };

export interface ClientParts {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
  readonly random: Random;
  /** Names and proxy IPs of an earlier machine of this process. */
  readonly records?: readonly DnsRecord[];
}

/**
 * The client: decides what may leave the device and through which gateway, and answers DNS for names
 * of resources (tunnel-core §§6–12, 18). What it decides about a flow it installs in the packet core.
 */
export class ClientState implements TunnelMachine<ClientCommand, ClientEvent> {
  readonly #core: PacketCore;
  readonly #connectivity: Connectivity;
  readonly #outbox = new Outbox();
  readonly #statuses = new SiteStatuses();
  readonly #routes: ClientRoutes;
  readonly #resources: ClientResources;
  readonly #access: Access;
  readonly #dns: ClientDns;
  readonly #reports: Reports;
  readonly #outbound: Outbound;
  readonly #explainParts: ClientExplainParts;

  constructor({ core, connectivity, random, records }: ClientParts, now: Instant) {
    this.#core = core;
    this.#connectivity = connectivity;
    const outbox = this.#outbox;
    const statuses = this.#statuses;
    const stub = new StubResolver();
    stub.restore(records ?? []);
    const routes = new ClientRoutes((filter, identity) => core.permits(filter, identity));
    const parts = { core, connectivity, random, routes, stub, statuses, outbox };
    const resources = new ClientResources({ ...parts, filters: new FilterPool(core) });
    const access = new Access(parts);
    const dns = new ClientDns(parts);
    const reports = new Reports({ ...parts, resources, dns });

    this.#routes = routes;
    this.#resources = resources;
    this.#access = access;
    this.#dns = dns;
    this.#reports = reports;
    this.#outbound = new Outbound({ core, routes, resources, access, dns, reports, outbox });
    this.#explainParts = { ...parts, resources, access, dns, reports, outbound: this.#outbound };
    this.#settle(now);
  }

  handleTunPacket(bytes: Uint8Array, now: Instant): Disposition {
    const packet = parseIpPacket(bytes);
    if (packet === undefined) return drop("malformed");
    if (isControlFrame(bytes)) this.#outbox.note("trace", "packet from TUN looks like a control frame");

    const disposition = this.#outbound.handle(packet, "flow", now);
    this.#settle(now);
    return disposition;
  }

  handlePeerPacket(peer: PeerId, bytes: Uint8Array, now: Instant): Disposition {
    const gateway = this.#access.gateways.ofPeer(peer);
    if (gateway === undefined) return drop("not-a-peer");

    const packet = parseIpPacket(bytes);
    if (packet === undefined) return drop("malformed");

    const disposition = isControlFrame(bytes)
      ? this.#handleControlFrame(gateway, bytes, now)
      : this.#handleInbound(gateway, packet, now);
    this.#settle(now);
    return disposition;
  }

  handleNoKeypair(peer: PeerId, packet: Uint8Array, now: Instant): void {
    const gateway = this.#access.gateways.ofPeer(peer);
    if (gateway === undefined) return;

    this.#access.hold(gateway, packet);
    this.#connectivity.handleNoKeypair(peer, now);
    this.#settle(now);
  }

  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void {
    this.#connectivity.handleKeypairConfirmed(peer, localIndex, now);
    this.#afterConnectivity(now);
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    this.#connectivity.handleDatagram(datagram, now);
    this.#afterConnectivity(now);
  }

  handleTimeout(now: Instant): void {
    this.#connectivity.handleTimeout(now);
    this.#statuses.handleTimeout(now);
    this.#dns.handleTimeout(now);
    this.#afterConnectivity(now);
  }

  handleCommand(command: ClientCommand, now: Instant): void {
    switch (command.kind) {
      case "portal":
        this.#handlePortal(command.message, now);
        break;
      case "system-resolvers":
        this.#dns.setSystemServers(command.servers, now);
        this.#reports.serversChanged();
        break;
      case "host-dns-result":
        this.#dns.handleHostResult(command.id, command.result, now);
        break;
      case "internet-resource":
        this.#setInternet(command.active, now);
        break;
      case "reset":
        this.#reset(command.privateKey, now);
        break;
      case "shutdown":
        for (const gateway of this.#access.gateways.all()) this.#access.close(gateway, now);
        break;
    }
    this.#settle(now);
  }

  pollTransmit(): Transmit | undefined {
    return this.#connectivity.pollTransmit();
  }

  pollEvent(): ClientEvent | undefined {
    return this.#outbox.poll() ?? this.#reports.poll();
  }

  pollTimeout(): Deadline | undefined {
    return earliest(this.#connectivity.pollTimeout(), this.#statuses.pollTimeout(), this.#dns.pollTimeout());
  }

  /** What would become of a packet; sends nothing and changes nothing. */
  explain(question: Question, now: Instant): Explanation {
    return explainOnClient(this.#explainParts, question, now);
  }

  /** Changes nothing. */
  status(now: Instant): ClientStatus {
    return clientStatus(this.#explainParts, now);
  }

  #handleControlFrame(gateway: GatewayPeer, bytes: Uint8Array, now: Instant): Disposition {
    const frame = decodeControlFrame(bytes);
    switch (frame?.kind) {
      case "domain-status":
        this.#access.handleDomainStatus(gateway, frame);
        return "consumed";
      case "goodbye":
        this.#connectivity.remove(gateway.id, now);
        this.#loseGateway(gateway, "goodbye", now);
        return "consumed";
      default:
        return drop("unknown-control-frame");
    }
  }

  #handleInbound(gateway: GatewayPeer, packet: IpPacket, now: Instant): Disposition {
    if (!mayComeFrom(gateway, packet.source)) return drop("not-allowed");
    if (this.#dns.handleInbound(packet, now) === "consumed") return "consumed";

    // ICMP errors and their kin are no flows: each is judged by itself.
    if (packet.kind === "icmp") {
      const error = icmpErrorOf(packet);
      if (typeof error === "object") this.#recover(gateway, error, now);
      this.#core.writeTun(packet.bytes);
      return "consumed";
    }
    this.#core.addFlow(flowKeyOf(packet, gateway.peer), gateway.peer, undefined, now);
    return "forward";
  }

  /** tunnel-core §7.5: the gateway refuses what we believe is granted. */
  #recover(gateway: GatewayPeer, { type, code, failed }: IcmpError, now: Instant): void {
    const refusal = failed.version === 4 ? PROHIBITED_V4 : PROHIBITED_V6;
    if (type !== refusal.type || code !== refusal.code) return;
    if (!this.#outbound.isOwn(failed.source)) return;

    const route = this.#routes.lookup(failed.destination, failed.destinationIdentity);
    if (route === undefined || this.#access.gatewayOf(route.resource) !== gateway) return;
    this.#access.recover(route.resource, now);
  }

  #handlePortal(message: ClientIngress, now: Instant): void {
    switch (message.kind) {
      case "init":
        this.#configure(message.interface, now);
        this.#connectivity.updateRelays([], message.relays, now);
        this.#setResources(message.resources, now);
        break;
      case "config-changed":
        this.#configure(message.interface, now);
        break;
      case "resource-created-or-updated":
        this.#upsertResource(message.resource, now);
        break;
      case "resource-deleted":
        this.#removeResource(message.resource, now);
        break;
      case "authorization-created":
        this.#grant(message, now);
        break;
      case "authorization-failed":
        this.#refuse(message, now);
        break;
      case "ice-candidates":
        this.#connectivity.addRemoteCandidates(message.gateway, message.candidates, now);
        break;
      case "invalidate-ice-candidates":
        this.#connectivity.removeRemoteCandidates(message.gateway, message.candidates, now);
        break;
      case "relays-presence":
        this.#connectivity.updateRelays(message.disconnected, message.connected, now);
        break;
    }
  }

  #configure(configuration: ClientInterface, now: Instant): void {
    const { upstreamDo53: do53, upstreamDoh: doh } = configuration;
    this.#dns.setPortalServers({ do53, doh }, now);
    if (this.#outbound.configure(configuration) === "moved") {
      this.#core.invalidateAll();
      this.#dns.handleMoved(now);
    }
    this.#reports.configure(configuration);
  }

  #setResources(resources: readonly Resource[], now: Instant): void {
    const listed = new Set(resources.map((resource) => resource.id));
    for (const id of this.#resources.ids()) {
      if (!listed.has(id)) this.#removeResource(id, now);
    }
    for (const resource of resources) this.#upsertResource(resource, now);
    this.#resourcesChanged();
  }

  #upsertResource(resource: Resource, now: Instant): void {
    const known = this.#resources.get(resource.id);
    const isSame = known !== undefined && leadsToSame(known, resource);
    if (known !== undefined && !isSame) {
      this.#access.revoke(resource.id, now);
      this.#resources.remove(resource.id);
    }
    this.#resources.put(resource);
    if (!isSame) this.#core.invalidateAll();
    this.#resourcesChanged();
  }

  #removeResource(id: ResourceId, now: Instant): void {
    const resource = this.#resources.get(id);
    if (resource === undefined) return;

    this.#access.revoke(id, now);
    this.#resources.remove(id);
    if (resource.kind === "internet") this.#resources.setInternetWanted(false);
    this.#resourcesChanged();
  }

  #resourcesChanged(): void {
    this.#dns.flushCache();
    this.#reports.resourcesChanged();
  }

  #setInternet(isWanted: boolean, now: Instant): void {
    if (this.#resources.isInternetWanted === isWanted) return;

    this.#resources.setInternetWanted(isWanted);
    if (!isWanted) for (const id of this.#resources.internetIds()) this.#access.revoke(id, now);
    this.#core.invalidateAll();
    this.#resourcesChanged();
  }

  #grant(message: Extract<ClientIngress, { kind: "authorization-created" }>, now: Instant): void {
    const resource = this.#resources.get(message.resource);
    if (resource === undefined) {
      this.#outbox.note("warn", "grant ignored: unknown resource", { resource: message.resource });
      return;
    }
    this.#access.grant(message, resource, now);
  }

  #refuse(message: Extract<ClientIngress, { kind: "authorization-failed" }>, now: Instant): void {
    const { resource: id, reason, violatedProperties } = message;
    const resource = this.#resources.get(id);
    this.#outbox.note(
      reason === "offline" || reason === "version_mismatch" ? "info" : "debug",
      "access refused",
      {
        resource: id,
        reason,
        violated: violatedProperties.join(" ") || undefined,
      },
    );
    if (resource !== undefined) this.#access.refuse(resource, { reason, violatedProperties, at: now });
  }

  #afterConnectivity(now: Instant): void {
    this.#access.flush(now);
    this.#settle(now);
  }

  /** Takes in what connectivity reports, then sends what may go now. Ends every input. */
  #settle(now: Instant): void {
    for (;;) {
      this.#drainConnectivity(now);
      this.#outbound.serveStreams(now);
      const packets = this.#access.takeReleased();
      const queries = this.#access.takeReleasedQueries();
      if (packets.length === 0 && queries.length === 0) return;
      for (const bytes of packets) {
        const packet = parseIpPacket(bytes);
        if (packet !== undefined) this.#outbound.handle(packet, "packet", now);
      }
      for (const { gateway, asked } of queries) this.#outbound.askGateway(gateway, asked, now);
    }
  }

  #drainConnectivity(now: Instant): void {
    for (;;) {
      const event = this.#connectivity.pollEvent();
      if (event === undefined) return;
      this.#handleConnectivity(event, now);
    }
  }

  #handleConnectivity(event: ConnectivityEvent, now: Instant): void {
    switch (event.kind) {
      case "candidates-added":
        this.#outbox.portal({
          kind: "ice-candidates",
          gateway: event.node as GatewayId,
          candidates: event.candidates,
        });
        break;
      case "candidates-removed":
        this.#outbox.portal({
          kind: "invalidate-ice-candidates",
          gateway: event.node as GatewayId,
          candidates: event.candidates,
        });
        break;
      case "established":
        this.#establish(event.node as GatewayId, event.handshakeMs, now);
        break;
      case "failed": {
        const gateway = this.#access.gateways.get(event.node as GatewayId);
        if (gateway !== undefined) this.#loseGateway(gateway, event.reason, now);
        break;
      }
      case "no-relays":
        this.#outbox.portal({ kind: "no-relays" });
        break;
      case "note":
        this.#outbox.push(event);
        break;
    }
  }

  #establish(id: GatewayId, handshakeMs: number, now: Instant): void {
    const gateway = this.#access.gateways.get(id);
    if (gateway === undefined) return;

    this.#access.handleEstablished(gateway, now);
    this.#outbox.note("info", "gateway connected", { gateway: id, handshakeMs });
  }

  #loseGateway(gateway: GatewayPeer, reason: string, now: Instant): void {
    this.#access.forget(gateway, now);
    this.#outbox.note("info", "gateway disconnected", { gateway: gateway.id, reason });
  }

  /** tunnel-core §18.1: connections go without a word; requests, names and mappings stay. */
  #reset(privateKey: Uint8Array, now: Instant): void {
    this.#connectivity.reset(privateKey, now);
    for (const gateway of this.#access.gateways.all()) this.#access.forget(gateway, now);
    this.#dns.handleReset(now);
    this.#outbox.note("info", "network changed, all connections start over");
  }
}
