// The reference: what a packet may do under one state of the policy. Meant to be read, not to be fast.
import { type Cidr, cidr, contains, type IpAddress, isIpv4, isMulticast } from "../../host/core/address.ts";
import type { SiteId } from "../../host/core/id.ts";
import type { Resource } from "../../host/core/policy/resource.ts";
import { namedId } from "../../host/portal/server/derivations.ts";
import type { Configuration, Group, Policy } from "../../host/portal/server/model.ts";
import type { SeededRandom } from "../sim/random.ts";
import {
  ACCOUNT_ID,
  CLIENTS,
  DNS_SERVERS,
  EXIT_SITE,
  FILTERS,
  INTERNET_SLOT,
  PRIVATE,
  patternMatches,
  SITES,
  SLOTS,
  STACKS,
  slotId,
} from "./universe.ts";

/** One resource slot as the operator has set it. */
export interface SlotState {
  readonly isPresent: boolean;
  readonly address: number;
  readonly filters: number;
  readonly site: number;
  readonly stack: number;
  /** Which clients have a policy for it. */
  readonly granted: readonly boolean[];
}

/** Everything that decides about packets, at one time. A change makes a new one. */
export interface View {
  readonly slots: readonly SlotState[];
  /** Numbers of DNS servers that the portal sets. */
  readonly dnsServers: readonly number[];
  /** By client: its token is good. */
  readonly isSignedIn: readonly boolean[];
  /** By client: its user wants the internet resource. */
  readonly wantsInternet: readonly boolean[];
}

export type Protocol = "tcp" | "udp" | "echo" | "other";

/** What a packet asks for. `name`: what the destination, a proxy IP, stands for. */
export interface Question {
  readonly client: number;
  readonly destination: IpAddress;
  readonly name: string | undefined;
  readonly protocol: Protocol;
  readonly port: number;
}

export type Verdict =
  /** Nobody hears of it. */
  | { readonly kind: "silence" }
  /** The client's own device answers with the error for a forbidden destination. */
  | { readonly kind: "prohibited" }
  /** It leaves through a gateway of this site, which answers that there is no way. */
  | { readonly kind: "unreachable"; readonly site: number; readonly slot: number }
  | { readonly kind: "delivered"; readonly site: number; readonly slot: number };

/** Each seed begins with other filters. */
export function initialView(random: SeededRandom): View {
  const slots = SLOTS.map((slot, i) => ({
    isPresent: true,
    address: 0,
    filters: random.uniform() < 0.5 ? Math.floor(random.uniform() * FILTERS.length) : 0,
    site: slot.kind === "internet" ? EXIT_SITE : i % 2,
    stack: 0,
    granted: Array.from({ length: CLIENTS }, () => true),
  }));
  return {
    slots,
    dnsServers: [],
    isSignedIn: Array.from({ length: CLIENTS }, () => true),
    wantsInternet: Array.from({ length: CLIENTS }, () => false),
  };
}

export function filterPermits(filters: number, protocol: Protocol, port: number): boolean {
  const rules = FILTERS[filters] ?? [];
  if (rules.length === 0) return true;
  return rules.some((rule) => {
    if (rule.kind === "icmp") return protocol === "echo";
    return rule.kind === protocol && rule.firstPort <= port && port <= rule.lastPort;
  });
}

export function visible(view: View, client: number, slot: number): boolean {
  const state = view.slots[slot];
  return state?.isPresent === true && state.granted[client] === true && view.isSignedIn[client] === true;
}

/** Address or pattern that the slot has in this view. */
export function addressOf(view: View, slot: number): string {
  return SLOTS[slot]?.addresses[view.slots[slot]?.address ?? 0] ?? "";
}

function stackHas(stack: number, destination: IpAddress): boolean {
  const kind = STACKS[stack];
  return kind === "dual" || (kind === "ipv4_only") === isIpv4(destination);
}

/** Slots of DNS resources that claim the name for this client. */
export function claimants(view: View, client: number, name: string): number[] {
  return SLOTS.flatMap(({ kind }, slot) =>
    kind === "dns" && visible(view, client, slot) && patternMatches(addressOf(view, slot), name)
      ? [slot]
      : [],
  );
}

export function dnsFamilies(view: View, client: number, name: string): { v4: boolean; v6: boolean } {
  const stacks = claimants(view, client, name).map((slot) => STACKS[view.slots[slot]?.stack ?? 0]);
  return {
    v4: stacks.some((stack) => stack !== "ipv6_only"),
    v6: stacks.some((stack) => stack !== "ipv4_only"),
  };
}

/** tunnel-core §8.1 and §8.3 for an honest client, §13.5 for its gateway. */
export function judge(view: View, question: Question): Verdict {
  const { client, destination, name, protocol, port } = question;
  if (isMulticast(destination) || protocol === "other") return { kind: "silence" };
  const candidates = name === undefined ? networksFor(view, question) : namesFor(view, question);
  const permitting = candidates.filter(({ slot }) =>
    filterPermits(view.slots[slot]?.filters ?? 0, protocol, port),
  );
  const best = permitting[0];
  if (best !== undefined)
    return { kind: "delivered", slot: best.slot, site: view.slots[best.slot]?.site ?? 0 };
  if (candidates.length > 0) return { kind: "prohibited" };
  if (name !== undefined || isTunnelOrProxy(destination)) return { kind: "silence" };
  if (!hasInternet(view, client)) return { kind: "silence" };
  const kind = isPrivate(destination) ? "unreachable" : "delivered";
  return { kind, slot: INTERNET_SLOT, site: EXIT_SITE };
}

