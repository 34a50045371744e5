import type { ExplainedReason, ExplainedVerdict, Explanation, Question } from "../core/explanation.ts";
import type { FilterRule } from "../core/packet-core.ts";
import { durationText, table } from "./table.ts";

/** For people: the verdict in one sentence, then what it rests on. */
export function explanationText(explanation: Explanation): string {
  return `${headline(explanation)}\n${table(details(explanation), "  ")}`;
}

/** `tcp port 8080 to 10.20.0.100: refused. No rule of the resource permits it.` */
export function headline({ question, verdict, reason, role }: Explanation): string {
  const said = REASONS[reason];
  const why = typeof said === "string" ? said : said[role];
  return `${questionText(question)}: ${VERDICTS[verdict]}. ${why}`;
}

function questionText({ to, protocol, port, from }: Question): string {
  const target = to.kind === "name" ? to.name : to.address;
  const what = protocol === "icmp" ? `ping of ${target}` : `${protocol} port ${port} of ${target}`;
  return from === undefined ? what : `${what} from ${from}`;
}

function details(explanation: Explanation): string[][] {
  const { resource, rule, peer, refusal, upstream, question } = explanation;
  const askedByName = question.to.kind === "name";
  return rows([
    ["name", askedByName ? undefined : explanation.name],
    ["address", askedByName ? explanation.destination : undefined],
    ["sent on to", explanation.translatedTo],
    [
      "resource",
      resource && `${resource.name} (${resource.kind}${resource.address ? ` ${resource.address}` : ""})`,
    ],
    ["permits", resource && (resource.filters.map(ruleText).join(", ") || "everything")],
    ["rule", rule && (rule === "any" ? "none needed" : ruleText(rule))],
    ["site", resource && (resource.sites.join(", ") || undefined)],
    ["site is", resource?.status],
    [
      explanation.role === "client" ? "gateway" : "client",
      peer && (peer.name ? `${peer.name} (${peer.id})` : peer.id),
    ],
    ["connection", peer?.state],
    ["path", peer?.path],
    ["asked", ago(explanation.requestedAgoMs)],
    [
      "portal said",
      refusal && [refusal.reason, ...refusal.violatedProperties, ago(refusal.agoMs)].join(", "),
    ],
    [
      "grant ends",
      explanation.expiresInMs === undefined ? undefined : `in ${durationText(explanation.expiresInMs)}`,
    ],
    ["DNS server", upstream && `${upstream.server}, ${VIA[upstream.via]}`],
  ]);
}

function rows(candidates: readonly (readonly [string, string | undefined])[]): string[][] {
  return candidates.flatMap(([label, value]) =>
    value === undefined || value === "" ? [] : [[label, value]],
  );
}

export function ruleText({ kind, firstPort, lastPort }: FilterRule): string {
  if (kind === "icmp") return "icmp";
  if (firstPort === lastPort) return `${kind} ${firstPort}`;
  return firstPort === 0 && lastPort === 65535 ? kind : `${kind} ${firstPort}-${lastPort}`;
}

function ago(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : `${durationText(ms)} ago`;
}

const VIA = { tunnel: "through the tunnel", host: "by the host's own network" } as const;

const VERDICTS: Readonly<Record<ExplainedVerdict, string>> = {
  passes: "passes",
  waits: "waits",
  refused: "refused",
  dropped: "dropped",
  answered: "answered here",
  outside: "not a matter of the tunnel",
};

const REASONS: Readonly<
  Record<ExplainedReason, string | { readonly client: string; readonly gateway: string }>
> = {
  permitted: {
    client: "A resource covers it, and a gateway is connected.",
    gateway: "The client is granted a resource that covers it.",
  },
  "peer-address": {
    client: "It is the gateway's own address.",
    gateway: "It is this gateway's own address.",
  },
  "name-not-resolved-in-site": "The gateway could not resolve the name; the next lookup makes it try again.",
  "access-not-requested": "Nobody has asked the portal for access yet; the first packet will.",
  "access-requested": "The portal was asked for access and has not answered yet.",
  "access-refused": "The portal refused access; the next packet asks again.",
  "site-offline": "The portal says that no gateway of the site is online; the next packet asks again.",
  "gateway-connecting": "Access is granted; the connection to the gateway is being made.",
  "packets-ahead": "Packets before it wait for the gateway.",
  "name-being-announced": "The gateway was asked to resolve the name and has not confirmed yet.",
  filter: "A resource covers it, but none of its rules permits it.",
  "no-grant": "No resource that the client is granted covers it.",
  "not-internet": "The client is granted the internet resource, which does not lead to private networks.",
  "tunnel-address": "Clients do not reach each other's tunnel addresses.",
  "foreign-source": "The source is not the client's own tunnel address.",
  "name-without-address": "The name has no address of that family in this network.",
  "name-not-announced": {
    client: "The gateway does not know the name yet; the lookup makes it resolve the name.",
    gateway: "A granted resource covers the name, but the client has not looked it up.",
  },
  "name-not-granted": "No resource that the client is granted covers the name.",
  "no-such-name": "Our DNS server says that the name does not exist, whatever the world says.",
  "dns-server": "Our DNS server listens there.",
  "not-routed": "No resource covers the address: the host's own network carries it.",
  "name-not-ours": "No resource covers the name: it is looked up elsewhere, and its address decides.",
  "dns-not-ours": "No DNS server is known to stand in for, so names are looked up without us.",
  "unknown-client": "There is no such client here (--from takes an id, an actor's name or a tunnel address).",
  "ambiguous-client": "Several clients fit; tell them apart by id: --from.",

  malformed: "It is no IP packet.",
  "not-tunnel-source": "Its source is not our tunnel address.",
  "packet-to-self": "It is our own tunnel address.",
  multicast: "Multicast is not tunnelled.",
  "unknown-resource": "It is routed into the tunnel, but no resource covers it.",
  "unsupported-protocol": "Nothing handles that protocol there.",
  "not-connected": "There is no connection.",
  "not-a-peer": "Nobody has that address.",
  "not-allowed": "Policy does not allow it.",
  "nat-expired": "Its translation has expired.",
  "nat-exhausted": "There is no room for another translation.",
  "outbound-icmp-error": "ICMP errors do not leave the client.",
  "unmapped-sentinel": "No DNS server listens at that address.",
  "bad-dns-message": "It is no DNS query.",
  "unknown-control-frame": "It is an unknown control frame.",
  unconfigured: "The portal has not configured us yet.",
  "buffer-full": "There is no room to keep it.",
  "not-wireguard": "It is not WireGuard.",
  "unknown-sender": "Its sender is unknown.",
  "bad-handshake": "Its handshake is not valid.",
  "stun-unmatched": "It answers nothing that was asked.",
  "stun-bad-integrity": "Its integrity is not valid.",
};
