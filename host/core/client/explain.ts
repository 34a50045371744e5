import { contains, type IpAddress, isIpv4 } from "../address.ts";
import type { Connectivity } from "../connection/connectivity.ts";
import { CLASS_IN, TYPE_A } from "../dns/message.ts";
import { normalizeName } from "../dns/name.ts";
import { type Upstream, upstreamText } from "../dns/sentinels.ts";
import { type StubDecision, type StubResolver, supports } from "../dns/stub-resolver.ts";
import {
  type ExplainedReason,
  type ExplainedResource,
  type ExplainedVerdict,
  type Explanation,
  type Question,
  subjectOf,
} from "../explanation.ts";
import type { ResourceId } from "../id.ts";
import { destinationIdentity } from "../packet/ip-packet.ts";
import type { Identity, PacketCore } from "../packet-core.ts";
import { age, explainedPeer } from "../peer-status.ts";
import type { Instant } from "../time.ts";
import type { Access } from "./access.ts";
import type { ClientDns } from "./dns.ts";
import type { NameOutlook } from "./dns-resource-nat.ts";
import type { Outbound, RouteDecision } from "./outbound.ts";
import type { Reports } from "./reports.ts";
import type { ClientResources } from "./resources.ts";
import type { ClientRoutes, Route } from "./routing.ts";
import type { SiteStatuses } from "./site-status.ts";

export interface ClientExplainParts {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
  readonly routes: ClientRoutes;
  readonly resources: ClientResources;
  readonly access: Access;
  readonly dns: ClientDns;
  readonly stub: StubResolver;
  readonly statuses: SiteStatuses;
  readonly outbound: Outbound;
  readonly reports: Reports;
}

type Finding = Omit<Explanation, "role" | "question">;

/**
 * Says what `Outbound` would do with a packet, by asking the functions that it asks. For a name: with a packet
 * that follows a lookup of the name. Sends nothing and changes nothing.
 */
export function explainOnClient(parts: ClientExplainParts, question: Question, now: Instant): Explanation {
  const finding =
    question.to.kind === "name"
      ? explainName(parts, question, question.to.name, now)
      : explainAddress(parts, question, question.to.address, now);
  return { role: "client", question, ...finding };
}

function explainAddress(
  parts: ClientExplainParts,
  question: Question,
  address: IpAddress,
  now: Instant,
): Finding {
  const { outbound, reports } = parts;
  const own = outbound.addresses;
  if (own === undefined) return { verdict: "dropped", reason: "unconfigured", destination: address };

  const packet = subjectOf(question, isIpv4(address) ? own.ipv4 : own.ipv6, address);
  const decision = outbound.decide(packet, "peek");
  const destination = address;
  if (decision.kind === "dns") {
    const listener = parts.dns.listenerOf(packet);
    if (listener.kind === "dropped") return { verdict: "dropped", reason: listener.reason, destination };
    const upstream = wayTo(parts.dns, listener.upstream);
    return { verdict: "answered", reason: "dns-server", destination, upstream };
  }
  // The device gets no packet that the system routes elsewhere.
  const isRouted = reports.config()?.routes.some((network) => contains(network, address)) ?? false;
  if (decision.kind === "drop" && decision.reason === "unknown-resource" && !isRouted) {
    return { verdict: "outside", reason: "not-routed", destination };
  }
  const identity = destinationIdentity(packet);
  return { destination, ...explainDecision(parts, decision, { identity, when: "now" }, now) };
}

function wayTo(dns: ClientDns, upstream: Upstream): NonNullable<Explanation["upstream"]> {
  const via = dns.serverInTunnel(upstream) === undefined ? "host" : "tunnel";
  return { server: upstreamText(upstream), via };
}

function explainName(parts: ClientExplainParts, question: Question, asked: string, now: Instant): Finding {
  const { outbound, dns, stub, routes, resources } = parts;
  const name = normalizeName(asked);
  if (outbound.addresses === undefined) return { verdict: "dropped", reason: "unconfigured", name };
  const [server] = dns.mapping;
  if (server === undefined) return { verdict: "outside", reason: "dns-not-ours", name };

  const decision = stub.decide({ name, type: TYPE_A, class: CLASS_IN });
  if (decision.kind === "no-such-name") return { verdict: "refused", reason: "no-such-name", name };
  if (decision.kind !== "proxy-addresses") {
    const upstream = wayTo(dns, server.upstream);
    return { verdict: "outside", reason: "name-not-ours", name, upstream };
  }

  const family = familyOf(decision);
  const destination = stub.proxyIpsOf(name)?.[family === "v4" ? "ipv4" : "ipv6"][0];
  const claims = decision.matching
    .filter(({ ipStack }) => supports(ipStack, family))
    .map(({ id, pattern }) => ({ resource: id, pattern, filter: resources.filterOf(id) }));
  const { ipv4, ipv6 } = outbound.addresses;
  const source = family === "v4" ? ipv4 : ipv6;
  const identity = destinationIdentity(subjectOf(question, source, destination ?? source));
  const routed = outbound.decideRoute(routes.routeOfName(name, claims, identity), identity);
  return { name, destination, ...explainDecision(parts, routed, { identity, when: "after-lookup" }, now) };
}

