import { addressBits } from "../address.ts";
import type { Connectivity } from "../connection/connectivity.ts";
import type { Assignment, StubResolver } from "../dns/stub-resolver.ts";
import type { Disposition } from "../drop.ts";
import type { GatewayId, PeerId, ResourceId } from "../id.ts";
import type { ClientIngress } from "../messages.ts";
import type { DomainStatus } from "../packet/control-frame.ts";
import { flowKeyOf, type IpPacket, parseIpPacket } from "../packet/ip-packet.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Resource } from "../policy/resource.ts";
import type { Instant } from "../time.ts";
import { DnsResourceNat, type NameOutlook } from "./dns-resource-nat.ts";
import { allowSource, type GatewayPeer, GatewayTable } from "./gateways.ts";
import type { Outbox } from "./outbox.ts";
import { PendingAccesses, type Refusal, type Trigger } from "./pending.ts";
import type { Route } from "./routing.ts";
import type { SiteStatuses } from "./site-status.ts";
import { DEFAULT_ROUTES } from "./tun-config.ts";
import type { AskedQuery } from "./tunnel-queries.ts";

const KEEPALIVE = new Uint8Array(0);

export type Grant = Extract<ClientIngress, { kind: "authorization-created" }>;

/** `flow`: install a flow and let the loop run the packet again. `packet`: seal this packet alone. */
export type SendMode = "flow" | "packet";

type DnsRoute = Extract<Route, { kind: "dns" }>;

export interface ReleasedQuery {
  readonly gateway: GatewayPeer;
  readonly asked: AskedQuery;
}

export interface AccessParts {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
  readonly stub: StubResolver;
  readonly statuses: SiteStatuses;
  readonly outbox: Outbox;
}

/**
 * Who may be reached through whom: requests, grants, the gateways behind them, and the packets that
 * wait for any of this (tunnel-core §§6.3, 6.5, 7, 8.4, 12).
 *
 * After every call drain `takeReleased`, packets that may go now and are to be decided about from the
 * start, and `takeReleasedQueries`.
 */
export class Access {
  readonly #core: PacketCore;
  readonly #connectivity: Connectivity;
  readonly #stub: StubResolver;
  readonly #statuses: SiteStatuses;
  readonly #outbox: Outbox;
  readonly #gateways = new GatewayTable();
  readonly #authorized = new Map<ResourceId, GatewayId>();
  readonly #pending = new PendingAccesses();
  readonly #nat = new DnsResourceNat();
  /** Gateways that packets wait for. */
  readonly #waiting = new Set<GatewayId>();
  #released: Uint8Array[] = [];
  #releasedQueries: ReleasedQuery[] = [];

  constructor({ core, connectivity, stub, statuses, outbox }: AccessParts) {
    this.#core = core;
    this.#connectivity = connectivity;
    this.#stub = stub;
    this.#statuses = statuses;
    this.#outbox = outbox;
  }

  get gateways(): GatewayTable {
    return this.#gateways;
  }

  /** The gateway that a resource is reached through now. */
  gatewayOf(resource: ResourceId): GatewayPeer | undefined {
    const id = this.#authorized.get(resource);
    return id === undefined ? undefined : this.#gateways.get(id);
  }

