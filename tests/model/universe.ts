// The small world that all runs share: sites, resources with the shapes they may take, names, ports.
import { cidr, ip } from "../../host/core/address.ts";
import type { ResourceId } from "../../host/core/id.ts";
import type { FilterRule } from "../../host/core/packet-core.ts";
import type { IpStack } from "../../host/core/policy/resource.ts";

export const ACCOUNT_ID = "5f0c7b9a-31d2-4a57-9c1e-0b6a3d2e4f10";
export const SITES = ["Office", "Lab", "Exit"] as const;
/** Site of each gateway, by number. Two share the first. */
export const GATEWAY_SITES = [0, 0, 1, 2] as const;
/** The internet resource has a site of its own: next to it narrower resources would be shadowed (tunnel-core §15.4). */
export const EXIT_SITE = 2;
export const CLIENTS = 2;

export interface Slot {
  readonly kind: "cidr" | "dns" | "internet";
  /** Addresses that the resource may have; the first at the start. */
  readonly addresses: readonly string[];
}

export const SLOTS: readonly Slot[] = [
  { kind: "cidr", addresses: ["10.1.0.0/16", "10.2.0.0/16", "10.1.2.0/24"] },
  { kind: "cidr", addresses: ["10.1.2.0/24", "10.1.0.0/16", "10.2.3.4/32"] },
  { kind: "cidr", addresses: ["fd10::/64", "fd10:0:0:1::/64", "10.2.0.0/16"] },
  { kind: "dns", addresses: ["db.corp.test", "*.corp.test", "www.corp.test"] },
  { kind: "dns", addresses: ["*.corp.test", "**.lab.test", "web.corp.test"] },
  { kind: "dns", addresses: ["**.lab.test", "db.corp.test", "*.corp.test"] },
  { kind: "internet", addresses: [""] },
];
export const INTERNET_SLOT = 6;

export function slotId(slot: number): ResourceId {
  return `00000000-0000-4000-8000-00000000000${slot}` as ResourceId;
}

/** What each pattern matches, written down once more without the product's matcher. */
const PATTERNS: Readonly<Record<string, RegExp>> = {
  "db.corp.test": /^db\.corp\.test$/,
  "www.corp.test": /^www\.corp\.test$/,
  "web.corp.test": /^web\.corp\.test$/,
  "*.corp.test": /^([^.]+\.)?corp\.test$/,
  "**.lab.test": /^(.+\.)?lab\.test$/,
};

export function patternMatches(pattern: string, name: string): boolean {
  return PATTERNS[pattern]?.test(name) === true;
}

export const NAMES = ["db.corp.test", "www.corp.test", "web.corp.test", "lab.test", "x.y.lab.test"] as const;
/** No resource ever claims them. */
export const OTHER_NAMES = ["example.org", "a.db.corp.test", "corp.test.example"] as const;

/** What names may resolve to, in the sites. Some lie in networks that are resources too. */
export const RECORDS = ["172.20.0.1", "172.20.0.2", "172.20.0.3", "10.1.2.3", "fd20::1", "fd20::2"].map(ip);

export const DESTINATIONS = [
  "10.1.0.5",
  "10.1.2.3",
  "10.2.3.4",
  "10.2.9.9",
  "fd10::5",
  "fd10:0:0:1::5",
  "93.184.216.34",
  "2606:2800:220::1",
  // Private and no resource; tunnel range; proxy range, assigned to nobody; multicast.
  "10.77.0.1",
  "100.64.200.200",
  "100.100.100.1",
  "224.0.0.5",
].map(ip);

/** tunnel-core §15.5, as far as destinations lie in it. */
export const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10", "fc00::/7"].map(cidr);

export const PORTS = [80, 443, 5000, 5999, 7000, 53] as const;

function rule(kind: FilterRule["kind"], firstPort = 0, lastPort = firstPort): FilterRule {
  return { kind, firstPort, lastPort };
}

export const FILTERS: readonly (readonly FilterRule[])[] = [
  [],
  [rule("tcp", 443)],
  [rule("udp", 5000, 5999)],
  [rule("icmp")],
  [rule("icmp"), rule("udp", 5000), rule("tcp", 80)],
  [rule("tcp", 1, 65535), rule("udp", 53)],
];

export const STACKS: readonly IpStack[] = ["dual", "ipv4_only", "ipv6_only"];

export const DNS_SERVERS = ["9.9.9.9", "1.1.1.1", "10.1.0.53", "2620:fe::fe"].map(ip);