/** IPv4, unless all resources that claim the name are reached over IPv6 only. */
function familyOf({ matching }: Extract<StubDecision, { kind: "proxy-addresses" }>): "v4" | "v6" {
  return matching.some(({ ipStack }) => supports(ipStack, "v4")) ? "v4" : "v6";
}

function explainDecision(
  parts: ClientExplainParts,
  decision: RouteDecision,
  { identity, when }: { readonly identity: Identity; readonly when: "now" | "after-lookup" },
  now: Instant,
): Finding {
  if (decision.kind === "drop") return { verdict: "dropped", reason: decision.reason };

  const { route } = decision;
  const about = route === undefined ? {} : aboutRoute(parts, route, identity);
  switch (decision.kind) {
    case "prohibit":
      return { verdict: "refused", reason: "filter", ...about };
    case "request":
      return { verdict: "waits", ...about, ...explainRequest(parts, decision.route.resource, now) };
    case "send": {
      const peer = explainedPeer(parts.connectivity, { id: decision.gateway.id, name: undefined }, now);
      const name =
        route?.kind === "dns" ? parts.access.nameOutlook(decision.gateway, route, when) : undefined;
      return { ...explainSend(parts.access, decision, name), ...about, peer };
    }
  }
}

function explainRequest(
  { access, resources, statuses }: ClientExplainParts,
  resource: ResourceId,
  now: Instant,
): Pick<Explanation, "reason" | "refusal" | "requestedAgoMs"> {
  const { requestedAt, refusal } = access.requestOf(resource);
  const isOffline = statuses.of(resources.get(resource)?.sites ?? []) === "offline";
  const isRefused = refusal !== undefined && refusal.reason !== "offline";
  const asked = requestedAt === undefined ? "access-not-requested" : "access-requested";
  return {
    reason: isOffline ? "site-offline" : isRefused ? "access-refused" : asked,
    requestedAgoMs: age(requestedAt, now),
    refusal:
      refusal === undefined
        ? undefined
        : {
            reason: refusal.reason,
            violatedProperties: refusal.violatedProperties,
            agoMs: age(refusal.at, now) ?? 0,
          },
  };
}

function explainSend(
  access: Access,
  { gateway, route }: Extract<RouteDecision, { kind: "send" }>,
  name: NameOutlook | undefined,
): { readonly verdict: ExplainedVerdict; readonly reason: ExplainedReason } {
  const isFailed = name?.known === "failed";
  if (name?.traffic === "hold") {
    const state = name.known === "unannounced" ? "name-not-announced" : "name-being-announced";
    return { verdict: "waits", reason: isFailed ? "name-not-resolved-in-site" : state };
  }
  switch (access.readiness(gateway)) {
    case "connecting":
      return { verdict: "waits", reason: "gateway-connecting" };
    case "queued":
      return { verdict: "waits", reason: "packets-ahead" };
    case "ready":
      if (route === undefined) return { verdict: "passes", reason: "peer-address" };
      return {
        verdict: "passes",
        reason: isFailed ? "name-not-resolved-in-site" : "permitted",
      };
  }
}

function aboutRoute(
  { core, resources, statuses }: ClientExplainParts,
  route: Route,
  identity: Identity,
): Pick<Explanation, "name" | "resource" | "rule"> {
  const rule = core.permittedBy(route.filter, identity);
  const resource = explainedResource(resources, statuses, route.resource);
  return route.kind === "dns" ? { name: route.name, resource, rule } : { resource, rule };
}

function explainedResource(
  resources: ClientResources,
  statuses: SiteStatuses,
  id: ResourceId,
): ExplainedResource | undefined {
  const resource = resources.get(id);
  if (resource === undefined) return undefined;
  const { kind, name, address, sites, status } = resources.viewOf(resource, statuses);
  const filters = resource.kind === "internet" ? [] : resource.filters;
  return { id, kind, name, address, filters, sites: sites.map((site) => site.name), status };
}
