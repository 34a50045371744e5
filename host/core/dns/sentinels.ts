import {
  type Cidr,
  DNS_SENTINELS_V4,
  DNS_SENTINELS_V6,
  hostOf,
  type IpAddress,
  isIpv4,
  isSentinel,
  type SocketAddress,
  socketAddressText,
} from "../address.ts";

const DNS_PORT = 53;
/** Sentinels .1 … .254, and all 256 of IPv6 (tunnel-core §11.2). */
const FIRST_V4 = 1;
const LAST_V4 = 254;
const FIRST_V6 = 0;
const LAST_V6 = 255;

/** Who answers what nobody here can. */
export type Upstream =
  | { readonly kind: "do53"; readonly server: SocketAddress }
  | { readonly kind: "doh"; readonly url: string };

export interface SentinelMapping {
  readonly sentinel: IpAddress;
  readonly upstream: Upstream;
}

export interface DnsServers {
  /** Do53 servers that the portal configured. */
  readonly portal: readonly IpAddress[];
  /** URLs of DNS over HTTPS that the portal configured. */
  readonly doh: readonly string[];
  readonly system: readonly IpAddress[];
}

/** Which tunnel address stands for which DNS upstream (tunnel-core §§11.1, 11.2). */
export class Sentinels {
  #mapping: readonly SentinelMapping[] = [];
  #bySentinel = new Map<IpAddress, Upstream>();
  #effective: readonly Upstream[] = [];
  #arePortals = false;

  /** Applies new servers; true if the mapping changed. */
  update(servers: DnsServers): boolean {
    const portal = sanitize(servers.portal);
    const effective = effectiveUpstreams(portal, servers);
    this.#arePortals = portal.length > 0;
    if (sameMembers(effective, this.#effective)) return false;

    this.#effective = effective;
    this.#mapping = allocate(effective, new Set(this.#bySentinel.keys()));
    this.#bySentinel = new Map(this.#mapping.map(({ sentinel, upstream }) => [sentinel, upstream]));
    return true;
  }

  /** Undefined: nobody listens on that address. */
  upstreamOf(sentinel: IpAddress): Upstream | undefined {
    return this.#bySentinel.get(sentinel);
  }

  /** In the order of the servers; servers beyond the sentinel ranges' capacity have none. */
  get mapping(): readonly SentinelMapping[] {
    return this.#mapping;
  }

  /** Whether the upstreams are Do53 servers of the portal: only those are asked through the tunnel. */
  get arePortals(): boolean {
    return this.#arePortals;
  }
}

/** Without duplicates, and without sentinels: a system's list often contains our own. */
function sanitize(servers: readonly IpAddress[]): IpAddress[] {
  return [...new Set(servers)].filter((ip) => !isSentinel(ip));
}

/** The first list that has any (tunnel-core §11.1). */
function effectiveUpstreams(portal: readonly IpAddress[], { doh, system }: DnsServers): Upstream[] {
  if (portal.length === 0 && doh.length > 0) return [...new Set(doh)].map((url) => ({ kind: "doh", url }));
  const servers = portal.length > 0 ? portal : sanitize(system);
  return servers.map((ip) => ({ kind: "do53", server: { ip, port: DNS_PORT } }));
}

function sameMembers(a: readonly Upstream[], b: readonly Upstream[]): boolean {
  const known = new Set(b.map(keyOf));
  return a.length === b.length && a.every((upstream) => known.has(keyOf(upstream)));
}

/** `10.0.0.53:53`, or the URL. */
export function upstreamText(upstream: Upstream): string {
  return upstream.kind === "do53" ? socketAddressText(upstream.server) : upstream.url;
}

function keyOf(upstream: Upstream): string {
  return upstream.kind === "do53" ? upstream.server.ip : upstream.url;
}

/** Addresses that were not in use before make the operating system forget what it cached. */
function allocate(upstreams: readonly Upstream[], previous: ReadonlySet<IpAddress>): SentinelMapping[] {
  const free = {
    v4: addresses(DNS_SENTINELS_V4, FIRST_V4, LAST_V4).filter((ip) => !previous.has(ip)),
    v6: addresses(DNS_SENTINELS_V6, FIRST_V6, LAST_V6).filter((ip) => !previous.has(ip)),
  };
  const mapping: SentinelMapping[] = [];
  for (const upstream of upstreams) {
    const isV4 = upstream.kind === "doh" || isIpv4(upstream.server.ip);
    const sentinel = (isV4 ? free.v4 : free.v6).shift();
    if (sentinel !== undefined) mapping.push({ sentinel, upstream });
  }
  return mapping;
}

function addresses(network: Cidr, first: number, last: number): IpAddress[] {
  return Array.from({ length: last - first + 1 }, (_, i) => hostOf(network, first + i));
}
