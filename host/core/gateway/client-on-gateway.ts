import { addressBits, type IpAddress, isProxyAddress } from "../address.ts";
import type { ClientId, PeerId, ResourceId } from "../id.ts";
import type { GatewayResource } from "../messages.ts";
import type { FilterId, FilterRule, Identity, PacketCore } from "../packet-core.ts";
import type { FilterPool } from "../policy/filter.ts";
import { matches, type Pattern, parsePattern } from "../policy/pattern.ts";
import { type RouteEntry, RoutingTable } from "../policy/routing-table.ts";
import type { Instant } from "../time.ts";
import { isInternetAddress } from "./internet.ts";
import { Translations } from "./translations.ts";

/** `unreachable`: an internet resource does not lead there. */
export type Verdict = "allowed" | "not-allowed" | "unreachable";

/** Why a destination may be reached or not. `filter` is that of the resource, 0 for an internet resource. */
export type Judgement =
  | { readonly verdict: "allowed" | "unreachable"; readonly resource: ResourceId; readonly filter: FilterId }
  | { readonly verdict: "not-allowed"; readonly reason: "no-grant" }
  | {
      readonly verdict: "not-allowed";
      readonly reason: "filter";
      readonly resource: ResourceId;
      readonly filter: FilterId;
    };

export interface TunAddresses {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

interface Grant {
  readonly resource: GatewayResource;
  /** Undefined: the packet core has no room for the rules, so nothing may pass. */
  readonly filter: FilterId | undefined;
  /** Of a DNS resource; undefined if its address is no pattern, which then matches no name. */
  readonly pattern: Pattern | undefined;
  readonly expiresAt: Instant | undefined;
}

/**
 * What the gateway keeps for one client (tunnel-core §13.1): grants, the tables derived from them, and
 * the meaning of its proxy IPs. The NAT table is in the packet core, under the same peer slot.
 *
 * Survives the loss of the connection. Its owner invalidates the peer's flows after every change.
 */
export class ClientOnGateway {
  readonly id: ClientId;
  readonly peer: PeerId;
  readonly translations = new Translations();
  readonly #filters: FilterPool;
  readonly #permits: PacketCore["permits"];
  readonly #grants = new Map<ResourceId, Grant>();
  readonly #internet = new Set<ResourceId>();
  /** Networks of CIDR resources; proxy IPs of DNS resources. Apart, so that neither opens the other. */
  readonly #networks = new RoutingTable<RouteEntry>();
  readonly #proxies = new RoutingTable<RouteEntry>();
  #addresses: TunAddresses;
  #actorName: string | undefined;
  #emptySince: Instant | undefined;

  constructor(id: ClientId, peer: PeerId, addresses: TunAddresses, filters: FilterPool, core: PacketCore) {
    this.id = id;
    this.peer = peer;
    this.#addresses = addresses;
    this.#filters = filters;
    this.#permits = (filter, identity) => core.permits(filter, identity);
  }

  get addresses(): TunAddresses {
    return this.#addresses;
  }

  setAddresses(addresses: TunAddresses): void {
    this.#addresses = addresses;
  }

  /** Whose device it is, if the portal said so. */
  get actorName(): string | undefined {
    return this.#actorName;
  }

  setActorName(name: string | undefined): void {
    this.#actorName = name;
  }

  owns(ip: IpAddress): boolean {
    return ip === this.#addresses.ipv4 || ip === this.#addresses.ipv6;
  }

  /** Admits to a resource. A known one gets the new filters and expiry; its kind and address never change. */
  grant(resource: GatewayResource, expiresAt: Instant | undefined): void {
    const known = this.#grants.get(resource.id);
    this.#emptySince = undefined;
    this.#put(known === undefined ? resource : withFilters(known.resource, filtersOf(resource)), expiresAt);
  }

  /** False if this client does not have the resource. */
  updateFilters(resource: GatewayResource): boolean {
    const known = this.#grants.get(resource.id);
    if (known === undefined) return false;
    this.#put(withFilters(known.resource, filtersOf(resource)), known.expiresAt);
    return true;
  }

  setExpiry(resource: ResourceId, expiresAt: Instant | undefined): void {
    const known = this.#grants.get(resource);
    if (known !== undefined) this.#grants.set(resource, { ...known, expiresAt });
  }

  /** Translations stay as they are: without the grant no packet gets that far. */
  revoke(resource: ResourceId, now: Instant): boolean {
    const known = this.#grants.get(resource);
    if (known === undefined) return false;

    this.#grants.delete(resource);
    this.#internet.delete(resource);
    this.#networks.removeResource(resource);
    this.#proxies.removeResource(resource);
    if (known.filter !== undefined) this.#filters.release(known.filter);
    if (this.isEmpty) this.#emptySince = now;
    return true;
  }

