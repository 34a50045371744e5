import {
  type Cidr,
  DNS_SENTINELS_V4,
  DNS_SENTINELS_V6,
  hostOf,
  type IpAddress,
  isIpv4,
  isSentinel,
  type SocketAddress,
} from "../address.ts";

const DNS_PORT = 53;
/** Sentinels .1 … .254, and all 256 of IPv6 (tunnel-core §11.2). */
const FIRST_V4 = 1;
const LAST_V4 = 254;
const FIRST_V6 = 0;
const LAST_V6 = 255;

export interface SentinelMapping {
  readonly sentinel: IpAddress;
  readonly upstream: SocketAddress;
}

export interface DnsServers {
  /** Do53 servers that the portal configured. */
  readonly portal: readonly IpAddress[];
  readonly system: readonly IpAddress[];
}

/** Which tunnel address stands for which DNS upstream (tunnel-core §§11.1, 11.2). */
export class Sentinels {
  #mapping: readonly SentinelMapping[] = [];
  #bySentinel = new Map<IpAddress, SocketAddress>();
  #effective: readonly IpAddress[] = [];
  #arePortals = false;

  /** Applies new servers; true if the mapping changed. */
  update(servers: DnsServers): boolean {
    const portal = sanitize(servers.portal);
    const effective = portal.length > 0 ? portal : sanitize(servers.system);
    this.#arePortals = portal.length > 0;
    if (sameMembers(effective, this.#effective)) return false;

    this.#effective = effective;
    this.#mapping = allocate(effective, new Set(this.#bySentinel.keys()));
    this.#bySentinel = new Map(this.#mapping.map(({ sentinel, upstream }) => [sentinel, upstream]));
    return true;
  }

  /** Undefined: nobody listens on that address. */
  upstreamOf(sentinel: IpAddress): SocketAddress | undefined {
    return this.#bySentinel.get(sentinel);
  }

  /** In the order of the servers; servers beyond the sentinel ranges' capacity have none. */
  get mapping(): readonly SentinelMapping[] {
    return this.#mapping;
  }

  /** Whether the upstreams come from the portal and not from the system. */
  get arePortals(): boolean {
    return this.#arePortals;
  }
}

/** Without duplicates, and without sentinels: a system's list often contains our own. */
function sanitize(servers: readonly IpAddress[]): IpAddress[] {
  return [...new Set(servers)].filter((ip) => !isSentinel(ip));
}

function sameMembers(a: readonly IpAddress[], b: readonly IpAddress[]): boolean {
  return a.length === b.length && a.every((ip) => b.includes(ip));
}

/** Addresses that were not in use before make the operating system forget what it cached. */
function allocate(servers: readonly IpAddress[], previous: ReadonlySet<IpAddress>): SentinelMapping[] {
  const free = {
    v4: addresses(DNS_SENTINELS_V4, FIRST_V4, LAST_V4).filter((ip) => !previous.has(ip)),
    v6: addresses(DNS_SENTINELS_V6, FIRST_V6, LAST_V6).filter((ip) => !previous.has(ip)),
  };
  const mapping: SentinelMapping[] = [];
  for (const ip of servers) {
    const sentinel = (isIpv4(ip) ? free.v4 : free.v6).shift();
    if (sentinel !== undefined) mapping.push({ sentinel, upstream: { ip, port: DNS_PORT } });
  }
  return mapping;
}

function addresses(network: Cidr, first: number, last: number): IpAddress[] {
  return Array.from({ length: last - first + 1 }, (_, i) => hostOf(network, first + i));
}
