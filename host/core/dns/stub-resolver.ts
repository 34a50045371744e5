import type { IpAddress } from "../address.ts";
import type { ResourceId } from "../id.ts";
import { comparePatterns, matches, type Pattern } from "../policy/pattern.ts";
import type { IpStack } from "../policy/resource.ts";
import {
  CLASS_IN,
  type DnsQuery,
  emptyResponse,
  RCODE_NOERROR,
  RCODE_NXDOMAIN,
  type StubRecord,
  stubResponse,
  TYPE_A,
  TYPE_AAAA,
  TYPE_HTTPS,
  TYPE_PTR,
  TYPE_SRV,
  TYPE_TXT,
} from "./message.ts";
import { addressOfReverseName, normalizeName } from "./name.ts";
import { PROXY_IPS_PER_FAMILY, ProxyIpAllocator, type ProxyIps } from "./proxy-ips.ts";

/** Browsers turn DNS over HTTPS off when this name does not exist. */
const CANARY_NAME = "use-application-dns.net";

/** Which resource claims a name by which pattern. */
export interface Claim {
  readonly resource: ResourceId;
  /** Pattern text, lower case. */
  readonly pattern: string;
}

/** One name with its proxy IPs, as the host keeps it for the life of the process (tunnel-core §11.5). */
export interface DnsRecord {
  readonly name: string;
  readonly ipv4: readonly IpAddress[];
  readonly ipv6: readonly IpAddress[];
  readonly claims: readonly Claim[];
}

/** A DNS resource as the stub resolver knows it. */
export interface StubResource {
  readonly id: ResourceId;
  readonly pattern: Pattern;
  readonly ipStack: IpStack;
}

/** A name that a resource claims now, with the addresses that stand for it. */
export interface Assignment {
  readonly name: string;
  readonly resource: ResourceId;
  readonly pattern: Pattern;
  /** Of the families that the resource supports. */
  readonly proxyIps: readonly IpAddress[];
}

export type StubVerdict =
  /** `assigned`: what this query made new, to be routed and reported. */
  | { readonly kind: "answer"; readonly response: Uint8Array; readonly assigned: readonly Assignment[] }
  | { readonly kind: "resolve-in-site"; readonly resource: ResourceId }
  | { readonly kind: "recurse" };

/** The same before anything is assigned. */
export type StubDecision =
  | { readonly kind: "no-such-name" }
  | { readonly kind: "no-data" }
  /** A proxy IP's name. */
  | { readonly kind: "known-address"; readonly name: string }
  /** Most specific pattern first; never empty. */
  | { readonly kind: "proxy-addresses"; readonly matching: readonly StubResource[] }
  | { readonly kind: "resolve-in-site"; readonly resource: ResourceId }
  | { readonly kind: "recurse" };

interface KnownName extends ProxyIps {
  readonly claims: Map<ResourceId, string>;
}

/**
 * Answers for names of DNS resources with proxy IPs (tunnel-core §11.5).
 *
 * A name keeps its addresses as long as the process lives, whatever happens to its resources; the
 * number of names is bounded by the proxy ranges.
 */
export class StubResolver {
  readonly #resources = new Map<ResourceId, StubResource>();
  readonly #exact = new Map<string, Set<ResourceId>>();
  readonly #wildcards = new Map<ResourceId, StubResource>();
  readonly #names = new Map<string, KnownName>();
  readonly #nameOfProxy = new Map<IpAddress, string>();
  /** Claims ever made, kept in step with the names. */
  readonly #namesClaimed = new Map<ResourceId, Set<string>>();
  readonly #allocator = new ProxyIpAllocator();

