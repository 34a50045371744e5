import { type IpAddress, isIpv4 } from "../address.ts";
import type { Connectivity } from "../connection/connectivity.ts";
import { normalizeName } from "../dns/name.ts";
import {
  type ExplainedReason,
  type ExplainedResource,
  type ExplainedVerdict,
  type Explanation,
  type Question,
  subjectOf,
} from "../explanation.ts";
import type { ClientId, ResourceId } from "../id.ts";
import type { GatewayInterface, GatewayResource } from "../messages.ts";
import { destinationIdentity } from "../packet/ip-packet.ts";
import type { Identity, PacketCore } from "../packet-core.ts";
import { explainedPeer, type PeerStatus, peerStatus } from "../peer-status.ts";
import { addressText } from "../policy/resource.ts";
import type { Instant } from "../time.ts";
import type { ClientOnGateway, Judgement } from "./client-on-gateway.ts";
import type { ClientTable } from "./client-table.ts";
import { decideFromClient, type FromClientDecision } from "./from-client.ts";

export interface GatewayExplainParts {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
  readonly clients: ClientTable;
  /** Undefined until the portal configured us. */
  readonly interface: GatewayInterface | undefined;
}

export interface GatewayStatus {
  readonly role: "gateway";
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
  readonly peers: readonly (PeerStatus & {
    readonly name: string | undefined;
    readonly grants: readonly GrantStatus[];
    /** Proxy IPs that the client has announced. */
    readonly proxyIps: number;
  })[];
  readonly natEntries: number;
}

export interface GrantStatus {
  readonly resource: ResourceId;
  readonly kind: GatewayResource["kind"];
  readonly name: string;
  readonly address: string | undefined;
  /** Undefined: it does not end by itself. */
  readonly expiresInMs: number | undefined;
}

type Finding = Omit<Explanation, "role" | "question">;

/**
 * Says what `admitFromClient` would do with a packet of a client, by asking the function that it asks. For a
 * name: with a packet to a proxy IP that the client announced for it. Sends nothing and changes nothing.
 */
export function explainOnGateway(parts: GatewayExplainParts, question: Question, now: Instant): Explanation {
  const asked = { role: "gateway", question } as const;
  if (parts.interface === undefined) return { ...asked, verdict: "dropped", reason: "unconfigured" };

  const client = findClient(parts.clients, question.from);
  if (typeof client === "string") return { ...asked, verdict: "dropped", reason: client };

  const peer = explainedPeer(parts.connectivity, { id: client.id, name: client.actorName }, now);
  const { to } = question;
  const about = { question, own: parts.interface, client, core: parts.core };
  const finding =
    to.kind === "name"
      ? explainName(about, normalizeName(to.name), now)
      : explainAddress(about, to.address, now);
  return { ...asked, ...finding, peer };
}

/** Changes nothing. */
export function gatewayStatus(parts: GatewayExplainParts, now: Instant): GatewayStatus {
  return {
    role: "gateway",
    ipv4: parts.interface?.ipv4,
    ipv6: parts.interface?.ipv6,
    peers: parts.clients.all().map((client) => ({
      ...peerStatus(parts, { id: client.id, peer: client.peer, ...client.addresses }, now),
      name: client.actorName,
      grants: client.resources().flatMap((id) => grantStatus(client, id, now) ?? []),
      proxyIps: client.translations.size,
    })),
    natEntries: parts.core.natCount(),
  };
}

function grantStatus(client: ClientOnGateway, id: ResourceId, now: Instant): GrantStatus | undefined {
  const grant = client.grantOf(id);
  if (grant === undefined) return undefined;
  const { kind, name } = grant.resource;
  return {
    resource: id,
    kind,
    name,
    address: addressText(grant.resource),
    expiresInMs: remaining(grant.expiresAt, now),
  };
}

interface About {
  readonly question: Question;
  readonly own: GatewayInterface;
  readonly client: ClientOnGateway;
  readonly core: PacketCore;
}

function findClient(
  clients: ClientTable,
  from: string | undefined,
): ClientOnGateway | "unknown-client" | "ambiguous-client" {
  const byId = from === undefined ? undefined : clients.byId(from as ClientId);
  if (byId !== undefined) return byId;

  const fitting = clients.all().filter((client) => {
    return from === undefined || client.actorName === from || client.owns(from as IpAddress);
  });
  const [first] = fitting;
  if (first === undefined) return "unknown-client";
  return fitting.length === 1 ? first : "ambiguous-client";
}

function explainName(about: About, name: string, now: Instant): Finding {
  const { client } = about;
  const proxyIp = client.translations.proxyIpOf(name);
  if (proxyIp !== undefined) return { ...explainAddress(about, proxyIp, now), name };

  const claimed = client.resources().find((id) => client.claims(id, name));
  if (claimed === undefined) return { verdict: "refused", reason: "name-not-granted", name };
  return { verdict: "refused", reason: "name-not-announced", name, ...aboutGrant(client, claimed, now) };
}

function explainAddress(
  { question, own, client, core }: About,
  destination: IpAddress,
  now: Instant,
): Finding {
  const source = isIpv4(destination) ? client.addresses.ipv4 : client.addresses.ipv6;
  const packet = subjectOf(question, source, destination);
  const decision = decideFromClient(own, client, packet, "find");
  const { verdict, reason } = verdictOf(decision);
  return {
    verdict,
    reason,
    destination,
    name: client.translations.get(destination)?.name,
    translatedTo: decision.kind === "translate" ? decision.real : undefined,
    ...aboutJudgement({ client, core }, decision.judgement, destinationIdentity(packet), now),
  };
}

function verdictOf(decision: FromClientDecision): {
  readonly verdict: ExplainedVerdict;
  readonly reason: ExplainedReason;
} {
  switch (decision.kind) {
    case "drop":
      return { verdict: "dropped", reason: decision.reason };
    case "refuse":
      return {
        verdict: "refused",
        reason: decision.reason === "policy" ? policyReason(decision) : decision.reason,
      };
    case "pass":
      return { verdict: "passes", reason: decision.judgement === undefined ? "peer-address" : "permitted" };
    case "translate":
      return { verdict: "passes", reason: "permitted" };
  }
}

function policyReason({ judgement }: Pick<FromClientDecision, "judgement">): ExplainedReason {
  return judgement?.verdict === "not-allowed" ? judgement.reason : "not-internet";
}

function aboutJudgement(
  { client, core }: Pick<About, "client" | "core">,
  judgement: Judgement | undefined,
  identity: Identity,
  now: Instant,
): Pick<Explanation, "resource" | "rule" | "expiresInMs"> {
  if (judgement === undefined || !("resource" in judgement)) return {};
  const rule = core.permittedBy(judgement.filter, identity);
  return { ...aboutGrant(client, judgement.resource, now), rule };
}

function aboutGrant(
  client: ClientOnGateway,
  id: ResourceId,
  now: Instant,
): Pick<Explanation, "resource" | "expiresInMs"> {
  const grant = client.grantOf(id);
  if (grant === undefined) return {};
  return { resource: explainedResource(grant.resource), expiresInMs: remaining(grant.expiresAt, now) };
}

function explainedResource(resource: GatewayResource): ExplainedResource {
  const { id, kind, name } = resource;
  const filters = resource.kind === "internet" ? [] : resource.filters;
  return { id, kind, name, address: addressText(resource), filters, sites: [], status: undefined };
}

function remaining(expiresAt: Instant | undefined, now: Instant): number | undefined {
  return expiresAt === undefined ? undefined : Math.max(0, Math.round(expiresAt - now));
}
