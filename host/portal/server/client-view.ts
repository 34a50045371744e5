// What a client is shown, and how it is kept in step with the configuration (portal §6.1, §6.6, §13.4).
import type { ClientInterface } from "../../core/messages.ts";
import type { Resource } from "../../core/policy/resource.ts";
import { encodeClientResource } from "../resources.ts";
import { canServe, understandsSiteChanges } from "./component.ts";
import { grantedPolicies } from "./model.ts";
import type { ClientPeer } from "./peers.ts";
import type { World } from "./world.ts";

/** portal §22.6 */
const MAX_LISTED = 5_000;

/** Resources that the client may use now and can express; offline gateways hide nothing (portal §13.1). */
export function connectable({ configuration, outbox }: World, peer: ClientPeer): Resource[] {
  const granted = grantedPolicies(configuration, peer.device.actorId);
  const resources = [...granted.keys()]
    .map((id) => configuration.resources.get(id))
    .filter((resource): resource is Resource => resource !== undefined && canServe(peer.version, resource));
  if (resources.length > MAX_LISTED) {
    outbox.note("warn", "a client may use more resources than fit its list", { client: peer.device.id });
  }
  return resources.slice(0, MAX_LISTED);
}

/** Interface of the client as `init` and `config_changed` carry it. */
export function interfaceOf({ configuration }: World, { device }: ClientPeer): ClientInterface {
  const { dns } = configuration.account;
  return {
    ipv4: device.ipv4,
    ipv6: device.ipv6,
    searchDomain: dns.searchDomain,
    upstreamDo53: dns.servers,
    upstreamDoh: dns.dohUrls,
  };
}

/** Remembers what the client is told by `init`, to find out later what changed. */
export function noteShown(peer: ClientPeer, resources: readonly Resource[], shown: ClientInterface): void {
  peer.listed = new Map(resources.map((resource) => [resource.id, listing(resource)]));
  peer.interfaceText = JSON.stringify(shown);
}

/** Tells the client what it lost. All clients hear of losses before any hears of a gain. */
export function pushDeletions(world: World, peer: ClientPeer): void {
  const current = new Map(connectable(world, peer).map((resource) => [resource.id, resource]));
  for (const [id, shown] of peer.listed) {
    const resource = current.get(id);
    if (resource !== undefined && !mustReturn(peer, shown.siteText, resource)) continue;
    peer.listed.delete(id);
    world.outbox.toClient(peer, { kind: "resource-deleted", resource: id });
  }
}

/** Tells the client what it gained and what looks different. Call after `pushDeletions`. */
export function pushUpdates(world: World, peer: ClientPeer): void {
  const shown = interfaceOf(world, peer);
  if (JSON.stringify(shown) !== peer.interfaceText) {
    peer.interfaceText = JSON.stringify(shown);
    world.outbox.toClient(peer, { kind: "config-changed", interface: shown });
  }
  for (const resource of connectable(world, peer)) {
    const fresh = listing(resource);
    if (peer.listed.get(resource.id)?.text === fresh.text) continue;
    peer.listed.set(resource.id, fresh);
    world.outbox.toClient(peer, { kind: "resource-created-or-updated", resource });
  }
}

function mustReturn(peer: ClientPeer, siteText: string, resource: Resource): boolean {
  return listing(resource).siteText !== siteText && !understandsSiteChanges(peer.kind, peer.version);
}

function listing(resource: Resource): { text: string; siteText: string } {
  return {
    text: JSON.stringify(encodeClientResource(resource, "sites")),
    siteText: JSON.stringify(resource.sites),
  };
}
