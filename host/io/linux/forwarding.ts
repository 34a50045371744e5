import fs from "node:fs";
import { cidrText, IPV4_TUNNEL, IPV6_TUNNEL } from "../../core/address.ts";
import { run, runSync } from "./command.ts";

const TABLE = "culvert";
const SYSCTLS = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] as const;

/**
 * Makes the host forward between the tunnel and the site, masquerading tunnel sources
 * (platform §11): one nftables table of our own, and the two forwarding switches.
 *
 * `disable` takes the table away and puts the switches back where they were, if `enable` came so far; safe in
 * exit handlers.
 */
export class Forwarding {
  readonly #previous = new Map<string, string>();
  #enabled = false;

  async enable(device: string): Promise<void> {
    await run("nft", ["-f", "-"], ruleset(device));
    this.#enabled = true;
    for (const path of SYSCTLS) this.#switchOn(path);
  }

  disable(): void {
    if (!this.#enabled) return;
    this.#enabled = false;
    runSync("nft", ["delete", "table", "inet", TABLE]);
    for (const [path, value] of this.#previous) write(path, value);
    this.#previous.clear();
  }

  #switchOn(path: string): void {
    const value = read(path);
    // Missing or already on: nothing to do, and nothing to undo.
    if (value === undefined || value === "1") return;
    if (write(path, "1")) this.#previous.set(path, value);
  }
}

function ruleset(device: string): string {
  // Added, deleted and added again: the same text works whether or not an earlier run left its table.
  return `
table inet ${TABLE}
delete table inet ${TABLE}
table inet ${TABLE} {
  chain forward {
    type filter hook forward priority -1; policy accept;
    iifname "${device}" accept
    oifname "${device}" accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${cidrText(IPV4_TUNNEL)} oifname != "${device}" masquerade
    ip6 saddr ${cidrText(IPV6_TUNNEL)} oifname != "${device}" masquerade
  }
}
`;
}

function read(path: string): string | undefined {
  try {
    return fs.readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

function write(path: string, value: string): boolean {
  try {
    fs.writeFileSync(path, value);
    return true;
  } catch {
    return false;
  }
}
