import { cidr, type IpAddress, ip } from "../../../host/core/address.ts";
import type { ClientId, ResourceId } from "../../../host/core/id.ts";
import type { GatewayResource } from "../../../host/core/messages.ts";
import type { FilterRule } from "../../../host/core/packet-core.ts";

export interface TestClient {
  readonly id: ClientId;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

export const GATEWAY_V4 = ip("100.64.0.2");
export const GATEWAY_V6 = ip("fd00:2021:1111::2");

export const ALICE: TestClient = {
  id: "a11ce000-0000-4000-8000-000000000001" as ClientId,
  ipv4: ip("100.64.0.1"),
  ipv6: ip("fd00:2021:1111::1"),
};
export const BOB: TestClient = {
  id: "b0b00000-0000-4000-8000-000000000002" as ClientId,
  ipv4: ip("100.64.0.3"),
  ipv6: ip("fd00:2021:1111::3"),
};

export const PROXIES_V4 = [1, 2, 3, 4].map((host) => ip(`100.96.0.${host}`));
export const PROXIES_V6 = ["", "1", "2", "3"].map((host) => ip(`fd00:2021:1111:8000::${host}`));
export const PROXIES = [...PROXIES_V4, ...PROXIES_V6];
export const PROXY = PROXIES_V4[0]!;

/** Resource ids in ascending order. */
export function resourceId(number: number): ResourceId {
  return `00000000-0000-4000-8000-${String(number).padStart(12, "0")}` as ResourceId;
}

export function dnsResource(
  number: number,
  address: string,
  filters: readonly FilterRule[] = [],
): GatewayResource {
  const base = { id: resourceId(number), name: address, description: undefined, sites: [] };
  return { kind: "dns", ...base, address, ipStack: "dual", filters };
}

export function cidrResource(
  number: number,
  network: string,
  filters: readonly FilterRule[] = [],
): GatewayResource {
  const base = { id: resourceId(number), name: network, description: undefined, sites: [] };
  return { kind: "cidr", ...base, address: cidr(network), filters };
}

export function internetResource(number: number): GatewayResource {
  return { kind: "internet", id: resourceId(number), name: "Internet", sites: [] };
}

export function rule(kind: FilterRule["kind"], firstPort = 0, lastPort = firstPort): FilterRule {
  return { kind, firstPort, lastPort };
}