/**
 * Whether a gateway of this site may let the packet out for this client at all, whatever the client's own
 * routing says. A manipulated client gets this far and no further.
 */
export function siteMayServe(view: View, site: number, question: Question): boolean {
  const { client, destination, name, protocol, port } = question;
  const candidates = name === undefined ? networksFor(view, question) : namesFor(view, question);
  const permitted = candidates.some(({ slot }) => {
    const state = view.slots[slot];
    return state?.site === site && filterPermits(state.filters, protocol, port);
  });
  if (permitted) return true;
  if (name !== undefined || site !== EXIT_SITE || isTunnelOrProxy(destination)) return false;
  return visible(view, client, INTERNET_SLOT) && !isPrivate(destination);
}

export function hasInternet(view: View, client: number): boolean {
  return view.wantsInternet[client] === true && visible(view, client, INTERNET_SLOT);
}

/** Whether queries to this server go through the tunnel (tunnel-core §11.6). */
export function coversServer(view: View, client: number, server: IpAddress): boolean {
  const question: Question = { client, destination: server, name: undefined, protocol: "udp", port: 53 };
  return hasInternet(view, client) || networksFor(view, question).length > 0;
}

/** Most specific pattern first; exact names before `*` before `**`, then the higher id. */
function namesFor(view: View, { client, name, destination }: Question): { slot: number }[] {
  const wildcards = (slot: number) => addressOf(view, slot).split("*").length;
  return claimants(view, client, name ?? "")
    .filter((slot) => stackHas(view.slots[slot]?.stack ?? 0, destination))
    .sort((a, b) => wildcards(a) - wildcards(b) || b - a)
    .map((slot) => ({ slot }));
}

/** Longest prefix first, then the higher id. */
function networksFor(view: View, { client, destination }: Question): { slot: number }[] {
  return SLOTS.flatMap(({ kind }, slot): { slot: number; network: Cidr }[] =>
    kind === "cidr" && visible(view, client, slot) ? [{ slot, network: cidr(addressOf(view, slot)) }] : [],
  )
    .filter(({ network }) => contains(network, destination))
    .sort((a, b) => b.network.prefix - a.network.prefix || b.slot - a.slot);
}

const TUNNEL_AND_PROXY = ["100.64.0.0/10", "fd00:2021:1111::/48"].map(cidr);

function isTunnelOrProxy(address: IpAddress): boolean {
  return TUNNEL_AND_PROXY.some((network) => contains(network, address));
}

function isPrivate(address: IpAddress): boolean {
  return PRIVATE.some((network) => contains(network, address));
}

export function siteId(site: number): SiteId {
  return namedId(ACCOUNT_ID, "site", SITES[site] ?? "") as SiteId;
}

export function actorName(client: number): string {
  return `actor-${client}`;
}

/** The portal's configuration for a view. */
export function configurationOf(view: View): Configuration {
  const actors = Array.from({ length: CLIENTS }, (_, client) => ({
    id: namedId(ACCOUNT_ID, "actor", actorName(client)),
    kind: "user" as const,
    name: actorName(client),
    email: undefined,
    isEnabled: true,
  }));
  const groups: Group[] = actors.map((actor, client) => ({
    id: namedId(ACCOUNT_ID, "group", `group-${client}`),
    name: `group-${client}`,
    members: new Set([actor.id]),
  }));
  const sites = SITES.map((name, site) => ({ id: siteId(site), name }));
  const present = view.slots.flatMap(({ isPresent }, slot) => (isPresent ? [slot] : []));
  return {
    account: {
      id: ACCOUNT_ID,
      slug: "model",
      name: "Model",
      dns: {
        searchDomain: undefined,
        servers: view.dnsServers.flatMap((server) => DNS_SERVERS[server] ?? []),
        dohUrls: [],
      },
    },
    listen: { host: "127.0.0.1", port: 1, tls: undefined, isPlainAllowed: true },
    tokensPath: "tokens",
    actors: new Map(actors.map((actor) => [actor.id, actor])),
    groups,
    sites: new Map(sites.map((site) => [site.id, site])),
    resources: new Map(present.map((slot) => [slotId(slot), resourceOf(view, slot)])),
    policies: present.flatMap((slot) => policiesOf(view, slot, groups)),
  };
}

function policiesOf(view: View, slot: number, groups: readonly Group[]): Policy[] {
  return groups.flatMap((group, client) =>
    view.slots[slot]?.granted[client] === true
      ? [{ id: `policy-${slot}-${client}`, group, resourceId: slotId(slot), isEnabled: true }]
      : [],
  );
}

function resourceOf(view: View, slot: number): Resource {
  const state = view.slots[slot];
  const sites = [{ id: siteId(state?.site ?? 0), name: SITES[state?.site ?? 0] ?? "" }];
  const common = { id: slotId(slot), name: `resource ${slot}`, sites };
  const filters = FILTERS[state?.filters ?? 0] ?? [];
  const address = addressOf(view, slot);
  switch (SLOTS[slot]?.kind) {
    case "cidr":
      return { kind: "cidr", ...common, address: cidr(address), description: undefined, filters };
    case "dns": {
      const ipStack = STACKS[state?.stack ?? 0] ?? "dual";
      return { kind: "dns", ...common, address, description: undefined, ipStack, filters };
    }
    default:
      return { kind: "internet", ...common };
  }
}
