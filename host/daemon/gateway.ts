import dns from "node:dns/promises";
import { type IpAddress, parseIp } from "../core/address.ts";
import type { GatewayCommand, GatewayEvent, GatewayTunConfig } from "../core/gateway/events.ts";
import { Forwarding } from "../io/linux/forwarding.ts";
import { FIREWALL_MARK, TunNetwork } from "../io/linux/network.ts";
import { ResolvConf } from "../io/linux/resolv-conf.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { GatewayDns } from "./gateway-dns.ts";
import { type Logger, logNote } from "./log.ts";
import { checkTunnelPrivileges } from "./preflight.ts";
import { TunnelControl } from "./tunnel-control.ts";
import type { TunnelDaemonOptions } from "./tunnel-options.ts";

// tunnel-core §2.4 and §2.5
const RESOLVE_TIMEOUT_MS = 10_000;
const MAX_RESOLUTIONS = 1000;

export interface GatewayOptions extends TunnelDaemonOptions {
  /** Sets up forwarding and masquerading; otherwise the operator has. */
  readonly forwarding: boolean;
}

/** The gateway daemon's control thread: portal, name resolution, addresses, routes and forwarding. */
export class GatewayDaemon {
  readonly #options: GatewayOptions;
  readonly #log: Logger;
  readonly #network: TunNetwork;
  readonly #forwarding = new Forwarding();
  readonly #dns: GatewayDns;
  readonly #control: TunnelControl<"gateway", GatewayCommand, GatewayEvent>;
  #resolutions = 0;

  constructor(options: GatewayOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#network = new TunNetwork(options.tunName, "main");
    const resolvConf = new ResolvConf();
    this.#dns = new GatewayDns({
      forwarder: new DnsForwarder(FIREWALL_MARK),
      nameservers: () => resolvConf.systemResolvers(),
      log,
    });
    this.#control = new TunnelControl({
      role: "gateway",
      options,
      log,
      fromPortal: (message) => ({ kind: "portal", message }),
      onEvent: (event) => this.#handleEvent(event),
      cleanUp: () => {
        this.#dns.close();
        this.#forwarding.disable();
      },
    });
  }

  /** Resolves with the exit code once the daemon has ended. */
  finished(): Promise<number> {
    return this.#control.finished();
  }

  async start(): Promise<void> {
    checkTunnelPrivileges("gateway", this.#options.forwarding ? ["ip", "nft"] : ["ip"]);
    await this.#control.start();
    if (this.#options.forwarding) await this.#forwarding.enable(this.#options.tunName);
    this.#control.connectPortal();
  }

  stop(exitCode: number): Promise<void> {
    return this.#control.stop(exitCode);
  }

  #handleEvent(event: GatewayEvent): void {
    switch (event.kind) {
      case "portal":
        this.#control.tellPortal(event.message);
        break;
      case "tun-config":
        this.#control.configure(() => this.#configure(event.config));
        break;
      case "resolve":
        void this.#resolve(event.id, event.name);
        break;
      case "note":
        logNote(this.#log, event);
        break;
    }
  }

  async #configure(config: GatewayTunConfig): Promise<void> {
    const families = await this.#network.setAddresses(config.ipv4, config.ipv6);
    await this.#network.setRoutes(config.routes);
    await this.#dns.serve([...(families.v4 ? [config.ipv4] : []), ...(families.v6 ? [config.ipv6] : [])]);
    this.#control.reportReady("gateway ready", { ipv4: families.v4, ipv6: families.v6 });
  }

  /** A and AAAA through the host's resolver, hosts file included. */
  async #resolve(id: number, name: string): Promise<void> {
    if (this.#resolutions >= MAX_RESOLUTIONS) return;

    this.#resolutions += 1;
    const lookup = dns.lookup(name, { all: true, order: "verbatim" }).finally(() => {
      this.#resolutions -= 1;
    });
    this.#control.send({ kind: "resolved", id, result: await withTimeout(lookup) });
  }
}

async function withTimeout(
  lookup: Promise<readonly { readonly address: string }[]>,
): Promise<Extract<GatewayCommand, { kind: "resolved" }>["result"]> {
  const timer = Promise.withResolvers<"timeout">();
  const handle = setTimeout(() => timer.resolve("timeout"), RESOLVE_TIMEOUT_MS);
  try {
    const found = await Promise.race([lookup, timer.promise]);
    if (found === "timeout") return { kind: "timeout" };
    const addresses = found
      .map(({ address }) => parseIp(address))
      .filter((a): a is IpAddress => a !== undefined);
    return { kind: "addresses", addresses };
  } catch (error) {
    // The name does not exist, or has no address: an answer, not a failure (tunnel-core §21.2 G4).
    const code = (error as NodeJS.ErrnoException).code;
    return code === "ENOTFOUND" || code === "ENODATA"
      ? { kind: "addresses", addresses: [] }
      : { kind: "failed" };
  } finally {
    clearTimeout(handle);
  }
}
