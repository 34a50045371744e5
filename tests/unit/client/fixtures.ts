import { cidr, type IpAddress, ip } from "../../../host/core/address.ts";
import type { GatewayId, ResourceId, SiteId } from "../../../host/core/id.ts";
import type { ClientIngress, ClientInterface } from "../../../host/core/messages.ts";
import type { FilterRule } from "../../../host/core/packet-core.ts";
import type { IpStack, Resource } from "../../../host/core/policy/resource.ts";

export const CLIENT_V4 = ip("100.64.0.1");
export const CLIENT_V6 = ip("fd00:2021:1111::1");

export const clientInterface: ClientInterface = {
  ipv4: CLIENT_V4,
  ipv6: CLIENT_V6,
  searchDomain: undefined,
  upstreamDo53: [],
  upstreamDoh: [],
};

export interface TestGateway {
  readonly id: GatewayId;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly site: SiteId;
}

export const SITE = "5173e000-0000-4000-8000-000000000001" as SiteId;
export const OTHER_SITE = "5173e000-0000-4000-8000-000000000002" as SiteId;

export const GATEWAY: TestGateway = {
  id: "6a7e0000-0000-4000-8000-000000000001" as GatewayId,
  ipv4: ip("100.64.0.2"),
  ipv6: ip("fd00:2021:1111::2"),
  site: SITE,
};
export const OTHER_GATEWAY: TestGateway = {
  id: "6a7e0000-0000-4000-8000-000000000002" as GatewayId,
  ipv4: ip("100.64.0.3"),
  ipv6: ip("fd00:2021:1111::3"),
  site: OTHER_SITE,
};

export const PROXIES_V4 = [1, 2, 3, 4].map((host) => ip(`100.96.0.${host}`));
export const PROXIES_V6 = ["", "1", "2", "3"].map((host) => ip(`fd00:2021:1111:8000::${host}`));

/** Ids ascend with the number. */
export function resourceId(number: number): ResourceId {
  return `00000000-0000-4000-8000-${String(number).padStart(12, "0")}` as ResourceId;
}

interface Options {
  readonly filters?: readonly FilterRule[];
  readonly ipStack?: IpStack;
  readonly sites?: readonly SiteId[];
  readonly name?: string;
}

export function dnsResource(number: number, address: string, options: Options = {}): Resource {
  return { kind: "dns", ...base(number, options), address, ipStack: options.ipStack ?? "dual" };
}

export function cidrResource(number: number, network: string, options: Options = {}): Resource {
  return { kind: "cidr", ...base(number, options), address: cidr(network) };
}

export function internetResource(number: number): Resource {
  return { kind: "internet", id: resourceId(number), name: "Internet", sites: [siteOf(SITE)] };
}

export function rule(kind: FilterRule["kind"], firstPort = 0, lastPort = firstPort): FilterRule {
  return { kind, firstPort, lastPort };
}

/** The portal's grant; `key` stands for all key material, so that another one replaces the connection. */
export function grant(resource: number, gateway: TestGateway = GATEWAY, key = 1): ClientIngress {
  return {
    kind: "authorization-created",
    resource: resourceId(resource),
    gateway: gateway.id,
    site: gateway.site,
    gatewayPublicKey: new Uint8Array(32).fill(key),
    gatewayIpv4: gateway.ipv4,
    gatewayIpv6: gateway.ipv6,
    presharedKey: new Uint8Array(32).fill(key),
    clientIce: { username: "client", password: "secret" },
    gatewayIce: { username: "gateway", password: "secret" },
  };
}

function base(number: number, { filters = [], sites = [SITE], name = `resource ${number}` }: Options) {
  return { id: resourceId(number), name, description: undefined, filters, sites: sites.map(siteOf) };
}

function siteOf(id: SiteId) {
  return { id, name: `site ${id.slice(-1)}` };
}
