import { addressBits, type Cidr, type IpAddress, isProxyAddress, isTunnelAddress } from "../address.ts";
import type { Assignment } from "../dns/stub-resolver.ts";
import type { ResourceId } from "../id.ts";
import type { FilterId, Identity } from "../packet-core.ts";
import { bestOf, type Permits, type RouteEntry, RoutingTable } from "../policy/routing-table.ts";

/** What a destination belongs to. `filter` 0 permits everything. */
export type Route =
  | { readonly kind: "dns"; readonly resource: ResourceId; readonly filter: FilterId; readonly name: string }
  | { readonly kind: "network"; readonly resource: ResourceId; readonly filter: FilterId };

interface DnsRouteEntry extends RouteEntry {
  readonly name: string;
}

/** The client's tables from destination to resource (tunnel-core §8.3). */
export class ClientRoutes {
  readonly #proxies = new RoutingTable<DnsRouteEntry>();
  readonly #networks = new RoutingTable<RouteEntry>();
  readonly #permits: Permits;
  /** The active internet resource. */
  #internet: ResourceId | undefined;

  constructor(permits: Permits) {
    this.#permits = permits;
  }

  addName(assignment: Assignment, filter: FilterId): void {
    const { resource, pattern, name, proxyIps } = assignment;
    for (const ip of proxyIps) this.#proxies.insert(hostRoute(ip), { resource, filter, pattern, name });
  }

  addNetwork(network: Cidr, resource: ResourceId, filter: FilterId): void {
    this.#networks.insert(network, { resource, filter });
  }

  removeResource(resource: ResourceId): void {
    this.#proxies.removeResource(resource);
    this.#networks.removeResource(resource);
    if (this.#internet === resource) this.#internet = undefined;
  }

  setInternet(resource: ResourceId | undefined): void {
    this.#internet = resource;
  }

  get internet(): ResourceId | undefined {
    return this.#internet;
  }

  /** The best route even if its filter refuses the packet: the caller asks the filter. */
  lookup(destination: IpAddress, identity: Identity): Route | undefined {
    return this.#route(destination, identity, "best");
  }

  /** What `lookup` would say, for a question that is no packet: changes nothing. */
  peek(destination: IpAddress, identity: Identity): Route | undefined {
    return this.#route(destination, identity, "find");
  }

  /** What `lookup` would say about an address of the name once these claims on it are routed. */
  routeOfName(name: string, claims: readonly RouteEntry[], identity: Identity): Route | undefined {
    const candidates = claims.map((claim) => ({ entry: { ...claim, name }, prefix: 0 }));
    const entry = bestOf(candidates, identity, this.#permits);
    return entry === undefined ? undefined : dnsRoute(entry);
  }

  permits(route: Route, identity: Identity): boolean {
    return this.#permits(route.filter, identity);
  }

  /** Whether queries to this server belong into the tunnel (tunnel-core §11.6), whatever a filter says. */
  coversServer(server: IpAddress): boolean {
    return this.#internet !== undefined || this.#networks.covers(server);
  }

  /** Networks of CIDR resources, each once. */
  networks(): Cidr[] {
    return this.#networks.networks();
  }

  #route(destination: IpAddress, identity: Identity, how: "best" | "find"): Route | undefined {
    const proxy = this.#proxies[how](destination, identity, this.#permits);
    if (proxy !== undefined) return dnsRoute(proxy);
    const network = this.#networks[how](destination, identity, this.#permits);
    if (network !== undefined) return { kind: "network", resource: network.resource, filter: network.filter };

    // Tunnel addresses belong to devices, and a proxy IP whose name is gone to nobody (tunnel-core §23 Q6).
    if (isTunnelAddress(destination) || isProxyAddress(destination)) return undefined;
    return this.#internet === undefined
      ? undefined
      : { kind: "network", resource: this.#internet, filter: 0 };
  }
}

function dnsRoute({ resource, filter, name }: DnsRouteEntry): Route {
  return { kind: "dns", resource, filter, name };
}

function hostRoute(ip: IpAddress): Cidr {
  return { ip, prefix: addressBits(ip) };
}
