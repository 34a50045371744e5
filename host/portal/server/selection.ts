import type { GatewayId } from "../../core/id.ts";
import type { Resource } from "../../core/policy/resource.ts";
import type { Random } from "../../core/random.ts";
import { canServe, isCompatible, type Version } from "./component.ts";
import { siteOf } from "./model.ts";
import type { GatewayPeer } from "./peers.ts";

/**
 * Chooses the gateway for a resource (portal §12): of its site, connected, compatible; of those the
 * ones that the client is connected to already, if any; of those one at random. Peers have no location
 * here, so nearness and version decide nothing.
 */
export function selectGateway(
  gateways: Iterable<GatewayPeer>,
  resource: Resource,
  client: { readonly version: Version; readonly preferred: readonly GatewayId[] },
  random: Random,
): GatewayPeer | "offline" | "version_mismatch" {
  const site = siteOf(resource).id;
  const online = [...gateways].filter((peer) => peer.isJoined && peer.device.siteId === site);
  if (online.length === 0) return "offline";

  const able = online.filter(({ version }) => {
    return version !== undefined && isCompatible(version, client.version) && canServe(version, resource);
  });
  const preferred = able.filter((peer) => client.preferred.includes(peer.device.id));
  const eligible = preferred.length > 0 ? preferred : able;
  return eligible[Math.floor(random.uniform() * eligible.length)] ?? "version_mismatch";
}
