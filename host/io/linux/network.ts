import { type Cidr, cidrText, type IpAddress, isIpv4 } from "../../core/address.ts";
import { CommandError, run, runSync } from "./command.ts";

/** Mark of our own sockets, so that they bypass the tunnel (platform §6.4). */
export const FIREWALL_MARK = 0xfd002021;
/** Tunnel routes except default routes. */
const TABLE_TUNNEL = 0x2021fd00;
/** Default routes of the internet resource. */
const TABLE_INTERNET = 0x2021fd02;
const RULES = [
  { priority: 100, table: TABLE_TUNNEL },
  { priority: 300, table: TABLE_INTERNET },
];
export const TUN_MTU = 1280;
// The default of 500 packets drops under load (platform §6.1).
const TX_QUEUE_PACKETS = 10000;

export interface Families {
  readonly v4: boolean;
  readonly v6: boolean;
}

/**
 * Addresses, routes and policy rules of one TUN device, through iproute2.
 *
 * `policy` (client): routes live in tables of their own, which packets without our mark consult first.
 * `main` (gateway): routes live in the main table. Addresses and routes vanish with the device;
 * `removeRules` takes away the rest.
 */
export class TunNetwork {
  readonly #device: string;
  readonly #routing: "policy" | "main";
  #families: Families = { v4: false, v6: false };
  #addresses: string | undefined;
  #routes = new Set<string>();

  constructor(device: string, routing: "policy" | "main") {
    this.#device = device;
    this.#routing = routing;
  }

  /**
   * Sets the addresses and brings the link up; which families the host let us have. Rejects if none.
   *
   * Addresses that are there already are left alone: without its last address a device loses all its routes,
   * and until they are back packets for the tunnel would leave outside it.
   */
  async setAddresses(ipv4: IpAddress, ipv6: IpAddress): Promise<Families> {
    const addresses = `${ipv4} ${ipv6}`;
    if (addresses === this.#addresses) return this.#families;
    await ip([
      `link set dev ${this.#device} mtu ${TUN_MTU} txqueuelen ${TX_QUEUE_PACKETS}`,
      `addr flush dev ${this.#device}`,
    ]);
    // No link-local address of the kernel's choosing; refused where IPv6 is off.
    await tolerate(ip([`link set dev ${this.#device} addrgenmode none`]));
    await ip([`link set dev ${this.#device} up`]);
    const v4 = await attempt(ip([`addr add ${ipv4}/32 dev ${this.#device}`]));
    const v6 = await attempt(ip([`-6 addr add ${ipv6}/128 dev ${this.#device} nodad`]));
    if (v4 !== undefined && v6 !== undefined) throw v4;

    this.#families = { v4: v4 === undefined, v6: v6 === undefined };
    if (this.#routing === "policy") await this.#addRules();
    this.#addresses = addresses;
    return this.#families;
  }

  /** Makes the device's routes exactly these (of the families that it got). */
  async setRoutes(routes: readonly Cidr[]): Promise<void> {
    const wanted = new Set(
      routes
        .filter((route) => (isIpv4(route.ip) ? this.#families.v4 : this.#families.v6))
        .map((r) => this.#route(r)),
    );
    for (const route of this.#routes) {
      // One by one, since it may have gone with an address.
      if (!wanted.has(route)) await tolerate(ip([route.replace(" route ", " route del ")]));
    }
    const replacements = [...wanted].map((route) => route.replace(" route ", " route replace "));
    if (replacements.length > 0) await ip(replacements);
    this.#routes = wanted;
  }

  /** Removes policy rules, also those of an earlier run that was killed; for exit handlers. */
  removeRules(): void {
    if (this.#routing === "policy") removePolicyRules();
  }

  #route(route: Cidr): string {
    const family = isIpv4(route.ip) ? "-4" : "-6";
    const base = `${family} route ${cidrText(route)} dev ${this.#device}`;
    if (this.#routing === "main") return base;
    return `${base} proto static table ${route.prefix === 0 ? TABLE_INTERNET : TABLE_TUNNEL}`;
  }

  async #addRules(): Promise<void> {
    removePolicyRules();
    for (const family of families(this.#families)) {
      await ip(
        RULES.map(
          ({ priority, table }) =>
            `${family} rule add not fwmark ${FIREWALL_MARK} lookup ${table} priority ${priority}`,
        ),
      );
    }
  }
}

/** Deletes our policy rules of both families; harmless when there are none. */
export function removePolicyRules(): void {
  for (const family of ["-4", "-6"]) {
    const lines = RULES.map(({ priority, table }) => `rule del priority ${priority} lookup ${table}`);
    runSync("ip", [family, "-force", "-batch", "-"], `${lines.join("\n")}\n`);
  }
}

function families(available: Families): string[] {
  return [...(available.v4 ? ["-4"] : []), ...(available.v6 ? ["-6"] : [])];
}

async function ip(lines: readonly string[]): Promise<void> {
  // A batch takes one address family, named on the command line.
  for (const family of ["-4", "-6", ""]) {
    const own = lines
      .filter((line) => familyOf(line) === family)
      .map((line) => line.slice(family.length).trim());
    if (own.length === 0) continue;
    await run("ip", [...(family === "" ? [] : [family]), "-batch", "-"], `${own.join("\n")}\n`);
  }
}

function familyOf(line: string): string {
  return line.startsWith("-4 ") || line.startsWith("-6 ") ? line.slice(0, 2) : "";
}

async function attempt(work: Promise<void>): Promise<CommandError | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (error instanceof CommandError) return error;
    throw error;
  }
}

async function tolerate(work: Promise<void>): Promise<void> {
  await attempt(work);
}
