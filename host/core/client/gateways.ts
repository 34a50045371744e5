import type { IpAddress } from "../address.ts";
import type { GatewayId, PeerId, ResourceId, SiteId } from "../id.ts";
import { PacketBuffer } from "../packet/packet-buffer.ts";
import { type RouteEntry, RoutingTable } from "../policy/routing-table.ts";

/** Packets held per gateway while its connection is being established; the oldest goes (tunnel-core §2.5). */
export const CONNECTING_PACKETS = 128;
/** Gateways remembered as hints for the portal; at the limit the one granted longest ago goes. */
export const KNOWN_GATEWAYS = 1000;

/** A gateway that granted access to something. */
export interface GatewayPeer {
  readonly id: GatewayId;
  readonly peer: PeerId;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  site: SiteId;
  /** `connected` once packets can be sealed for it. */
  state: "connecting" | "connected";
  /** Networks that its packets may come from, besides its own TUN addresses. Only the networks matter. */
  readonly allowed: RoutingTable<RouteEntry>;
  /** Packets that were routed to it; they are routed again before they go. */
  readonly routed: PacketBuffer;
  /** Control frames: they stay with this gateway. */
  readonly direct: PacketBuffer;
}

/** The gateways with live state, and the ones that were granted before. */
export class GatewayTable {
  readonly #byId = new Map<GatewayId, GatewayPeer>();
  readonly #byPeer = new Map<PeerId, GatewayPeer>();
  readonly #byAddress = new Map<IpAddress, GatewayPeer>();
  readonly #known = new Set<GatewayId>();

  add(fields: Pick<GatewayPeer, "id" | "peer" | "ipv4" | "ipv6" | "site">): GatewayPeer {
    const gateway: GatewayPeer = {
      ...fields,
      state: "connecting",
      allowed: new RoutingTable(),
      routed: new PacketBuffer(CONNECTING_PACKETS),
      direct: new PacketBuffer(CONNECTING_PACKETS),
    };
    this.#byId.set(gateway.id, gateway);
    this.#byPeer.set(gateway.peer, gateway);
    this.#byAddress.set(gateway.ipv4, gateway);
    this.#byAddress.set(gateway.ipv6, gateway);
    return gateway;
  }

  /** It stays known as a hint. */
  remove(gateway: GatewayPeer): void {
    this.#byId.delete(gateway.id);
    this.#byPeer.delete(gateway.peer);
    for (const ip of [gateway.ipv4, gateway.ipv6]) {
      if (this.#byAddress.get(ip) === gateway) this.#byAddress.delete(ip);
    }
  }

  get(id: GatewayId): GatewayPeer | undefined {
    return this.#byId.get(id);
  }

  ofPeer(peer: PeerId): GatewayPeer | undefined {
    return this.#byPeer.get(peer);
  }

  ofAddress(ip: IpAddress): GatewayPeer | undefined {
    return this.#byAddress.get(ip);
  }

  all(): GatewayPeer[] {
    return [...this.#byId.values()];
  }

  remember(id: GatewayId): void {
    this.#known.delete(id);
    this.#known.add(id);
    if (this.#known.size <= KNOWN_GATEWAYS) return;
    const oldest = this.#known.keys().next();
    if (!oldest.done) this.#known.delete(oldest.value);
  }

  /** Hints for the portal (tunnel-core §7.2): the current gateway, live ones, the rest; ties by id. */
  preferred(current: GatewayId | undefined): GatewayId[] {
    const rank = (id: GatewayId) => (id === current ? 0 : this.#byId.has(id) ? 1 : 2);
    return [...this.#known].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  }
}

/** Whether a packet from this gateway may have that source (tunnel-core §9). */
export function mayComeFrom(gateway: GatewayPeer, source: IpAddress): boolean {
  return source === gateway.ipv4 || source === gateway.ipv6 || gateway.allowed.covers(source);
}

/** Lets packets of the resource come from the network. */
export function allowSource(
  gateway: GatewayPeer,
  network: { readonly ip: IpAddress; readonly prefix: number },
  resource: ResourceId,
): void {
  gateway.allowed.insert(network, { resource, filter: 0 });
}
