import type { IpAddress } from "../../core/address.ts";
import type { ResourceId, SiteId } from "../../core/id.ts";
import type { Resource, Site } from "../../core/policy/resource.ts";

export interface Account {
  /** UUID; the ids of everything else follow from it. */
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly dns: {
    readonly searchDomain: string | undefined;
    /** Empty: clients use their system's resolvers. */
    readonly servers: readonly IpAddress[];
    readonly dohUrls: readonly string[];
  };
}

export interface Actor {
  readonly id: string;
  readonly kind: "user" | "admin" | "service";
  readonly name: string;
  readonly email: string | undefined;
  readonly isEnabled: boolean;
}

export interface Group {
  readonly id: string;
  readonly name: string;
  /** Ids of actors. */
  readonly members: ReadonlySet<string>;
}

/** Members of a group may reach a resource. */
export interface Policy {
  readonly id: string;
  readonly group: Group;
  readonly resourceId: ResourceId;
  readonly isEnabled: boolean;
}

/** Where the portal listens. */
export interface Listen {
  readonly host: string;
  readonly port: number;
  /** Paths of PEM files; undefined: plain HTTP. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** Plain HTTP is wanted although others can reach the socket. */
  readonly isPlainAllowed: boolean;
}

/** Everything that the configuration file says, validated. References are resolved. */
export interface Configuration {
  readonly account: Account;
  readonly listen: Listen;
  /** As written, relative to the configuration file. */
  readonly tokensPath: string;
  /** By id. */
  readonly actors: ReadonlyMap<string, Actor>;
  readonly groups: readonly Group[];
  readonly sites: ReadonlyMap<SiteId, Site>;
  readonly resources: ReadonlyMap<ResourceId, Resource>;
  readonly policies: readonly Policy[];
}

/** Users and admins belong to it without being listed, service accounts never do (portal §13.1). */
export const EVERYONE = "Everyone";

/** Resources that the actor may use now, with the policy that says so (portal §13.1). */
export function grantedPolicies(configuration: Configuration, actorId: string): Map<ResourceId, Policy> {
  const granted = new Map<ResourceId, Policy>();
  if (configuration.actors.get(actorId)?.isEnabled !== true) return granted;
  for (const policy of configuration.policies) {
    if (!policy.isEnabled || !policy.group.members.has(actorId)) continue;
    if (!granted.has(policy.resourceId)) granted.set(policy.resourceId, policy);
  }
  return granted;
}

export function siteOf(resource: Resource): Site {
  const site = resource.sites[0];
  if (site === undefined) throw new Error("a configured resource has a site");
  return site;
}
