import { type IpAddress, isMulticast, isProxyAddress, isTunnelAddress } from "../address.ts";
import { type Disposition, type DropReason, drop } from "../drop.ts";
import type { GatewayInterface } from "../messages.ts";
import { netUnreachable, prohibited } from "../packet/icmp-error.ts";
import { destinationIdentity, flowKeyOf, type IpPacket, type PacketSubject } from "../packet/ip-packet.ts";
import type { NatTuple, PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { ClientOnGateway, Judgement } from "./client-on-gateway.ts";

/** What packets are judged against besides the client's own state. */
export interface Site {
  readonly core: PacketCore;
  /** The gateway's own TUN addresses. */
  readonly interface: GatewayInterface;
}

/** What becomes of a packet from a client. The judgement is missing where no resource is concerned. */
export type FromClientDecision =
  | { readonly kind: "drop"; readonly reason: DropReason; readonly judgement?: Judgement }
  /** Answered with an ICMP error. */
  | {
      readonly kind: "refuse";
      readonly answer: "prohibited" | "net-unreachable";
      readonly reason: "foreign-source" | "tunnel-address" | "policy" | "name-without-address";
      readonly judgement?: Judgement;
    }
  | { readonly kind: "pass"; readonly judgement?: Judgement }
  | {
      readonly kind: "translate";
      readonly inside: NatTuple;
      readonly real: IpAddress;
      readonly judgement: Judgement;
    };

/**
 * Decides about a packet from a client that is neither a control frame nor an ICMP error (tunnel-core §13.5).
 * Changes nothing; `find` also leaves the memory of matches alone.
 */
export function decideFromClient(
  own: GatewayInterface,
  client: ClientOnGateway,
  packet: PacketSubject,
  search: "best" | "find",
): FromClientDecision {
  const { destination } = packet;
  if (isMulticast(destination)) return { kind: "drop", reason: "multicast" };
  if (!client.owns(packet.source)) {
    return { kind: "refuse", answer: "prohibited", reason: "foreign-source" };
  }
  if (isOwn(own, destination)) return { kind: "pass" };
  if (isTunnelAddress(destination)) {
    return { kind: "refuse", answer: "prohibited", reason: "tunnel-address" };
  }
  const judgement = client.judge(destination, destinationIdentity(packet), search);
  switch (judgement.verdict) {
    case "not-allowed":
      return { kind: "refuse", answer: "prohibited", reason: "policy", judgement };
    case "unreachable":
      return { kind: "refuse", answer: "net-unreachable", reason: "policy", judgement };
    case "allowed":
      return isProxyAddress(destination)
        ? decideProxy(client, packet, judgement)
        : { kind: "pass", judgement };
  }
}

function decideProxy(
  client: ClientOnGateway,
  { kind, sourcePort, destination }: PacketSubject,
  judgement: Judgement,
): FromClientDecision {
  const real = client.translations.get(destination)?.real;
  if (real === undefined) {
    return { kind: "refuse", answer: "net-unreachable", reason: "name-without-address", judgement };
  }
  if (kind === "icmp" || kind === "other") return { kind: "drop", reason: "unsupported-protocol", judgement };
  return { kind: "translate", inside: { kind, port: sourcePort, ip: destination }, real, judgement };
}

/**
 * Carries out `decideFromClient`, and installs its flow if it may pass.
 */
export function admitFromClient(
  site: Site,
  client: ClientOnGateway,
  packet: IpPacket,
  now: Instant,
): Disposition {
  const decision = decideFromClient(site.interface, client, packet, "best");
  switch (decision.kind) {
    case "drop":
      return drop(decision.reason);
    case "refuse": {
      const error = decision.answer === "prohibited" ? prohibited : netUnreachable;
      return reply(site.core, client, error(packet.bytes), now);
    }
    case "pass":
      return pass(site.core, client, packet, now);
    case "translate":
      return translate(site, client, { packet, ...decision }, now);
  }
}

export function isOwn(gateway: GatewayInterface, ip: IpAddress): boolean {
  return ip === gateway.ipv4 || ip === gateway.ipv6;
}

function pass(core: PacketCore, client: ClientOnGateway, packet: IpPacket, now: Instant): Disposition {
  if (packet.kind === "icmp") {
    // Has no flow, since ICMP other than echo takes the slow path each time.
    core.writeTun(packet.bytes);
    return "consumed";
  }
  core.addFlow(flowKeyOf(packet, client.peer), client.peer, undefined, now);
  return "forward";
}

function translate(
  { core, interface: own }: Site,
  client: ClientOnGateway,
  {
    packet,
    inside,
    real,
  }: { readonly packet: IpPacket; readonly inside: NatTuple; readonly real: IpAddress },
  now: Instant,
): Disposition {
  const { peer } = client;
  const nat = core.natOutgoing(peer, inside, real, now);
  if (nat === undefined) return drop("nat-exhausted");

  const { entry, outside } = nat;
  const outgoing = { address: outside.ip, port: outside.port, natEntry: entry };
  core.addFlow(flowKeyOf(packet, peer), peer, { direction: "outgoing", ...outgoing }, now);
  // The way back is known as well. It must be installed now: a flow of a CIDR resource with the same
  // addresses and ports may be there already, and the NAT entry comes first (tunnel-core §13.2).
  if (!isOwn(own, outside.ip)) {
    const incoming = { address: inside.ip, port: inside.port, natEntry: entry };
    core.addFlow(replyKey(packet, outside), peer, { direction: "incoming", ...incoming }, now);
  }
  return "forward";
}

function replyKey(packet: IpPacket, outside: NatTuple) {
  const isEcho = outside.kind === "echo";
  return {
    from: "tun" as const,
    source: outside.ip,
    destination: packet.source,
    protocol: packet.protocol,
    sourcePort: isEcho ? outside.port : packet.destinationPort,
    destinationPort: isEcho ? 0 : outside.port,
  };
}

function reply(
  core: PacketCore,
  client: ClientOnGateway,
  error: Uint8Array | undefined,
  now: Instant,
): Disposition {
  if (error === undefined) return drop("malformed");
  core.seal(client.peer, error, now);
  return "consumed";
}
