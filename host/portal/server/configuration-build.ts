import type { IpAddress } from "../../core/address.ts";
import type { ResourceId, SiteId } from "../../core/id.ts";
import type { FilterRule } from "../../core/packet-core.ts";
import type { Resource, Site } from "../../core/policy/resource.ts";
import { parseUuid } from "../fields.ts";
import type { KeyPath, Problems } from "./configuration.ts";
import {
  checkHost,
  checkName,
  checkNetwork,
  checkPattern,
  checkPorts,
  checkServer,
  checkSlug,
  isLoopbackHost,
  nearest,
  overlapping,
} from "./configuration-rules.ts";
import type { ConfigurationFile, FileFilter, FileResource } from "./configuration-schema.ts";
import { namedId } from "./derivations.ts";
import {
  type Account,
  type Actor,
  type Configuration,
  EVERYONE,
  type Group,
  type Listen,
  type Policy,
} from "./model.ts";

const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_PORT = 8081;
const DEFAULT_TOKENS_PATH = "tokens.json";
const MAX_SITE_NAME = 64;
const MAX_SERVERS = 8;
/** Namespace of account ids that follow from the slug. */
const SLUG_NAMESPACE = "5b1e6f8a-7c0d-4f4e-9a55-c1a7c0de0001";

// portal §6.1
const DOH_URLS: Readonly<Record<"google" | "quad9" | "cloudflare" | "opendns", string>> = {
  google: "https://dns.google/dns-query",
  quad9: "https://dns.quad9.net/dns-query",
  cloudflare: "https://cloudflare-dns.com/dns-query",
  opendns: "https://doh.opendns.com/dns-query",
};

/**
 * Turns a file of the right shape into a configuration: checks values, resolves references, gives ids.
 * The result is to be used only if no problem was added.
 */
export function buildConfiguration(file: ConfigurationFile, problems: Problems): Configuration {
  const account = buildAccount(file.account, problems);
  const names = new Names(account.id, problems);
  const actors = buildActors(file, names);
  const groups = buildGroups(file, actors, names);
  const sites = buildSites(file, names);
  const resources = buildResources(file, sites, names);
  return {
    account,
    listen: buildListen(file, problems),
    tokensPath: file.storage?.tokens ?? DEFAULT_TOKENS_PATH,
    actors: new Map([...actors.values()].map((actor) => [actor.id, actor])),
    groups: [...groups.values()],
    sites: new Map([...sites.values()].map((site) => [site.id, site])),
    resources: new Map([...resources.values()].map((resource) => [resource.id, resource])),
    policies: buildPolicies(file, groups, resources, names),
  };
}

/** Names are unique per kind, and ids follow from them. */
class Names {
  readonly problems: Problems;
  readonly #accountId: string;
  readonly #seen = new Map<string, string>();

  constructor(accountId: string, problems: Problems) {
    this.problems = problems;
    this.#accountId = accountId;
  }

