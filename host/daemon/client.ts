import type { ClientCommand, ClientEvent, TunConfig } from "../core/client/events.ts";
import { beginConnectMarked } from "../io/linux/marked-socket.ts";
import { FIREWALL_MARK, removePolicyRules, TunNetwork } from "../io/linux/network.ts";
import { ResolvConf } from "../io/linux/resolv-conf.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { DohClient } from "./doh-client.ts";
import { resolveAround } from "./host-lookup.ts";
import { type Logger, logNote } from "./log.ts";
import { checkTunnelPrivileges } from "./preflight.ts";
import { TunnelControl } from "./tunnel-control.ts";
import type { TunnelDaemonOptions } from "./tunnel-options.ts";

/** How often the system's resolvers are read again (platform §10). */
const RESOLVER_POLL_MS = 5000;

export interface ClientOptions extends TunnelDaemonOptions {
  readonly dnsControl: "etc-resolv-conf" | "disabled";
  readonly internetResource: boolean;
}

/**
 * The client daemon's control thread: portal, DNS control, addresses and routes; the data thread does the rest.
 *
 * `start` undoes what a killed run left behind as soon as the device is ours; `stop` puts the system back.
 */
export class ClientDaemon {
  readonly #options: ClientOptions;
  readonly #log: Logger;
  readonly #resolvConf = new ResolvConf();
  readonly #network: TunNetwork;
  readonly #forwarder = new DnsForwarder(FIREWALL_MARK);
  readonly #doh = new DohClient({
    resolve: (host) => resolveAround(host, this.#resolvConf.systemResolvers(), this.#forwarder),
    connect: (remote) => beginConnectMarked(remote, FIREWALL_MARK),
  });
  readonly #control: TunnelControl<"client", ClientCommand, ClientEvent>;
  #resolverTimer: NodeJS.Timeout | undefined;
  /** We hold the device, so what was changed on this host is ours to undo. */
  #ownsSystem = false;

  constructor(options: ClientOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#network = new TunNetwork(options.tunName, "policy");
    this.#control = new TunnelControl({
      role: "client",
      options,
      log,
      fromPortal: (message) => ({ kind: "portal", message }),
      onEvent: (event) => this.#handleEvent(event),
      cleanUp: () => this.#cleanUp(),
    });
  }

  /** Resolves with the exit code once the daemon has ended. */
  finished(): Promise<number> {
    return this.#control.finished();
  }

  async start(): Promise<void> {
    checkTunnelPrivileges("client", ["ip"]);
    if (this.#options.dnsControl === "etc-resolv-conf") this.#resolvConf.check();
    await this.#control.start();
    // Only now: while another client holds the device, rules and resolv.conf are that client's.
    this.#ownsSystem = true;
    this.#resolvConf.recover();
    removePolicyRules();
    this.#readResolvers();
    this.#control.send({ kind: "internet-resource", active: this.#options.internetResource });
    this.#resolverTimer = setInterval(() => this.#readResolvers(), RESOLVER_POLL_MS).unref();
    this.#control.connectPortal();
  }

  /** New keys, new paths: what an operator asks for with SIGHUP after a network change. */
  reset(): void {
    this.#log.info({}, "network changed: starting over with a new key");
    this.#doh.reset();
    this.#control.send({ kind: "reset", privateKey: this.#control.renewKey() });
  }

  stop(exitCode: number): Promise<void> {
    return this.#control.stop(exitCode);
  }

  #handleEvent(event: ClientEvent): void {
    switch (event.kind) {
      case "portal":
        this.#control.tellPortal(event.message);
        break;
      case "tun-config":
        this.#control.configure(() => this.#configure(event.config));
        break;
      case "host-dns-query":
        void this.#forwarder.forward(event.server, event.message, event.transport).then((result) => {
          this.#control.send({ kind: "host-dns-result", id: event.id, result });
        });
        break;
      case "host-doh-query":
        void this.#doh.ask(event.url, event.message).then((result) => {
          this.#control.send({ kind: "host-dns-result", id: event.id, result });
        });
        break;
      case "resources":
        this.#log.debug({ resources: event.list.length }, "resources changed");
        break;
      case "records":
        break;
      case "note":
        logNote(this.#log, event);
        break;
    }
  }

  async #configure(config: TunConfig): Promise<void> {
    const families = await this.#network.setAddresses(config.ipv4, config.ipv6);
    if (this.#options.dnsControl === "etc-resolv-conf") {
      this.#resolvConf.activate(
        config.dns.map(({ sentinel }) => sentinel),
        config.searchDomain,
      );
    }
    await this.#network.setRoutes(config.routes);
    this.#control.reportReady("tunnel ready", { ipv4: families.v4, ipv6: families.v6 });
  }

  #readResolvers(): void {
    this.#control.send({ kind: "system-resolvers", servers: this.#resolvConf.systemResolvers() });
  }

  #cleanUp(): void {
    clearInterval(this.#resolverTimer);
    this.#doh.reset();
    if (!this.#ownsSystem) return;
    if (this.#options.dnsControl === "etc-resolv-conf") this.#resolvConf.restore();
    this.#network.removeRules();
  }
}