  /** Seeds the names of an earlier session; malformed records are skipped. Call once, before all else. */
  restore(records: readonly DnsRecord[]): void {
    for (const record of records) {
      if (record.ipv4.length > PROXY_IPS_PER_FAMILY || record.ipv6.length > PROXY_IPS_PER_FAMILY) continue;
      const proxyIps = { ipv4: [...record.ipv4], ipv6: [...record.ipv6] };
      this.#allocator.restore([...proxyIps.ipv4, ...proxyIps.ipv6]);
      const name = normalizeName(record.name);
      this.#addName(name, proxyIps);
      for (const claim of record.claims) this.#claim(name, claim);
    }
  }

  /** All names with everything remembered about them. */
  records(): DnsRecord[] {
    return [...this.#names].map(([name, known]) => ({
      name,
      ipv4: known.ipv4,
      ipv6: known.ipv6,
      claims: [...known.claims].map(([resource, pattern]) => ({ resource, pattern })),
    }));
  }

  /** Registers a resource, whose id must not be registered; returns the names that it had claimed before. */
  add(resource: StubResource): Assignment[] {
    this.#resources.set(resource.id, resource);
    if (resource.pattern.isExact) {
      const sharing = this.#exact.get(resource.pattern.text) ?? new Set<ResourceId>();
      this.#exact.set(resource.pattern.text, sharing.add(resource.id));
    } else {
      this.#wildcards.set(resource.id, resource);
    }
    this.#forgetOtherPatterns(resource);
    return this.assignmentsOf(resource.id);
  }

  /** The names that it claimed stay remembered. */
  remove(id: ResourceId): void {
    const resource = this.#resources.get(id);
    if (resource === undefined) return;

    this.#resources.delete(id);
    this.#wildcards.delete(id);
    const sharing = this.#exact.get(resource.pattern.text);
    sharing?.delete(id);
    if (sharing?.size === 0) this.#exact.delete(resource.pattern.text);
  }

  /** Every name that this registered resource claims. */
  assignmentsOf(id: ResourceId): Assignment[] {
    const resource = this.#resources.get(id);
    if (resource === undefined) return [];

    const assignments: Assignment[] = [];
    for (const name of this.#namesClaimed.get(id) ?? []) {
      const known = this.#names.get(name);
      if (known !== undefined) assignments.push(assignmentOf(name, known, resource));
    }
    return assignments;
  }

  /** Every registered resource's claim on this name. */
  assignmentsFor(name: string): Assignment[] {
    const known = this.#names.get(name);
    if (known === undefined) return [];

    const assignments: Assignment[] = [];
    for (const id of known.claims.keys()) {
      const resource = this.#resources.get(id);
      if (resource !== undefined) assignments.push(assignmentOf(name, known, resource));
    }
    return assignments;
  }

  /** Answers as `decide` says, and assigns addresses to a name that has none yet. */
  resolve(query: DnsQuery): StubVerdict {
    const decision = this.decide(query);
    switch (decision.kind) {
      case "no-such-name":
        return localAnswer(emptyResponse(query, RCODE_NXDOMAIN));
      case "no-data":
        return localAnswer(emptyResponse(query, RCODE_NOERROR));
      case "known-address":
        return localAnswer(stubResponse(query, [{ type: "PTR", name: decision.name }]));
      case "proxy-addresses":
        return this.#resolveAddress(query, query.name ?? "", decision.matching);
      case "resolve-in-site":
      case "recurse":
        return decision;
    }
  }

  /** Decides by the table of tunnel-core §11.5; changes nothing. */
  decide(query: Pick<DnsQuery, "name" | "type" | "class">): StubDecision {
    const { name } = query;
    if (name === undefined) return { kind: "recurse" };
    if (name === CANARY_NAME) return { kind: "no-such-name" };
    if (query.class !== CLASS_IN) return { kind: "recurse" };
    if (query.type === TYPE_PTR) return this.#decideReverse(name);

    const matching = this.#matching(name);
    const mostSpecific = matching[0];
    if (mostSpecific === undefined) return { kind: "recurse" };

    switch (query.type) {
      case TYPE_A:
      case TYPE_AAAA:
        return { kind: "proxy-addresses", matching };
      case TYPE_HTTPS:
        return { kind: "no-data" };
      case TYPE_SRV:
      case TYPE_TXT:
        return { kind: "resolve-in-site", resource: mostSpecific.id };
      default:
        return { kind: "recurse" };
    }
  }

  /** The addresses that stand for a name; undefined: nobody has asked for it yet. */
  proxyIpsOf(name: string): ProxyIps | undefined {
    return this.#names.get(name);
  }

  #decideReverse(name: string): StubDecision {
    const address = addressOfReverseName(name);
    const known = address === undefined ? undefined : this.#nameOfProxy.get(address);
    return known === undefined ? { kind: "recurse" } : { kind: "known-address", name: known };
  }

  #resolveAddress(query: DnsQuery, name: string, matching: readonly StubResource[]): StubVerdict {
    const known = this.#names.get(name) ?? this.#addName(name, this.#allocator.allocate());
    const assigned: Assignment[] = [];
    for (const resource of matching) {
      const isNew = this.#claim(name, { resource: resource.id, pattern: resource.pattern.text });
      if (isNew) assigned.push(assignmentOf(name, known, resource));
    }

    const type = query.type === TYPE_A ? "A" : "AAAA";
    const supported = matching.some((resource) => supports(resource.ipStack, type === "A" ? "v4" : "v6"));
    const addresses = supported ? (type === "A" ? known.ipv4 : known.ipv6) : [];
    const records: StubRecord[] = addresses.map((address) => ({ type, address }));
    return { kind: "answer", response: stubResponse(query, records), assigned };
  }

  /** Most specific first; of equal patterns the highest id. */
  #matching(name: string): StubResource[] {
    const found: StubResource[] = [];
    for (const id of this.#exact.get(name) ?? []) {
      const resource = this.#resources.get(id);
      if (resource !== undefined) found.push(resource);
    }
    for (const resource of this.#wildcards.values()) {
      if (matches(resource.pattern, name)) found.push(resource);
    }
    return found.sort((a, b) => comparePatterns(a.pattern, b.pattern) || (a.id < b.id ? 1 : -1));
  }

  #addName(name: string, proxyIps: ProxyIps): KnownName {
    const known = { ...proxyIps, claims: new Map<ResourceId, string>() };
    this.#names.set(name, known);
    for (const address of [...proxyIps.ipv4, ...proxyIps.ipv6]) this.#nameOfProxy.set(address, name);
    return known;
  }

  /** True if this claim was not known. */
  #claim(name: string, claim: Claim): boolean {
    const known = this.#names.get(name);
    if (known === undefined || known.claims.get(claim.resource) === claim.pattern) return false;

    known.claims.set(claim.resource, claim.pattern);
    const names = this.#namesClaimed.get(claim.resource) ?? new Set<string>();
    this.#namesClaimed.set(claim.resource, names.add(name));
    return true;
  }

  #forgetOtherPatterns({ id, pattern }: StubResource): void {
    for (const name of [...(this.#namesClaimed.get(id) ?? [])]) {
      const known = this.#names.get(name);
      if (known?.claims.get(id) === pattern.text) continue;
      known?.claims.delete(id);
      this.#namesClaimed.get(id)?.delete(name);
    }
  }
}

/** Whether a resource of that stack is reached over the family. */
export function supports(ipStack: IpStack, family: "v4" | "v6"): boolean {
  return ipStack === "dual" || (ipStack === "ipv4_only") === (family === "v4");
}

function assignmentOf(name: string, known: ProxyIps, resource: StubResource): Assignment {
  const proxyIps = [
    ...(supports(resource.ipStack, "v4") ? known.ipv4 : []),
    ...(supports(resource.ipStack, "v6") ? known.ipv6 : []),
  ];
  return { name, resource: resource.id, pattern: resource.pattern, proxyIps };
}

function localAnswer(response: Uint8Array): StubVerdict {
  return { kind: "answer", response, assigned: [] };
}
