import { isIpv4, isProxyAddress, isTunnelAddress } from "../address.ts";
import { type Disposition, drop } from "../drop.ts";
import { type IcmpError, icmpErrorOf, translateIcmpError } from "../packet/icmp-error.ts";
import { flowKeyOf, type IpPacket, sourceIdentity } from "../packet/ip-packet.ts";
import type { NatTuple, PacketCore, Rewrite } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { ClientOnGateway } from "./client-on-gateway.ts";
import { isOwn, type Site } from "./from-client.ts";

/**
 * Decides about a packet from the site whose destination is this client's TUN address
 * (tunnel-core §13.2 from step 3), and installs its flow if it may pass. Refusals are silent.
 */
export function admitFromSite(
  site: Site,
  client: ClientOnGateway,
  packet: IpPacket,
  now: Instant,
): Disposition {
  const { core } = site;
  if (isOwn(site.interface, packet.source)) return pass(core, client, packet, undefined, now);

  const error = icmpErrorOf(packet);
  if (typeof error === "object") return passError(core, client, packet, error, now);

  const outside = outsideTuple(packet);
  if (outside === undefined) return drop("unsupported-protocol");

  const nat = core.natIncoming(client.peer, outside, now);
  if (nat === "expired") return drop("nat-expired");
  if (nat === "none") return passUntranslated(core, client, packet, now);

  const { entry, inside } = nat;
  if (client.classify(inside.ip, sourceIdentity(packet)) !== "allowed") return drop("not-allowed");
  const rewrite = { direction: "incoming", address: inside.ip, port: inside.port, natEntry: entry } as const;
  return pass(core, client, packet, rewrite, now);
}

/** Traffic of CIDR and internet resources. */
function passUntranslated(
  core: PacketCore,
  client: ClientOnGateway,
  packet: IpPacket,
  now: Instant,
): Disposition {
  // Only the NAT speaks for proxy addresses.
  if (isTunnelAddress(packet.source) || isProxyAddress(packet.source)) return drop("not-allowed");
  if (client.classify(packet.source, sourceIdentity(packet)) !== "allowed") return drop("not-allowed");
  return pass(core, client, packet, undefined, now);
}

function pass(
  core: PacketCore,
  client: ClientOnGateway,
  packet: IpPacket,
  rewrite: Rewrite | undefined,
  now: Instant,
): Disposition {
  if (packet.kind === "icmp") return send(core, client, packet.bytes, now);
  core.addFlow(flowKeyOf(packet, "tun"), client.peer, rewrite, now);
  return "forward";
}

/** Filters do not apply: the client must learn why its packets fail. */
function passError(
  core: PacketCore,
  client: ClientOnGateway,
  packet: IpPacket,
  error: IcmpError,
  now: Instant,
): Disposition {
  const { kind, sourcePort: port, destination: ip } = error.failed;
  const nat = core.natIncoming(client.peer, { kind, port, ip }, now);
  if (nat === "expired") return drop("nat-expired");
  if (nat === "none") {
    return isTunnelAddress(packet.source) ? drop("not-allowed") : send(core, client, packet.bytes, now);
  }

  core.natNote(nat.entry, "incoming", 0, now);
  const translated = translateIcmpError(error, {
    proxyIp: nat.inside.ip,
    insidePort: nat.inside.port,
    client: isIpv4(packet.destination) ? client.addresses.ipv4 : client.addresses.ipv6,
  });
  return translated === undefined ? drop("malformed") : send(core, client, translated, now);
}

function send(core: PacketCore, client: ClientOnGateway, packet: Uint8Array, now: Instant): Disposition {
  return core.seal(client.peer, packet, now) ? "consumed" : drop("not-connected");
}

/** Undefined: nothing by which the NAT could tell it. */
function outsideTuple({ kind, destinationPort, source }: IpPacket): NatTuple | undefined {
  if (kind === "icmp" || kind === "other") return undefined;
  return { kind, port: destinationPort, ip: source };
}