  id(kind: string, name: string): string {
    return namedId(this.#accountId, kind, name);
  }

  /** Checks the name of entry `index` of a list. */
  claim(list: string, index: number, name: string, limit?: number): void {
    const path = [list, index, "name"];
    const problem = checkName(name, limit);
    if (problem !== undefined) this.problems.add(path, problem);
    this.unique(`${list}/${name}`, `${list}[${index}]`, path, `"${name}"`);
  }

  unique(key: string, holder: string, path: KeyPath, what: string): void {
    const first = this.#seen.get(key);
    if (first === undefined) this.#seen.set(key, holder);
    else this.problems.add(path, `${what} is taken by ${first}; expected another`);
  }

  /** Finds what a reference names. */
  resolve<T>(known: ReadonlyMap<string, T>, kind: string, name: string, path: KeyPath): T | undefined {
    const value = known.get(name);
    if (value === undefined) {
      const near = nearest(name, [...known.keys()]);
      const hint = near === undefined ? "" : `; did you mean "${near}"?`;
      this.problems.add(path, `no ${kind} is named "${name}"${hint}`);
    }
    return value;
  }
}

function buildAccount(file: ConfigurationFile["account"], problems: Problems): Account {
  const slugProblem = checkSlug(file.slug);
  if (slugProblem !== undefined) problems.add(["account", "slug"], slugProblem);
  const nameProblem = file.name === undefined ? undefined : checkName(file.name);
  if (nameProblem !== undefined) problems.add(["account", "name"], nameProblem);

  const id = file.id === undefined ? namedId(SLUG_NAMESPACE, "account", file.slug) : parseUuid(file.id);
  if (id === undefined)
    problems.add(["account", "id"], `"${file.id}" is not a UUID; leave it out to get one`);
  return {
    id: id ?? namedId(SLUG_NAMESPACE, "account", file.slug),
    slug: file.slug,
    name: file.name ?? file.slug,
    dns: buildDns(file.dns ?? {}, problems),
  };
}

function buildDns(
  file: NonNullable<ConfigurationFile["account"]["dns"]>,
  problems: Problems,
): Account["dns"] {
  const mode =
    file.mode ?? (file.servers !== undefined ? "custom" : file.doh !== undefined ? "secure" : "system");
  const at = (key: string) => ["account", "dns", key];
  if (mode !== "custom" && file.servers !== undefined) {
    problems.add(at("servers"), `mean nothing with mode ${mode}; expected mode custom`);
  }
  if (mode === "custom" && (file.servers ?? []).length === 0) {
    problems.add(at("servers"), "is missing; mode custom needs at least one address");
  }
  if (mode !== "secure" && file.doh !== undefined) {
    problems.add(at("doh"), `means nothing with mode ${mode}; expected mode secure`);
  }
  if (mode === "secure" && file.doh === undefined) {
    problems.add(at("doh"), "is missing; mode secure needs google, quad9, cloudflare or opendns");
  }
  if (file.search_domain !== undefined) {
    const problem = checkPattern(file.search_domain);
    const isPattern = /[*?]/.test(file.search_domain);
    if (problem !== undefined) problems.add(at("search_domain"), problem);
    else if (isPattern)
      problems.add(at("search_domain"), "has a wildcard; expected a name such as corp.example");
  }
  return {
    searchDomain: file.search_domain,
    servers: buildServers(file.servers ?? [], problems),
    dohUrls: file.doh === undefined ? [] : [DOH_URLS[file.doh]],
  };
}

function buildServers(texts: readonly string[], problems: Problems): IpAddress[] {
  const path = ["account", "dns", "servers"];
  if (texts.length > MAX_SERVERS)
    problems.add(path, `has ${texts.length} entries; expected at most ${MAX_SERVERS}`);
  const servers: IpAddress[] = [];
  for (const [i, text] of texts.entries()) {
    const checked = checkServer(text);
    if ("problem" in checked) problems.add([...path, i], checked.problem);
    else if (servers.includes(checked.value)) problems.add([...path, i], `"${text}" is listed twice`);
    else servers.push(checked.value);
  }
  return servers;
}

function buildListen(file: ConfigurationFile, problems: Problems): Listen {
  const { host = DEFAULT_HOST, port = DEFAULT_PORT, cert, key, plain = false } = file.listen?.sockets ?? {};
  const at = (name: string) => ["listen", "sockets", name];
  if (cert !== undefined && key === undefined) problems.add(at("key"), "is missing; cert needs it");
  if (key !== undefined && cert === undefined) problems.add(at("cert"), "is missing; key needs it");
  if (cert === undefined && key === undefined && !plain && !isLoopbackHost(host)) {
    const remedy = "expected cert and key, or plain: true behind a proxy or on a trusted network";
    problems.add(at("host"), `"${host}" can be reached by others without encryption; ${remedy}`);
  }
  return {
    host,
    port,
    tls: cert === undefined || key === undefined ? undefined : { cert, key },
    isPlainAllowed: plain,
  };
}

function buildActors(file: ConfigurationFile, names: Names): Map<string, Actor> {
  const actors = new Map<string, Actor>();
  for (const [i, { name, kind, email, enabled }] of (file.actors ?? []).entries()) {
    names.claim("actors", i, name);
    if (email !== undefined) {
      const path = ["actors", i, "email"];
      if (!/^\S+@\S+$/.test(email)) names.problems.add(path, `"${email}" is no mail address`);
      names.unique(`email/${email.toLowerCase()}`, `actors[${i}]`, path, `"${email}"`);
    }
    actors.set(name, { id: names.id("actor", name), kind, name, email, isEnabled: enabled ?? true });
  }
  return actors;
}

function buildGroups(
  file: ConfigurationFile,
  actors: ReadonlyMap<string, Actor>,
  names: Names,
): Map<string, Group> {
  const people = [...actors.values()].filter((actor) => actor.kind !== "service");
  const groups = new Map<string, Group>([
    [
      EVERYONE,
      { id: names.id("group", EVERYONE), name: EVERYONE, members: new Set(people.map(({ id }) => id)) },
    ],
  ]);
  for (const [i, { name, members = [] }] of (file.groups ?? []).entries()) {
    names.claim("groups", i, name);
    if (name === EVERYONE) {
      const remedy = "leave it out, it contains all users and admins";
      names.problems.add(["groups", i, "name"], `"${EVERYONE}" exists by itself; ${remedy}`);
      continue;
    }
    const ids = members.flatMap((member, j) => {
      const actor = names.resolve(actors, "actor", member, ["groups", i, "members", j]);
      return actor === undefined ? [] : [actor.id];
    });
    groups.set(name, { id: names.id("group", name), name, members: new Set(ids) });
  }
  return groups;
}

function buildSites(file: ConfigurationFile, names: Names): Map<string, Site> {
  const sites = new Map<string, Site>();
  for (const [i, { name }] of (file.sites ?? []).entries()) {
    names.claim("sites", i, name, MAX_SITE_NAME);
    sites.set(name, { id: names.id("site", name) as SiteId, name });
  }
  return sites;
}

function buildResources(
  file: ConfigurationFile,
  sites: ReadonlyMap<string, Site>,
  names: Names,
): Map<string, Resource> {
  const resources = new Map<string, Resource>();
  for (const [i, entry] of (file.resources ?? []).entries()) {
    names.claim("resources", i, entry.name);
    if (entry.type === "internet") {
      names.unique("internet", `resources[${i}]`, ["resources", i, "type"], "type internet");
    }
    const site = names.resolve(sites, "site", entry.site, ["resources", i, "site"]);
    const filters = buildFilters(entry.filters ?? [], ["resources", i, "filters"], names.problems);
    const common = {
      id: names.id("resource", entry.name) as ResourceId,
      name: entry.name,
      description: entry.description,
      filters,
      sites: site === undefined ? [] : [site],
    };
    const resource = buildResource(entry, common, ["resources", i], names.problems);
    if (resource !== undefined) resources.set(entry.name, resource);
  }
  return resources;
}

type CommonMembers = Omit<Extract<Resource, { kind: "cidr" }>, "kind" | "address">;

/** Undefined if the resource has a problem of its own. */
function buildResource(
  entry: FileResource,
  common: CommonMembers,
  path: KeyPath,
  problems: Problems,
): Resource | undefined {
  if (entry.ip_stack !== undefined && entry.type !== "dns") {
    problems.add([...path, "ip_stack"], `means nothing for type ${entry.type}; expected type dns`);
  }
  if (entry.type === "internet") {
    for (const key of ["address", "filters"] as const) {
      if (entry[key] !== undefined)
        problems.add([...path, key], "means nothing for type internet; leave it out");
    }
    return { kind: "internet", id: common.id, name: common.name, sites: common.sites };
  }
  if (entry.address === undefined) {
    problems.add([...path, "address"], `is missing; type ${entry.type} needs one`);
    return undefined;
  }
  if (entry.type === "dns") {
    const problem = checkPattern(entry.address);
    if (problem !== undefined) problems.add([...path, "address"], problem);
    return { kind: "dns", ...common, address: entry.address, ipStack: entry.ip_stack ?? "dual" };
  }
  const checked = entry.type === "cidr" ? checkNetwork(entry.address) : checkHost(entry.address);
  if ("value" in checked) return { kind: "cidr", ...common, address: checked.value };
  problems.add([...path, "address"], checked.problem);
  return undefined;
}

function buildFilters(filters: readonly FileFilter[], path: KeyPath, problems: Problems): FilterRule[] {
  const rules: FilterRule[] = [];
  const add = (rule: FilterRule, at: KeyPath, what: string) => {
    if (overlapping(rules, rule) !== undefined) problems.add(at, `${what} is covered twice for ${rule.kind}`);
    else rules.push(rule);
  };
  for (const [i, { protocol, ports = [] }] of filters.entries()) {
    if (protocol === "icmp") {
      if (ports.length > 0) problems.add([...path, i, "ports"], "means nothing for icmp; leave it out");
      add({ kind: "icmp", firstPort: 0, lastPort: 0 }, [...path, i], "icmp");
      continue;
    }
    if (ports.length === 0)
      add({ kind: protocol, firstPort: 0, lastPort: 65535 }, [...path, i], "every port");
    for (const [j, entry] of ports.entries()) {
      const at = [...path, i, "ports", j];
      const checked = checkPorts(entry);
      if ("problem" in checked) problems.add(at, checked.problem);
      else
        add(
          { kind: protocol, firstPort: checked.value.first, lastPort: checked.value.last },
          at,
          `"${entry}"`,
        );
    }
  }
  return rules;
}

function buildPolicies(
  file: ConfigurationFile,
  groups: ReadonlyMap<string, Group>,
  resources: ReadonlyMap<string, Resource>,
  names: Names,
): Policy[] {
  // A resource that is wrong in itself is reported once, not again by every policy that names it.
  const named = new Map((file.resources ?? []).map(({ name }) => [name, resources.get(name)]));
  const policies: Policy[] = [];
  for (const [i, entry] of (file.policies ?? []).entries()) {
    const group = names.resolve(groups, "group", entry.group, ["policies", i, "group"]);
    if (!named.has(entry.resource)) {
      names.resolve(resources, "resource", entry.resource, ["policies", i, "resource"]);
    }
    const resource = resources.get(entry.resource);
    const key = `${entry.group}\u0000${entry.resource}`;
    names.unique(`policy/${key}`, `policies[${i}]`, ["policies", i], "this group and resource");
    if (group === undefined || resource === undefined) continue;
    policies.push({
      id: names.id("policy", key),
      group,
      resourceId: resource.id,
      isEnabled: entry.enabled ?? true,
    });
  }
  return policies;
}
