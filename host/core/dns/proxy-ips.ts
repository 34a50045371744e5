import {
  type Cidr,
  hostOf,
  IPV4_RESOURCES,
  IPV6_RESOURCES,
  type IpAddress,
  isIpv4,
  isSentinel,
} from "../address.ts";

/** Proxy IPs of each family that a name gets (tunnel-core §2.5). */
export const PROXY_IPS_PER_FAMILY = 4;

// Host addresses of 100.96.0.0/11 without network and broadcast address; IPv6 has neither.
const FIRST_V4 = 1;
const LAST_V4 = 2 ** 21 - 2;
const FIRST_V6 = 0;
const LAST_V6 = 2 ** 21 - 1;

export interface ProxyIps {
  readonly ipv4: readonly IpAddress[];
  readonly ipv6: readonly IpAddress[];
}

/** Hands out proxy IPs in ascending order and never takes one back (tunnel-core §§2.1, 11.5). */
export class ProxyIpAllocator {
  readonly #used = new Set<IpAddress>();
  #nextV4 = FIRST_V4;
  #nextV6 = FIRST_V6;

  /** Fewer than four of a family once its range is used up. */
  allocate(): ProxyIps {
    return { ipv4: this.#take("v4"), ipv6: this.#take("v6") };
  }

  /**
   * Marks addresses of an earlier run as used. The allocator skips as many as it is given, as if it had
   * handed them out itself, and any of them that it meets later.
   */
  restore(addresses: readonly IpAddress[]): void {
    for (const address of addresses) {
      if (this.#used.has(address)) continue;
      this.#next(isIpv4(address) ? "v4" : "v6");
      this.#used.add(address);
    }
  }

  #take(family: "v4" | "v6"): IpAddress[] {
    const taken: IpAddress[] = [];
    while (taken.length < PROXY_IPS_PER_FAMILY) {
      const address = this.#next(family);
      if (address === undefined) break;
      if (this.#used.has(address)) continue;
      this.#used.add(address);
      taken.push(address);
    }
    return taken;
  }

  #next(family: "v4" | "v6"): IpAddress | undefined {
    for (;;) {
      const offset = family === "v4" ? this.#nextV4++ : this.#nextV6++;
      if (offset > (family === "v4" ? LAST_V4 : LAST_V6)) return undefined;
      const address = hostOf(rangeOf(family), offset);
      if (!isSentinel(address)) return address;
    }
  }
}

function rangeOf(family: "v4" | "v6"): Cidr {
  return family === "v4" ? IPV4_RESOURCES : IPV6_RESOURCES;
}
