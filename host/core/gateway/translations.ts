import { compareIp, type IpAddress, isIpv4 } from "../address.ts";
import type { ResourceId } from "../id.ts";

/**
 * Proxy IPs remembered for one client; beyond it those announced longest ago are forgotten.
 * Enough for 8192 dual-stack names; a client repeats an announcement whenever the name is queried.
 */
export const MAX_TRANSLATIONS = 65536;

/** What a proxy IP stands for. */
export interface Translation {
  readonly name: string;
  /** Undefined: the name has no address of the proxy's family. */
  readonly real: IpAddress | undefined;
  /** Resources under which it was announced, whether still granted or not. */
  readonly resources: ReadonlySet<ResourceId>;
}

/** The proxy IPs that one client has announced (tunnel-core §13.7). */
export class Translations {
  /** In order of announcement. */
  readonly #byProxy = new Map<IpAddress, Translation>();

  get(proxyIp: IpAddress): Translation | undefined {
    return this.#byProxy.get(proxyIp);
  }

  /** The first proxy IP that stands for the name and leads somewhere, else any that stands for it. */
  proxyIpOf(name: string): IpAddress | undefined {
    const proxyIps = [...this.#byProxy].filter(([, translation]) => translation.name === name);
    return (proxyIps.find(([, { real }]) => real !== undefined) ?? proxyIps[0])?.[0];
  }

  /** Proxy IPs announced under a resource, with their names. */
  *announcedUnder(resource: ResourceId): Iterable<readonly [IpAddress, Translation]> {
    for (const entry of this.#byProxy) {
      if (entry[1].resources.has(resource)) yield entry;
    }
  }

  /** Whether one of the proxy IPs stands for another name: the client has started its numbering over. */
  conflict(name: string, proxyIps: readonly IpAddress[]): boolean {
    return proxyIps.some((proxyIp) => (this.#byProxy.get(proxyIp)?.name ?? name) !== name);
  }

  /**
   * Lets the proxy IPs stand for the real ones, round robin in ascending order, each family on its own.
   * Returns whether an existing mapping changed, and which proxy IPs had to be forgotten.
   */
  assign(
    name: string,
    resource: ResourceId,
    proxyIps: readonly IpAddress[],
    realIps: readonly IpAddress[],
  ): { readonly changed: boolean; readonly forgotten: readonly IpAddress[] } {
    let changed = false;
    for (const [proxyIp, real] of roundRobin(proxyIps, realIps)) {
      const known = this.#byProxy.get(proxyIp);
      changed ||= known !== undefined && known.real !== real;
      const resources = new Set(known?.resources).add(resource);
      this.#byProxy.delete(proxyIp);
      this.#byProxy.set(proxyIp, { name, real, resources });
    }
    return { changed, forgotten: this.#forgetOldest() };
  }

  clear(): void {
    this.#byProxy.clear();
  }

  get size(): number {
    return this.#byProxy.size;
  }

  #forgetOldest(): IpAddress[] {
    const forgotten: IpAddress[] = [];
    for (const proxyIp of this.#byProxy.keys()) {
      if (this.#byProxy.size <= MAX_TRANSLATIONS) break;
      this.#byProxy.delete(proxyIp);
      forgotten.push(proxyIp);
    }
    return forgotten;
  }
}

function* roundRobin(
  proxyIps: readonly IpAddress[],
  realIps: readonly IpAddress[],
): Iterable<readonly [IpAddress, IpAddress | undefined]> {
  for (const ofFamily of [isIpv4, (ip: IpAddress) => !isIpv4(ip)]) {
    const proxies = sorted(proxyIps.filter(ofFamily));
    const reals = sorted(realIps.filter(ofFamily));
    for (const [i, proxyIp] of proxies.entries()) yield [proxyIp, reals[i % reals.length]];
  }
}

function sorted(ips: readonly IpAddress[]): IpAddress[] {
  return [...new Set(ips)].sort(compareIp);
}
