import { type Cidr, type IpAddress, isIpv4, networkOf } from "../address.ts";
import type { ResourceId } from "../id.ts";
import type { FilterId, Identity } from "../packet-core.ts";
import { comparePatterns, type Pattern } from "./pattern.ts";

/** What a network leads to. Tables extend it with what their owner needs to know. */
export interface RouteEntry {
  readonly resource: ResourceId;
  readonly filter: FilterId;
  /** Only in tables of proxy IPs: the pattern by which the resource claims the name. */
  readonly pattern?: Pattern | undefined;
}

/** Judges a packet by a filter set; must give the same answer for the same arguments: matches are cached. */
export type Permits = (filter: FilterId, identity: Identity) => boolean;

/** Remembered matches (tunnel-core §2.5). */
export const MATCH_CACHE_ENTRIES = 1024;

interface Route<Entry> {
  readonly network: Cidr;
  readonly entry: Entry;
}

/**
 * Networks and the resources behind them; a network may lead to several (tunnel-core §15.3).
 *
 * One hash map per prefix length in use, so that a lookup costs a probe per length, not per network.
 * Growth is bounded by what the portal grants.
 */
export class RoutingTable<Entry extends RouteEntry> {
  readonly #v4 = new Map<number, Map<IpAddress, Route<Entry>[]>>();
  readonly #v6 = new Map<number, Map<IpAddress, Route<Entry>[]>>();
  readonly #networksOf = new Map<ResourceId, Map<string, Cidr>>();
  readonly #matches = new Map<string, Entry | undefined>();

  /** Adds an entry, or replaces the one of the same network and resource. */
  insert(network: Cidr, entry: Entry): void {
    this.#take(network, entry.resource);
    this.#matches.clear();

    const lengths = this.#family(network.ip);
    const networks = lengths.get(network.prefix) ?? new Map<IpAddress, Route<Entry>[]>();
    lengths.set(network.prefix, networks);
    const routes = networks.get(network.ip) ?? [];
    networks.set(network.ip, routes);
    routes.push({ network, entry });

    const known = this.#networksOf.get(entry.resource) ?? new Map<string, Cidr>();
    this.#networksOf.set(entry.resource, known);
    known.set(keyOf(network), network);
  }

  /** False if there was no such entry. */
  remove(network: Cidr, resource: ResourceId): boolean {
    if (!this.#take(network, resource)) return false;
    this.#matches.clear();
    return true;
  }

  /** Removes all entries of a resource; false if there were none. */
  removeResource(resource: ResourceId): boolean {
    const networks = [...(this.#networksOf.get(resource)?.values() ?? [])];
    for (const network of networks) this.remove(network, resource);
    return networks.length > 0;
  }

  clear(): void {
    this.#v4.clear();
    this.#v6.clear();
    this.#networksOf.clear();
    this.#matches.clear();
  }

  /**
   * The best of all entries whose network contains the address: permitted before refused, then the more
   * specific pattern, the longer prefix, the higher resource id. It may still refuse the packet.
   */
  best(ip: IpAddress, identity: Identity, permits: Permits): Entry | undefined {
    const key = `${ip} ${identityKey(identity)}`;
    if (this.#matches.has(key)) {
      const entry = this.#matches.get(key);
      this.#matches.delete(key);
      this.#matches.set(key, entry);
      return entry;
    }

    const entry = this.find(ip, identity, permits);
    this.#matches.set(key, entry);
    if (this.#matches.size > MATCH_CACHE_ENTRIES) {
      const oldest = this.#matches.keys().next();
      if (!oldest.done) this.#matches.delete(oldest.value);
    }
    return entry;
  }

  /** The same answer as `best` without touching what is remembered: for questions that are no packets. */
  find(ip: IpAddress, identity: Identity, permits: Permits): Entry | undefined {
    const candidates: Candidate<Entry>[] = [];
    for (const [prefix, networks] of this.#family(ip)) {
      for (const { entry } of networks.get(networkOf(ip, prefix).ip) ?? [])
        candidates.push({ entry, prefix });
    }
    return bestOf(candidates, identity, permits);
  }

  /** Whether any entry contains the address, permitted or not. */
  covers(ip: IpAddress): boolean {
    for (const [prefix, networks] of this.#family(ip)) {
      if (networks.has(networkOf(ip, prefix).ip)) return true;
    }
    return false;
  }

  has(network: Cidr, resource: ResourceId): boolean {
    return this.#networksOf.get(resource)?.has(keyOf(network)) ?? false;
  }

  /** All entries of exactly this network. */
  entriesOf(network: Cidr): Entry[] {
    const routes = this.#family(network.ip).get(network.prefix)?.get(network.ip) ?? [];
    return routes.map((route) => route.entry);
  }

  /** Every network in the table, each once, in no particular order. */
  networks(): Cidr[] {
    const all: Cidr[] = [];
    for (const lengths of [this.#v4, this.#v6]) {
      for (const networks of lengths.values()) {
        for (const routes of networks.values()) {
          if (routes[0] !== undefined) all.push(routes[0].network);
        }
      }
    }
    return all;
  }

  get isEmpty(): boolean {
    return this.#networksOf.size === 0;
  }

  #take(network: Cidr, resource: ResourceId): boolean {
    const known = this.#networksOf.get(resource);
    if (known === undefined || !known.delete(keyOf(network))) return false;
    if (known.size === 0) this.#networksOf.delete(resource);

    const lengths = this.#family(network.ip);
    const networks = lengths.get(network.prefix);
    const rest = (networks?.get(network.ip) ?? []).filter((route) => route.entry.resource !== resource);
    if (rest.length > 0) networks?.set(network.ip, rest);
    else networks?.delete(network.ip);
    if (networks?.size === 0) lengths.delete(network.prefix);
    return true;
  }

  #family(ip: IpAddress): Map<number, Map<IpAddress, Route<Entry>[]>> {
    return isIpv4(ip) ? this.#v4 : this.#v6;
  }
}

/** An entry whose network, of that prefix length, contains the address in question. */
export interface Candidate<Entry> {
  readonly entry: Entry;
  readonly prefix: number;
}

/** Chooses in the order that `RoutingTable.best` documents; undefined: there is no candidate. */
export function bestOf<Entry extends RouteEntry>(
  candidates: readonly Candidate<Entry>[],
  identity: Identity,
  permits: Permits,
): Entry | undefined {
  let best: Judged<Entry> | undefined;
  for (const { entry, prefix } of candidates) {
    const judged = { entry, prefix, isPermitted: permits(entry.filter, identity) };
    if (best === undefined || isBetter(judged, best)) best = judged;
  }
  return best?.entry;
}

interface Judged<Entry> extends Candidate<Entry> {
  readonly isPermitted: boolean;
}

function isBetter(a: Judged<RouteEntry>, b: Judged<RouteEntry>): boolean {
  if (a.isPermitted !== b.isPermitted) return a.isPermitted;
  if (a.entry.pattern !== undefined && b.entry.pattern !== undefined) {
    const order = comparePatterns(a.entry.pattern, b.entry.pattern);
    if (order !== 0) return order < 0;
  }
  if (a.prefix !== b.prefix) return a.prefix > b.prefix;
  return a.entry.resource > b.entry.resource;
}

function keyOf(network: Cidr): string {
  return `${network.ip}/${network.prefix}`;
}

function identityKey(identity: Identity): string {
  switch (identity.kind) {
    case "tcp":
    case "udp":
    case "echo":
      return `${identity.kind} ${identity.port}`;
    case "icmp":
      return "icmp";
    case "other":
      return `other ${identity.protocol}`;
  }
}
