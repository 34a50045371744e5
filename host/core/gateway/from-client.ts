import { type IpAddress, isProxyAddress, isTunnelAddress } from "../address.ts";
import { type Disposition, drop } from "../drop.ts";
import type { GatewayInterface } from "../messages.ts";
import { netUnreachable, prohibited } from "../packet/icmp-error.ts";
import { destinationIdentity, flowKeyOf, type IpPacket } from "../packet/ip-packet.ts";
import type { NatTuple, PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { ClientOnGateway } from "./client-on-gateway.ts";

/** What packets are judged against besides the client's own state. */
export interface Site {
  readonly core: PacketCore;
  /** The gateway's own TUN addresses. */
  readonly interface: GatewayInterface;
}

/**
 * Decides about a packet from a client that is neither a control frame nor an ICMP error
 * (tunnel-core §13.5 from step 5), and installs its flow if it may pass.
 */
export function admitFromClient(
  site: Site,
  client: ClientOnGateway,
  packet: IpPacket,
  now: Instant,
): Disposition {
  const answer = (error: typeof prohibited) => reply(site.core, client, error(packet.bytes), now);

  if (!client.owns(packet.source)) return answer(prohibited);
  if (isOwn(site.interface, packet.destination)) return pass(site.core, client, packet, now);
  if (isTunnelAddress(packet.destination)) return answer(prohibited);

  switch (client.classify(packet.destination, destinationIdentity(packet))) {
    case "not-allowed":
      return answer(prohibited);
    case "unreachable":
      return answer(netUnreachable);
    case "allowed":
  }
  if (!isProxyAddress(packet.destination)) return pass(site.core, client, packet, now);

  const real = client.translations.get(packet.destination)?.real;
  return real === undefined ? answer(netUnreachable) : translate(site, client, packet, real, now);
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
  packet: IpPacket,
  real: IpAddress,
  now: Instant,
): Disposition {
  const { kind, sourcePort, destination } = packet;
  if (kind === "icmp" || kind === "other") return drop("unsupported-protocol");

  const { peer } = client;
  const inside = { kind, port: sourcePort, ip: destination };
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
