import {
  type Cidr,
  cidr,
  cidrText,
  compareIp,
  DNS_SENTINELS_V4,
  DNS_SENTINELS_V6,
  IPV4_RESOURCES,
  IPV4_TUNNEL,
  IPV6_RESOURCES,
  IPV6_TUNNEL,
} from "../address.ts";
import type { SentinelMapping } from "../dns/sentinels.ts";
import type { ClientInterface } from "../messages.ts";
import type { TunConfig } from "./events.ts";

const ALWAYS_ROUTED = [
  IPV4_TUNNEL,
  IPV6_TUNNEL,
  IPV4_RESOURCES,
  IPV6_RESOURCES,
  DNS_SENTINELS_V4,
  DNS_SENTINELS_V6,
];

/** What the internet resource covers. */
export const DEFAULT_ROUTES: readonly Cidr[] = [cidr("0.0.0.0/0"), cidr("::/0")];

export interface TunConfigParts {
  readonly interface: ClientInterface;
  readonly dns: readonly SentinelMapping[];
  /** Networks of CIDR resources, each once. */
  readonly networks: readonly Cidr[];
  readonly internet: "routed" | "not-routed";
}

/** Puts the configuration together (tunnel-core §6.6); the networks come sorted, so that equal means equal. */
export function tunConfig(parts: TunConfigParts): TunConfig {
  const networks = [...parts.networks].sort((a, b) => compareIp(a.ip, b.ip) || a.prefix - b.prefix);
  return {
    ipv4: parts.interface.ipv4,
    ipv6: parts.interface.ipv6,
    dns: parts.dns,
    searchDomain: parts.interface.searchDomain,
    routes: uniqueNetworks([
      ...ALWAYS_ROUTED,
      ...networks,
      ...(parts.internet === "routed" ? DEFAULT_ROUTES : []),
    ]),
  };
}

export function sameTunConfig(a: TunConfig, b: TunConfig): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function uniqueNetworks(networks: readonly Cidr[]): Cidr[] {
  return [...new Map(networks.map((network) => [cidrText(network), network])).values()];
}
