import type { IpAddress } from "../address.ts";
import type { ClientId, PeerId } from "../id.ts";
import type { ClientOnGateway, TunAddresses } from "./client-on-gateway.ts";

/** The clients of a gateway by id, by peer slot and by TUN address. Bounded by the packet core's peer slots. */
export class ClientTable {
  readonly #byId = new Map<ClientId, ClientOnGateway>();
  readonly #byPeer = new Map<PeerId, ClientOnGateway>();
  readonly #byIp = new Map<IpAddress, ClientOnGateway>();

  add(client: ClientOnGateway): void {
    this.#byId.set(client.id, client);
    this.#byPeer.set(client.peer, client);
    this.#addIps(client);
  }

  /** The newest owner of an address gets its packets: the portal has given it to somebody else. */
  readdress(client: ClientOnGateway, addresses: TunAddresses): void {
    this.#removeIps(client);
    client.setAddresses(addresses);
    this.#addIps(client);
  }

  remove(client: ClientOnGateway): void {
    this.#byId.delete(client.id);
    this.#byPeer.delete(client.peer);
    this.#removeIps(client);
  }

  byId(id: ClientId): ClientOnGateway | undefined {
    return this.#byId.get(id);
  }

  byPeer(peer: PeerId): ClientOnGateway | undefined {
    return this.#byPeer.get(peer);
  }

  byIp(ip: IpAddress): ClientOnGateway | undefined {
    return this.#byIp.get(ip);
  }

  /** A copy: clients may be removed while it is walked. */
  all(): ClientOnGateway[] {
    return [...this.#byId.values()];
  }

  #addIps(client: ClientOnGateway): void {
    this.#byIp.set(client.addresses.ipv4, client);
    this.#byIp.set(client.addresses.ipv6, client);
  }

  #removeIps(client: ClientOnGateway): void {
    for (const ip of [client.addresses.ipv4, client.addresses.ipv6]) {
      if (this.#byIp.get(ip) === client) this.#byIp.delete(ip);
    }
  }
}
