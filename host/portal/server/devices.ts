import { hostOf, IPV4_TUNNEL, IPV6_TUNNEL } from "../../core/address.ts";
import type { ClientId, GatewayId, SiteId } from "../../core/id.ts";
import { derivedBytes, derivedNumber, namedId } from "./derivations.ts";
import type { Configuration } from "./model.ts";
import type { ClientDevice, GatewayDevice } from "./peers.ts";

/** First and last address of the tunnel networks are not handed out (portal §10.6). */
const OFFSETS = 2 ** 21 - 2;
/** portal §22.6 */
const MAX_DEVICES_PER_OWNER = { client: 20, gateway: 256 };
/** Only the first connect names a device (portal §15.3). */
export interface DeviceIdentity {
  readonly owner: string;
  readonly externalId: string;
  readonly name: string;
  readonly publicKey: string;
}

/**
 * The devices that connected, with their addresses.
 *
 * Ids, addresses and key material are derived from the portal's seed and the device's identity, so
 * that a restarted portal, which remembers no device, hands out the same again and tunnels survive
 * (portal §9.4). An offset already taken is probed upwards with wrap-around, in which case it depends
 * on the order of first connects.
 */
export class DeviceRegistry {
  readonly #seed: Uint8Array;
  readonly #clients = new Map<string, ClientDevice>();
  readonly #gateways = new Map<string, GatewayDevice>();
  readonly #perOwner = new Map<string, number>();
  readonly #offsets = { ipv4: new Map<string, number>(), ipv6: new Map<string, number>() };
  readonly #taken = { ipv4: new Set<number>(), ipv6: new Set<number>() };

  /** `seed`: 32 secret bytes that outlive the process. */
  constructor(seed: Uint8Array) {
    this.#seed = seed;
  }

  /**
   * Finds or adds; undefined: the actor has as many devices as it may have. A known device keeps its
   * key: the caller sets the new one once the connection is admitted.
   */
  client(accountId: string, identity: DeviceIdentity): ClientDevice | undefined {
    const id = deviceId(accountId, "client", identity) as ClientId;
    const known = this.#clients.get(id);
    if (known !== undefined) return known;
    if (!this.#mayAdd("client", identity.owner)) return undefined;
    const device: ClientDevice = {
      kind: "client",
      id,
      actorId: identity.owner,
      ...this.#allocate(id, identity),
    };
    this.#clients.set(id, device);
    return device;
  }

  /** As `client`; undefined: the site has as many gateways as it may have. */
  gateway(accountId: string, identity: DeviceIdentity): GatewayDevice | undefined {
    const id = deviceId(accountId, "gateway", identity) as GatewayId;
    const known = this.#gateways.get(id);
    if (known !== undefined) return known;
    if (!this.#mayAdd("gateway", identity.owner)) return undefined;
    const device: GatewayDevice = {
      kind: "gateway",
      id,
      siteId: identity.owner as SiteId,
      ...this.#allocate(id, identity),
    };
    this.#gateways.set(id, device);
    return device;
  }

  /** Forgets devices whose actor or site is gone, and frees their addresses. */
  retain(configuration: Configuration): void {
    for (const [id, device] of this.#clients) {
      if (configuration.actors.has(device.actorId)) continue;
      this.#clients.delete(id);
      this.#release(id, device.actorId);
    }
    for (const [id, device] of this.#gateways) {
      if (configuration.sites.has(device.siteId)) continue;
      this.#gateways.delete(id);
      this.#release(id, device.siteId);
    }
  }

  #mayAdd(kind: "client" | "gateway", owner: string): boolean {
    return (this.#perOwner.get(owner) ?? 0) < MAX_DEVICES_PER_OWNER[kind];
  }

  #allocate(id: string, { owner, name, publicKey }: DeviceIdentity) {
    this.#perOwner.set(owner, (this.#perOwner.get(owner) ?? 0) + 1);
    return {
      name,
      ipv4: hostOf(IPV4_TUNNEL, this.#takeOffset("ipv4", id)),
      ipv6: hostOf(IPV6_TUNNEL, this.#takeOffset("ipv6", id)),
      pskBase: derivedBytes(this.#seed, `psk_base/${id}`),
      publicKey,
    };
  }

  /** 1 … OFFSETS. Owners have fewer devices than there are offsets, so one is always free. */
  #takeOffset(family: "ipv4" | "ipv6", id: string): number {
    let offset = derivedNumber(this.#seed, `${family}/${id}`, OFFSETS);
    while (this.#taken[family].has(offset)) offset = (offset + 1) % OFFSETS;
    this.#taken[family].add(offset);
    this.#offsets[family].set(id, offset);
    return offset + 1;
  }

  #release(id: string, owner: string): void {
    for (const family of ["ipv4", "ipv6"] as const) {
      this.#taken[family].delete(this.#offsets[family].get(id) ?? -1);
      this.#offsets[family].delete(id);
    }
    const left = (this.#perOwner.get(owner) ?? 1) - 1;
    if (left > 0) this.#perOwner.set(owner, left);
    else this.#perOwner.delete(owner);
  }
}

function deviceId(accountId: string, kind: string, { owner, externalId }: DeviceIdentity): string {
  return namedId(accountId, `device/${kind}/${owner}`, externalId);
}
