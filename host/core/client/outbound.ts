import { type IpAddress, isIpv4, isMulticast, isSentinel } from "../address.ts";
import { type Disposition, drop } from "../drop.ts";
import type { ResourceId } from "../id.ts";
import type { ClientInterface } from "../messages.ts";
import { prohibited } from "../packet/icmp-error.ts";
import { destinationIdentity, type IpPacket } from "../packet/ip-packet.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { Access, SendMode } from "./access.ts";
import type { ClientDns } from "./dns.ts";
import type { Outbox } from "./outbox.ts";
import type { Reports } from "./reports.ts";
import type { ClientResources } from "./resources.ts";
import type { ClientRoutes } from "./routing.ts";

export interface OutboundParts {
  readonly core: PacketCore;
  readonly routes: ClientRoutes;
  readonly resources: ClientResources;
  readonly access: Access;
  readonly dns: ClientDns;
  readonly reports: Reports;
  readonly outbox: Outbox;
}

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

  handle(packet: IpPacket, mode: SendMode, now: Instant): Disposition {
    const { destination } = packet;
    if (isMulticast(destination)) return drop("multicast");
    if (this.#interface === undefined) return drop("unconfigured");
    if (!this.isOwn(packet.source)) return drop("not-tunnel-source");
    if (this.isOwn(destination)) return drop("packet-to-self");
    if (isSentinel(destination)) return this.#handleDns(packet, now);
    if (packet.kind === "icmp" || packet.kind === "other") return drop("unsupported-protocol");

    const gateway = this.#parts.access.gateways.ofAddress(destination);
    if (gateway !== undefined) return this.#parts.access.send(gateway, packet, mode, now);
    return this.#route(packet, mode, now);
  }

  #handleDns(packet: IpPacket, now: Instant): Disposition {
    const { core, dns, resources, reports, access } = this.#parts;
    const { disposition, answered } = dns.handlePacket(packet, now);
    if (answered === undefined) return disposition;

    if (answered.assigned.length > 0) {
      resources.addNames(answered.assigned);
      reports.recordsChanged();
      // A name that was known before may lead to another resource now.
      core.invalidateAll();
    }
    access.announce(answered.name, now);
    return disposition;
  }

  #route(packet: IpPacket, mode: SendMode, now: Instant): Disposition {
    const { routes, access } = this.#parts;
    const identity = destinationIdentity(packet);
    const route = routes.lookup(packet.destination, identity);
    if (route === undefined) return drop("unknown-resource");
    if (!routes.permits(route, identity)) return this.#prohibit(packet, route.resource);

    const gateway = access.gatewayOf(route.resource);
    if (gateway === undefined) {
      access.request(route.resource, packet.bytes, now);
      return "consumed";
    }
    return route.kind === "dns"
      ? access.sendToName(gateway, route, { packet, mode }, now)
      : access.send(gateway, packet, mode, now);
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
