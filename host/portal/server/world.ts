import type { ClientId, GatewayId } from "../../core/id.ts";
import type { Random } from "../../core/random.ts";
import type { UnixTime } from "../../core/time.ts";
import { namedId } from "./derivations.ts";
import type { Configuration } from "./model.ts";
import type { Outbox } from "./outbox.ts";
import type { ClientPeer, GatewayPeer } from "./peers.ts";
import { isExpired, type TokenRecord, type TokenTable } from "./tokens.ts";

/** What the parts of the portal's machine share. Peers are listed from their hello on, joined or not. */
export interface World {
  configuration: Configuration;
  tokens: TokenTable;
  readonly clients: Map<ClientId, ClientPeer>;
  readonly gateways: Map<GatewayId, GatewayPeer>;
  readonly outbox: Outbox;
  readonly random: Random;
}

/** Gateways' TURN credentials must outlive every reconnect: 2038-01-01 (portal §10.4). */
const GATEWAY_TURN_EXPIRY: UnixTime = 2_145_916_800;

export function turnExpiry(peer: ClientPeer | GatewayPeer): UnixTime {
  return peer.role === "client" ? peer.token.expiresAt : GATEWAY_TURN_EXPIRY;
}

export function actorIdOf(configuration: Configuration, name: string): string {
  return namedId(configuration.account.id, "actor", name);
}

export function siteIdOf(configuration: Configuration, name: string): string {
  return namedId(configuration.account.id, "site", name);
}

/** Whether the token still stands for somebody: known, not expired, its actor enabled or its site there. */
export function isTokenValid(world: World, token: TokenRecord, unixTime: UnixTime): boolean {
  return world.tokens.has(token.id) && !isExpired(token, unixTime) && hasOwner(world.configuration, token);
}

/** Whether the actor is enabled or the site exists; relays belong to the installation. */
export function hasOwner(configuration: Configuration, token: TokenRecord): boolean {
  switch (token.kind) {
    case "client":
      return configuration.actors.get(actorIdOf(configuration, token.actor))?.isEnabled === true;
    case "gateway":
      return [...configuration.sites.values()].some((site) => site.name === token.site);
    case "relay":
      return true;
  }
}