  /** Revokes what is over; true if anything was. */
  expire(now: Instant): boolean {
    let changed = false;
    for (const [resource, { expiresAt }] of [...this.#grants]) {
      if (expiresAt !== undefined && expiresAt <= now) changed = this.revoke(resource, now) || changed;
    }
    return changed;
  }

  /** When `expire` has something to do, or since when there is nothing left to grant. */
  deadline(): Instant | undefined {
    let first = this.#emptySince;
    for (const { expiresAt } of this.#grants.values()) {
      if (expiresAt !== undefined && (first === undefined || expiresAt < first)) first = expiresAt;
    }
    return first;
  }

  get isEmpty(): boolean {
    return this.#grants.size === 0;
  }

  resources(): ResourceId[] {
    return [...this.#grants.keys()];
  }

  /** Undefined: not granted. */
  grantOf(
    resource: ResourceId,
  ): { readonly resource: GatewayResource; readonly expiresAt: Instant | undefined } | undefined {
    return this.#grants.get(resource);
  }

  has(resource: ResourceId): boolean {
    return this.#grants.has(resource);
  }

  /** Whether the packet core had no room for the resource's filters, so that it admits nothing. */
  isClosed(resource: ResourceId): boolean {
    const grant = this.#grants.get(resource);
    return grant !== undefined && grant.filter === undefined;
  }

  /** Whether it is a granted DNS resource whose pattern matches the name. */
  claims(resource: ResourceId, name: string): boolean {
    const pattern = this.#grants.get(resource)?.pattern;
    return pattern !== undefined && matches(pattern, name);
  }

  /** Installs the translations of an announced name; true if an existing one changed. Check `claims` first. */
  translate(
    resource: ResourceId,
    name: string,
    proxyIps: readonly IpAddress[],
    realIps: readonly IpAddress[],
  ): boolean {
    const { changed, forgotten } = this.translations.assign(name, resource, proxyIps, realIps);
    for (const proxyIp of forgotten) this.#unroute(proxyIp);
    for (const proxyIp of proxyIps) this.#route(proxyIp, resource);
    return changed || forgotten.length > 0;
  }

  forgetTranslations(): void {
    this.translations.clear();
    this.#proxies.clear();
  }

  /** tunnel-core §15.4; `ip` and `identity` are those of the resource's end. */
  classify(ip: IpAddress, identity: Identity): Verdict {
    return this.judge(ip, identity, "best").verdict;
  }

  /** The same with the reason. `best` is for packets; `find` is for questions and changes nothing. */
  judge(ip: IpAddress, identity: Identity, search: "best" | "find"): Judgement {
    if (isProxyAddress(ip)) {
      const table = this.translations.get(ip) === undefined ? this.#networks : this.#proxies;
      return this.#judge(table[search](ip, identity, this.#permits), identity);
    }
    const [internet] = this.#internet;
    if (internet !== undefined) {
      return { verdict: isInternetAddress(ip) ? "allowed" : "unreachable", resource: internet, filter: 0 };
    }
    return this.#judge(this.#networks[search](ip, identity, this.#permits), identity);
  }

  /** Gives the filters back; the client must not be used afterwards. */
  release(): void {
    for (const { filter } of this.#grants.values()) {
      if (filter !== undefined) this.#filters.release(filter);
    }
    this.#grants.clear();
  }

  #judge(entry: RouteEntry | undefined, identity: Identity): Judgement {
    if (entry === undefined) return { verdict: "not-allowed", reason: "no-grant" };
    const { resource, filter } = entry;
    return this.#permits(filter, identity)
      ? { verdict: "allowed", resource, filter }
      : { verdict: "not-allowed", reason: "filter", resource, filter };
  }

  #put(resource: GatewayResource, expiresAt: Instant | undefined): void {
    const old = this.#grants.get(resource.id);
    // Before the release, so that an unchanged filter keeps its handle.
    const filter = this.#filters.acquire(filtersOf(resource));
    if (old?.filter !== undefined) this.#filters.release(old.filter);

    const pattern = resource.kind === "dns" ? parsePattern(resource.address) : undefined;
    const grant = { resource, filter, pattern, expiresAt };
    this.#grants.set(resource.id, grant);
    this.#index(grant);
  }

  #index({ resource, filter, pattern }: Grant): void {
    this.#networks.removeResource(resource.id);
    this.#proxies.removeResource(resource.id);
    if (filter === undefined) return;

    switch (resource.kind) {
      case "internet":
        this.#internet.add(resource.id);
        return;
      case "cidr":
        this.#networks.insert(resource.address, { resource: resource.id, filter });
        return;
      case "dns":
        // A resource that was revoked may come back with another pattern under the same id.
        for (const [proxyIp, { name }] of this.translations.announcedUnder(resource.id)) {
          if (pattern !== undefined && matches(pattern, name)) this.#route(proxyIp, resource.id);
        }
    }
  }

  #route(proxyIp: IpAddress, resource: ResourceId): void {
    const grant = this.#grants.get(resource);
    if (grant?.filter === undefined || this.translations.get(proxyIp) === undefined) return;

    const network = { ip: proxyIp, prefix: addressBits(proxyIp) };
    if (this.#proxies.has(network, resource)) return;
    this.#proxies.insert(network, { resource, filter: grant.filter, pattern: grant.pattern });
  }

  #unroute(proxyIp: IpAddress): void {
    const network = { ip: proxyIp, prefix: addressBits(proxyIp) };
    for (const { resource } of this.#proxies.entriesOf(network)) this.#proxies.remove(network, resource);
  }
}

function filtersOf(resource: GatewayResource): readonly FilterRule[] {
  return resource.kind === "internet" ? [] : resource.filters;
}

function withFilters(resource: GatewayResource, filters: readonly FilterRule[]): GatewayResource {
  return resource.kind === "internet" ? resource : { ...resource, filters };
}
