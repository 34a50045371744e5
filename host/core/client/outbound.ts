import { type IpAddress, isIpv4, isMulticast, isSentinel, type SocketAddress } from "../address.ts";
import type { Assignment } from "../dns/stub-resolver.ts";
import { type Disposition, type DropReason, drop } from "../drop.ts";
import type { ResourceId } from "../id.ts";
import type { ClientInterface } from "../messages.ts";
import { prohibited } from "../packet/icmp-error.ts";
import { destinationIdentity, type IpPacket, type PacketSubject } from "../packet/ip-packet.ts";
import type { Identity, PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { Access, SendMode } from "./access.ts";
import type { ClientDns, DnsOutcome } from "./dns.ts";
import type { GatewayPeer } from "./gateways.ts";
import type { Outbox } from "./outbox.ts";
import type { Reports } from "./reports.ts";
import type { ClientResources } from "./resources.ts";
import type { ClientRoutes, Route } from "./routing.ts";
import type { AskedQuery } from "./tunnel-queries.ts";

/** Where every gateway serves DNS on its own tunnel addresses (tunnel-core §2.2). */
const GATEWAY_DNS_PORT = 53535;

export interface OutboundParts {
  readonly core: PacketCore;
  readonly routes: ClientRoutes;
  readonly resources: ClientResources;
  readonly access: Access;
  readonly dns: ClientDns;
  readonly reports: Reports;
  readonly outbox: Outbox;
}

/** What becomes of a packet from the TUN device. */
export type OutboundDecision =
  /** A DNS server of ours decides further. */
  { readonly kind: "dns" } | RouteDecision;

export type RouteDecision =
  | { readonly kind: "drop"; readonly reason: DropReason }
  /** The resource's filters refuse it: answered with an ICMP error. */
  | { readonly kind: "prohibit"; readonly route: Route }
  /** Nobody has authorized us yet: the portal is asked, the packet waits. */
  | { readonly kind: "request"; readonly route: Route }
  /** Goes to the gateway, or waits for it. Without a route: to the gateway's own address. */
  | { readonly kind: "send"; readonly gateway: GatewayPeer; readonly route: Route | undefined };

/** Decides what becomes of packets from the TUN device, in the order of tunnel-core §8.1. */
export class Outbound {
  readonly #parts: OutboundParts;
  #interface: ClientInterface | undefined;

  constructor(parts: OutboundParts) {
    this.#parts = parts;
  }

  /** `moved`: our addresses are new, so that no installed flow holds. */
  configure(configuration: ClientInterface): "moved" | "same" {
    const previous = this.#interface;
    this.#interface = configuration;
    const isSame = previous?.ipv4 === configuration.ipv4 && previous.ipv6 === configuration.ipv6;
    return isSame ? "same" : "moved";
  }

  isOwn(ip: IpAddress): boolean {
    if (this.#interface === undefined) return false;
    return ip === (isIpv4(ip) ? this.#interface.ipv4 : this.#interface.ipv6);
  }

  get addresses(): Pick<ClientInterface, "ipv4" | "ipv6"> | undefined {
    return this.#interface;
  }

  handle(packet: IpPacket, mode: SendMode, now: Instant): Disposition {
    const { access } = this.#parts;
    const decision = this.decide(packet, "lookup");
    switch (decision.kind) {
      case "drop":
        return drop(decision.reason);
      case "dns":
        return this.#handleDns(packet, now);
      case "prohibit":
        return this.#prohibit(packet, decision.route.resource);
      case "request":
        access.request(decision.route.resource, { kind: "packet", packet: packet.bytes }, now);
        return "consumed";
      case "send":
        return decision.route?.kind === "dns"
          ? access.sendToName(decision.gateway, decision.route, { packet, mode }, now)
          : access.send(decision.gateway, packet, mode, now);
    }
  }

  /** Changes nothing; `peek` also leaves the memory of routes alone. */
  decide(packet: PacketSubject, search: "lookup" | "peek"): OutboundDecision {
    const { source, destination, kind } = packet;
    if (isMulticast(destination)) return { kind: "drop", reason: "multicast" };
    if (this.#interface === undefined) return { kind: "drop", reason: "unconfigured" };
    if (!this.isOwn(source)) return { kind: "drop", reason: "not-tunnel-source" };
    if (this.isOwn(destination)) return { kind: "drop", reason: "packet-to-self" };
    if (isSentinel(destination)) return { kind: "dns" };
    if (kind === "icmp" || kind === "other") return { kind: "drop", reason: "unsupported-protocol" };

    const { access, routes } = this.#parts;
    const gateway = access.gateways.ofAddress(destination);
    if (gateway !== undefined) return { kind: "send", gateway, route: undefined };
    const identity = destinationIdentity(packet);
    return this.decideRoute(routes[search](destination, identity), identity);
  }

  /** What becomes of a packet with that route. */
  decideRoute(route: Route | undefined, identity: Identity): RouteDecision {
    const { routes, access } = this.#parts;
    if (route === undefined) return { kind: "drop", reason: "unknown-resource" };
    if (!routes.permits(route, identity)) return { kind: "prohibit", route };
    const gateway = access.gatewayOf(route.resource);
    return gateway === undefined ? { kind: "request", route } : { kind: "send", gateway, route };
  }

  /** Asks the DNS server of a gateway, on its own tunnel address (tunnel-core §11.7). */
  askGateway(gateway: GatewayPeer, asked: AskedQuery, now: Instant): void {
    const ip = isIpv4(asked.sentinel.ip) ? gateway.ipv4 : gateway.ipv6;
    this.#askInTunnel(asked, { ip, port: GATEWAY_DNS_PORT }, now);
  }

  /** Works on the queries that came by TCP, and sends what our own TCP connections have to say. */
  serveStreams(now: Instant): void {
    const { dns } = this.#parts;
    for (let next = dns.handleNextQuery(now); next !== undefined; next = dns.handleNextQuery(now)) {
      this.#act(next, now);
    }
    for (let packet = dns.pollTunnelPacket(now); packet !== undefined; packet = dns.pollTunnelPacket(now)) {
      if (this.#isRoutable(packet.destination, destinationIdentity(packet)))
        this.handle(packet, "packet", now);
    }
  }

  #handleDns(packet: IpPacket, now: Instant): Disposition {
    return this.#act(this.#parts.dns.handlePacket(packet, now), now);
  }

  #act(outcome: DnsOutcome, now: Instant): Disposition {
    switch (outcome.kind) {
      case "done":
        return "consumed";
      case "dropped":
        return drop(outcome.reason);
      case "answered":
        this.#afterAnswer(outcome.name, outcome.assigned, now);
        return "consumed";
      case "ask-site":
        this.#askSite(outcome.resource, outcome.asked, now);
        return "consumed";
      case "ask-in-tunnel":
        this.#askInTunnel(outcome.asked, outcome.server, now);
        return "consumed";
    }
  }

  #afterAnswer(name: string, assigned: readonly Assignment[], now: Instant): void {
    const { core, resources, reports, access } = this.#parts;
    if (assigned.length > 0) {
      resources.addNames(assigned);
      reports.recordsChanged();
      // A name that was known before may lead to another resource now.
      core.invalidateAll();
    }
    access.announce(name, now);
  }

  #askSite(resource: ResourceId, asked: AskedQuery, now: Instant): void {
    const { access } = this.#parts;
    const gateway = access.gatewayOf(resource);
    if (gateway === undefined) access.request(resource, { kind: "query", asked }, now);
    else this.askGateway(gateway, asked, now);
  }

  /** What cannot be sent fails at once: asking on the host would show the name to the local network (§23 Q8). */
  #askInTunnel(asked: AskedQuery, server: SocketAddress, now: Instant): void {
    const { dns } = this.#parts;
    const source = isIpv4(server.ip) ? this.#interface?.ipv4 : this.#interface?.ipv6;
    const kind = asked.stream === undefined ? "udp" : "tcp";
    if (source === undefined || !this.#isRoutable(server.ip, { kind, port: server.port })) {
      dns.fail(asked, now);
      return;
    }
    if (kind === "tcp") {
      dns.askInTunnelStream(asked, server, source, now);
      return;
    }
    const packet = dns.askInTunnel(asked, server, source, now);
    if (packet === undefined) return;
    if (this.handle(packet, "packet", now) !== "consumed") dns.failInTunnel(asked, packet, now);
  }

  #isRoutable(destination: IpAddress, identity: Identity): boolean {
    const { access, routes } = this.#parts;
    if (access.gateways.ofAddress(destination) !== undefined) return true;
    const { kind } = this.decideRoute(routes.lookup(destination, identity), identity);
    return kind === "send" || kind === "request";
  }

  #prohibit(packet: IpPacket, resource: ResourceId): Disposition {
    const refusal = prohibited(packet.bytes);
    if (refusal !== undefined) this.#parts.core.writeTun(refusal);
    this.#parts.outbox.note("debug", "packet refused by the resource's filters", {
      resource,
      protocol: packet.kind,
      port: packet.destinationPort,
    });
    return "consumed";
  }
}
