import type { IpAddress } from "./address.ts";
import type { DropReason } from "./drop.ts";
import type { NodeId, ResourceId } from "./id.ts";
import {
  type PacketSubject,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "./packet/ip-packet.ts";
import type { FilterRule } from "./packet-core.ts";
import type { Resource } from "./policy/resource.ts";

/** Asks what would become of the first packet of a flow. Crosses threads and processes: plain data only. */
export interface Question {
  readonly to:
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "address"; readonly address: IpAddress };
  /** `icmp` is a ping. */
  readonly protocol: "tcp" | "udp" | "icmp";
  /** Towards the destination; 0 for icmp. */
  readonly port: number;
  /** On a gateway, whose packet: id, actor name or tunnel address. Undefined: the only client there is. */
  readonly from: string | undefined;
}

/**
 * What would become of it here. `waits`: held until the reason is gone. `refused`: the sender is told, by an ICMP
 * error or a DNS answer. `dropped`: in silence. `answered`: by our DNS server. `outside`: not a matter of the tunnel.
 */
export type ExplainedVerdict = "passes" | "waits" | "refused" | "dropped" | "answered" | "outside";

export type ExplainedReason =
  | DropReason
  // passes
  | "permitted"
  | "peer-address"
  | "name-not-resolved-in-site"
  // waits
  | "access-not-requested"
  | "access-requested"
  | "access-refused"
  | "site-offline"
  | "gateway-connecting"
  | "packets-ahead"
  | "name-being-announced"
  // refused
  | "filter"
  | "no-grant"
  | "not-internet"
  | "tunnel-address"
  | "foreign-source"
  | "name-without-address"
  | "name-not-announced"
  | "name-not-granted"
  | "no-such-name"
  // answered
  | "dns-server"
  // outside
  | "not-routed"
  | "name-not-ours"
  | "dns-not-ours"
  // nothing to ask about
  | "unknown-client"
  | "ambiguous-client";

export interface ExplainedResource {
  readonly id: ResourceId;
  readonly kind: Resource["kind"];
  readonly name: string;
  /** Pattern or network; undefined for the internet resource. */
  readonly address: string | undefined;
  /** Empty: everything is permitted. */
  readonly filters: readonly FilterRule[];
  readonly sites: readonly string[];
  /** Only on a client. */
  readonly status: "unknown" | "online" | "offline" | undefined;
}

export interface Explanation {
  readonly role: "client" | "gateway";
  readonly question: Question;
  readonly verdict: ExplainedVerdict;
  readonly reason: ExplainedReason;
  /** The destination that the packet would bear: a proxy IP if one stands for the name, undefined before. */
  readonly destination?: IpAddress | undefined;
  /** The name that is asked about, or that a proxy IP stands for. */
  readonly name?: string | undefined;
  /** Where the gateway sends it on to, if that is not the destination. */
  readonly translatedTo?: IpAddress | undefined;
  /** The server that answers in our place, and how it is reached. */
  readonly upstream?: { readonly server: string; readonly via: "tunnel" | "host" } | undefined;
  readonly resource?: ExplainedResource | undefined;
  /** The rule that permits; `any`: the resource has none; undefined with a resource: none does. */
  readonly rule?: FilterRule | "any" | undefined;
  /** On a client the gateway, on a gateway the client. */
  readonly peer?: ExplainedPeer | undefined;
  /** The portal's last word on the resource, if it was a refusal. */
  readonly refusal?:
    | { readonly reason: string; readonly violatedProperties: readonly string[]; readonly agoMs: number }
    | undefined;
  readonly requestedAgoMs?: number | undefined;
  /** On a gateway, when the grant ends. */
  readonly expiresInMs?: number | undefined;
}

export interface ExplainedPeer {
  readonly id: NodeId;
  readonly name: string | undefined;
  readonly state: "connecting" | "connected" | "idle" | "gone";
  readonly path: string | undefined;
}

/** Some port from which an application might send. */
const SOURCE_PORT = 49152;

/** The packet that the question is about, as far as policy looks at it. */
export function subjectOf(
  { protocol, port }: Question,
  source: IpAddress,
  destination: IpAddress,
): PacketSubject {
  if (protocol !== "icmp") {
    const number = protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP;
    const ports = { sourcePort: SOURCE_PORT, destinationPort: port };
    return { source, destination, kind: protocol, protocol: number, ...ports };
  }
  const number = destination.includes(":") ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
  return { source, destination, kind: "echo", protocol: number, sourcePort: 1, destinationPort: 1 };
}
