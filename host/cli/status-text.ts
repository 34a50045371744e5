import type { ClientStatus } from "../core/client/status.ts";
import { upstreamText } from "../core/dns/sentinels.ts";
import type { GatewayStatus } from "../core/gateway/explain.ts";
import type { PeerStatus, Traffic } from "../core/peer-status.ts";
import type { DaemonStatus } from "../daemon/status.ts";
import { bytesText, durationText, table } from "./table.ts";

/** For people: the daemon, then one table per kind of thing. */
export function statusText(status: DaemonStatus): string {
  const sections = [table(overview(status))];
  if (status.role === "client") sections.push(gateways(status), resources(status));
  else sections.push(clients(status), grants(status));
  return sections.join("\n\n");
}

function overview(status: DaemonStatus): string[][] {
  const { portal } = status;
  const rows = [
    [status.role, `up for ${durationText(status.uptimeMs)}`],
    ["portal", `${portal.url}, ${portal.state} for ${durationText(portal.forMs)}`],
    [
      "tunnel",
      `${status.tun}, ${status.ipv4 === undefined ? "not configured yet" : `${status.ipv4} ${status.ipv6}`}`,
    ],
  ];
  if (status.role === "gateway") return [...rows, ["NAT", `${status.natEntries} entries`]];
  const servers = status.dns.map(({ sentinel, upstream }) => `${sentinel} for ${upstreamText(upstream)}`);
  return [...rows, ["DNS", servers.join(", ") || "no servers"]];
}

const PEER_COLUMNS = ["STATE", "FOR", "ROUND TRIP", "HANDSHAKE", "SENT", "RECEIVED", "PATH"];

function gateways({ peers, resources }: ClientStatus): string {
  const through = (ids: readonly string[]) =>
    resources.flatMap((resource) => (ids.includes(resource.id) ? [resource.name] : [])).join(", ");
  const rows = peers.map((peer) => [peer.id, ...peerCells(peer), through(peer.resources)]);
  return listed(["GATEWAY", ...PEER_COLUMNS, "FOR RESOURCES"], rows, "no gateway: nothing was asked for yet");
}

function clients({ peers }: GatewayStatus): string {
  const rows = peers.map((peer) => [peer.id, peer.name ?? "-", peer.ipv4, ...peerCells(peer)]);
  return listed(["CLIENT", "ACTOR", "ADDRESS", ...PEER_COLUMNS], rows, "no clients");
}

function peerCells(peer: PeerStatus): string[] {
  return [
    peer.state,
    duration(peer.forMs),
    peer.roundTripMs === undefined ? "-" : `${peer.roundTripMs.toFixed(1)} ms`,
    peer.handshakeAgeMs === undefined ? "-" : `${durationText(peer.handshakeAgeMs)} ago`,
    trafficText(peer.sent),
    trafficText(peer.received),
    peer.path === undefined ? "-" : `${peer.via} for ${duration(peer.pathForMs)}: ${peer.path}`,
  ];
}

function resources({ resources: list }: ClientStatus): string {
  const rows = list.map(({ name, kind, address, sites, status, gateway }) => [
    name,
    kind,
    address ?? "everything else",
    sites.map((site) => site.name).join(", "),
    status,
    gateway ?? "-",
  ]);
  return listed(["RESOURCE", "KIND", "ADDRESS", "SITE", "STATUS", "GATEWAY"], rows, "no resources");
}

function grants({ peers }: GatewayStatus): string {
  const rows = peers.flatMap((peer) =>
    peer.grants.map(({ name, kind, address, expiresInMs }) => [
      name,
      kind,
      address ?? "the internet",
      peer.name ?? peer.id,
      expiresInMs === undefined ? "-" : `in ${durationText(expiresInMs)}`,
    ]),
  );
  return listed(["RESOURCE", "KIND", "ADDRESS", "GRANTED TO", "ENDS"], rows, "no grants");
}

function listed(header: readonly string[], rows: readonly (readonly string[])[], none: string): string {
  return rows.length === 0 ? none : table([header, ...rows]);
}

function trafficText({ packets, bytes }: Traffic): string {
  return `${packets} packets ${bytesText(bytes)}`;
}

function duration(ms: number | undefined): string {
  return ms === undefined ? "-" : durationText(ms);
}