  /** Holds what needs a resource without authorization, and asks the portal if it is time to. */
  request(resource: ResourceId, trigger: Trigger, now: Instant): void {
    if (this.#pending.push(resource, trigger, now)) this.#ask(resource);
  }

  /** A gateway refused what we believe is granted: asks again, at a limited rate (tunnel-core §7.5). */
  recover(resource: ResourceId, now: Instant): void {
    if (!this.#pending.recover(resource, now)) return;
    this.#outbox.note("debug", "access may be lost, asking again", { resource });
    this.#ask(resource);
  }

  /** `connecting`: packets wait for the connection; `queued`: for packets ahead of them. */
  readiness(gateway: GatewayPeer): "ready" | "connecting" | "queued" {
    if (gateway.state === "connecting") return "connecting";
    return gateway.routed.size > 0 ? "queued" : "ready";
  }

  /** Whether packets to the name wait for the gateway, now or after the name was looked up. */
  nameOutlook(gateway: GatewayPeer, route: DnsRoute, when: "now" | "after-lookup"): NameOutlook {
    return this.#nat.outlook(gateway.id, route, when);
  }

  /** How matters stand with the portal. */
  requestOf(resource: ResourceId): {
    readonly requestedAt: Instant | undefined;
    readonly refusal: Refusal | undefined;
  } {
    return {
      requestedAt: this.#pending.requestedAt(resource),
      refusal: this.#pending.refusalOf(resource),
    };
  }

  /** tunnel-core §8.4: sends the packet, or holds it while the gateway cannot be reached yet. */
  send(gateway: GatewayPeer, packet: IpPacket, mode: SendMode, now: Instant): Disposition {
    if (this.readiness(gateway) !== "ready") {
      this.hold(gateway, packet.bytes);
      return "consumed";
    }
    if (mode === "flow") {
      this.#core.addFlow(flowKeyOf(packet, "tun"), gateway.peer, undefined, now);
      return "forward";
    }
    if (!this.#core.seal(gateway.peer, packet.bytes, now)) {
      this.hold(gateway, packet.bytes);
      this.#connectivity.handleNoKeypair(gateway.peer, now);
    }
    return "consumed";
  }

  /** Keeps a copy until packets can be sealed for the gateway. */
  hold(gateway: GatewayPeer, packet: Uint8Array): void {
    gateway.routed.push(packet);
    this.#waiting.add(gateway.id);
  }

  /** tunnel-core §12.3, then like `send`. */
  sendToName(
    gateway: GatewayPeer,
    route: DnsRoute,
    { packet, mode }: { readonly packet: IpPacket; readonly mode: SendMode },
    now: Instant,
  ): Disposition {
    const verdict = this.#nat.handleOutgoing(gateway.id, route, packet.bytes, now);
    this.#sendAnnouncements(now);
    if (verdict === "held") return "consumed";
    return this.send(gateway, packet, verdict === "pass-once" ? "packet" : mode, now);
  }

  /** tunnel-core §7.3. */
  grant(message: Grant, resource: Resource, now: Instant): void {
    const fields = { resource: resource.id, gateway: message.gateway };
    if (!this.#pending.has(resource.id)) {
      this.#outbox.note("debug", "grant ignored: nothing asked for it", fields);
      return;
    }
    const gateway = this.#upsertGateway(message, now);
    if (gateway === undefined) return;

    const wasAuthorized = this.#authorized.get(resource.id) === gateway.id;
    if (!wasAuthorized) this.#unassign(resource.id, now);
    this.#authorized.set(resource.id, gateway.id);
    this.#outbox.note("debug", "access granted", fields);

    const { packets, queries } = this.#pending.take(resource.id);
    if (resource.kind === "dns") {
      // A gateway that lost our access also lost the names (tunnel-core §23 Q20).
      if (wasAuthorized) this.#refreshAll(gateway, resource.id);
      this.#announceAll(gateway, resource.id, packets, now);
    } else {
      const networks = resource.kind === "cidr" ? [resource.address] : DEFAULT_ROUTES;
      for (const network of networks) allowSource(gateway, network, resource.id);
      this.#released.push(...packets);
    }
    this.#releaseQueries(gateway, resource.id, queries);
  }

  /** tunnel-core §7.4. */
  refuse(resource: Resource, refusal: Refusal): void {
    if (refusal.reason === "offline") this.#refuseOffline(resource, refusal.at);
    this.#pending.refuse(resource.id, refusal);
  }

  /** Nobody in the resource's sites can serve it. */
  #refuseOffline(resource: Resource, now: Instant): void {
    this.#pending.take(resource.id);
    const gateway = this.gatewayOf(resource.id);
    if (gateway !== undefined) {
      this.#connectivity.remove(gateway.id, now);
      this.forget(gateway, now);
    }
    for (const site of resource.sites) this.#statuses.set(site.id, "offline", now);
  }

  /** tunnel-core §6.3 steps 2–4: the resource is no longer to be reached. */
  revoke(resource: ResourceId, now: Instant): void {
    this.#pending.forget(resource);
    this.#unassign(resource, now);
  }

  /** tunnel-core §§12.1, 12.2: the stub resolver answered a query for this name. */
  announce(name: string, now: Instant): void {
    for (const assignment of this.#stub.assignmentsFor(name)) {
      const gateway = this.gatewayOf(assignment.resource);
      if (gateway === undefined) continue;
      const mustHold = this.#nat.refresh(gateway.id, assignment);
      if (mustHold) this.#core.invalidatePeer(gateway.peer);
      this.#announceName(gateway, assignment, [], now);
    }
    this.#nat.repeatDue(now);
    this.#sendAnnouncements(now);
  }

  /** tunnel-core §12.4. */
  handleDomainStatus(gateway: GatewayPeer, status: DomainStatus): void {
    const name = { resource: status.resource, name: status.domain };
    const released = this.#nat.handleStatus(gateway.id, name, status.active ? "active" : "inactive");
    this.#released.push(...released);
    this.#outbox.note("debug", status.active ? "gateway resolved a name" : "gateway cannot resolve a name", {
      resource: status.resource,
      gateway: gateway.id,
      name: status.domain,
      released: released.length,
    });
  }

  /** The connection works: what waited may go. */
  handleEstablished(gateway: GatewayPeer, now: Instant): void {
    gateway.state = "connected";
    this.#statuses.set(gateway.site, "online", now);
    this.flush(now);
  }

  /** tunnel-core §6.5: the gateway is gone. Its connection must be gone already. */
  forget(gateway: GatewayPeer, now: Instant): void {
    this.#statuses.set(gateway.site, "unknown", now);
    this.#gateways.remove(gateway);
    this.#nat.clearGateway(gateway.id);
    this.#waiting.delete(gateway.id);
    for (const [resource, id] of this.#authorized) {
      if (id === gateway.id) this.#authorized.delete(resource);
    }
    this.#core.removePeer(gateway.peer);
  }

  /** Says goodbye, then forgets. */
  close(gateway: GatewayPeer, now: Instant): void {
    this.#connectivity.close(gateway.id, now);
    this.forget(gateway, now);
  }

  /** Releases what waited for connections that work; call when a keypair or path may be new. */
  flush(now: Instant): void {
    for (const id of [...this.#waiting]) {
      const gateway = this.#gateways.get(id);
      if (gateway === undefined) this.#waiting.delete(id);
      // An empty packet is a keepalive: it tells whether the rest can go before anything is routed again.
      if (gateway?.state !== "connected" || !this.#core.seal(gateway.peer, KEEPALIVE, now)) continue;

      this.#waiting.delete(id);
      this.#released.push(...gateway.routed.drain());
      const frames = gateway.direct.drain();
      for (const frame of frames) this.#sendControl(gateway, frame, now);
    }
  }

  /** Packets that may go now, oldest first; each is to be decided about like a new one. */
  takeReleased(): Uint8Array[] {
    const released = this.#released;
    this.#released = [];
    return released;
  }

  /** Queries whose site can answer now, each with the gateway to ask. */
  takeReleasedQueries(): ReleasedQuery[] {
    const released = this.#releasedQueries;
    this.#releasedQueries = [];
    return released;
  }

  /** The gateway's own addresses count as used by the resource, or the connection would be closed as unused. */
  #releaseQueries(gateway: GatewayPeer, resource: ResourceId, queries: readonly AskedQuery[]): void {
    if (queries.length === 0) return;
    for (const ip of [gateway.ipv4, gateway.ipv6]) {
      allowSource(gateway, { ip, prefix: addressBits(ip) }, resource);
    }
    this.#releasedQueries.push(...queries.map((asked) => ({ gateway, asked })));
  }

  #ask(resource: ResourceId): void {
    const connectedGateways = this.#gateways.preferred(this.#authorized.get(resource));
    this.#outbox.note("debug", "asking for access", { resource });
    this.#outbox.portal({ kind: "request-authorization", resource, connectedGateways });
  }

  /** Undefined: it cannot be reached now; the pending entry stays, so that traffic asks again. */
  #upsertGateway(grant: Grant, now: Instant): GatewayPeer | undefined {
    const known = this.#sameGateway(grant, now);
    const peer = known?.peer ?? this.#core.addPeer();
    if (peer === undefined) {
      this.#outbox.note("warn", "grant ignored: too many gateways", { gateway: grant.gateway });
      return undefined;
    }
    const outcome = this.#connect(grant, peer, now);
    if (outcome === "no-relays") {
      if (known === undefined) this.#core.removePeer(peer);
      this.#outbox.note("info", "no relays to connect through");
      this.#outbox.portal({ kind: "no-relays" });
      return undefined;
    }

    const { gateway: id, gatewayIpv4: ipv4, gatewayIpv6: ipv6, site } = grant;
    const gateway = known ?? this.#gateways.add({ id, peer, ipv4, ipv6, site });
    gateway.site = site;
    this.#gateways.remember(id);
    if (outcome === "created") {
      gateway.state = "connecting";
      this.#core.invalidatePeer(peer);
    } else if (gateway.state === "connected") {
      this.#statuses.set(site, "online", now);
    }
    return gateway;
  }

  #connect(grant: Grant, peer: PeerId, now: Instant): "created" | "reused" | "no-relays" {
    return this.#connectivity.upsert(
      grant.gateway,
      peer,
      {
        remotePublicKey: grant.gatewayPublicKey,
        presharedKey: grant.presharedKey,
        localIce: grant.clientIce,
        remoteIce: grant.gatewayIce,
        role: "controlling",
      },
      now,
    );
  }

  /** A gateway whose TUN addresses changed is a new one: what we knew about it is void. */
  #sameGateway(grant: Grant, now: Instant): GatewayPeer | undefined {
    const known = this.#gateways.get(grant.gateway);
    if (known === undefined) return undefined;
    if (known.ipv4 === grant.gatewayIpv4 && known.ipv6 === grant.gatewayIpv6) return known;
    this.#connectivity.remove(known.id, now);
    this.forget(known, now);
    return undefined;
  }

  /** Takes a resource from its gateway, and closes the connection if nothing else is reached through it. */
  #unassign(resource: ResourceId, now: Instant): void {
    const gateway = this.gatewayOf(resource);
    this.#authorized.delete(resource);
    if (gateway === undefined) return;

    gateway.allowed.removeResource(resource);
    this.#core.invalidatePeer(gateway.peer);
    this.#nat.clearResource(gateway.id, resource);
    if (gateway.allowed.isEmpty) this.close(gateway, now);
  }

  #refreshAll(gateway: GatewayPeer, resource: ResourceId): void {
    for (const assignment of this.#stub.assignmentsOf(resource)) this.#nat.refresh(gateway.id, assignment);
  }

  /** Announces all names of a resource; packets go with the name that they are for, others are dropped. */
  #announceAll(
    gateway: GatewayPeer,
    resource: ResourceId,
    packets: readonly Uint8Array[],
    now: Instant,
  ): void {
    const byDestination = Map.groupBy(packets, (packet) => parseIpPacket(packet)?.destination);
    for (const assignment of this.#stub.assignmentsOf(resource)) {
      const theirs = assignment.proxyIps.flatMap((ip) => byDestination.get(ip) ?? []);
      this.#announceName(gateway, assignment, theirs, now);
    }
    this.#sendAnnouncements(now);
  }

  #announceName(
    gateway: GatewayPeer,
    assignment: Assignment,
    packets: readonly Uint8Array[],
    now: Instant,
  ): void {
    if (!this.#nat.synchronise(gateway.id, assignment, packets, now)) {
      this.#outbox.note("error", "name has too few proxy addresses to be reached", {
        resource: assignment.resource,
        addresses: assignment.proxyIps.length,
      });
      return;
    }
    for (const ip of assignment.proxyIps) {
      const network = { ip, prefix: addressBits(ip) };
      if (!gateway.allowed.has(network, assignment.resource))
        allowSource(gateway, network, assignment.resource);
    }
  }

  #sendAnnouncements(now: Instant): void {
    for (;;) {
      const announcement = this.#nat.pollAnnouncement();
      if (announcement === undefined) return;
      const gateway = this.#gateways.get(announcement.gateway);
      if (gateway !== undefined) this.#sendControl(gateway, announcement.frame, now);
    }
  }

  #sendControl(gateway: GatewayPeer, frame: Uint8Array, now: Instant): void {
    const mayGo = gateway.state === "connected" && gateway.direct.size === 0;
    if (mayGo && this.#core.seal(gateway.peer, frame, now)) return;
    gateway.direct.push(frame);
    this.#waiting.add(gateway.id);
    if (mayGo) this.#connectivity.handleNoKeypair(gateway.peer, now);
  }
}
