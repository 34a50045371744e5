import type { ClientCommand, ClientEvent, TunConfig } from "../core/client/events.ts";
import { noiseCrypto } from "../io/crypto.ts";
import { beginConnectMarked } from "../io/linux/marked-socket.ts";
import { FIREWALL_MARK, removePolicyRules, TunNetwork } from "../io/linux/network.ts";
import { ResolvConf } from "../io/linux/resolv-conf.ts";
import { systemRandom } from "../io/random.ts";
import { DataPlane } from "./data-plane.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { DohClient } from "./doh-client.ts";
import { resolveAround } from "./host-lookup.ts";
import type { LocalApi } from "./local-api.ts";
import { openLocalApi } from "./local-handlers.ts";
import { type Logger, logNote } from "./log.ts";
import { PortalConnection } from "./portal-connection.ts";
import { connectAroundTunnel, fatalText } from "./portal-link.ts";
import { checkTunnelPrivileges } from "./preflight.ts";
import { StatusBoard } from "./status.ts";
import { TaskQueue } from "./task-queue.ts";
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
  readonly #configuration = new TaskQueue((error) =>
    this.#fail(`cannot configure the system: ${error.message}`),
  );
  readonly #finished = Promise.withResolvers<number>();
  readonly #startedAt = performance.now();
  readonly #board: StatusBoard;
  #privateKey = systemRandom().bytes(32);
  #plane: DataPlane<ClientCommand, ClientEvent> | undefined;
  #portal: PortalConnection<"client"> | undefined;
  #localApi: LocalApi | undefined;
  #resolverTimer: NodeJS.Timeout | undefined;
  #configured = false;
  /** We hold the device, so what was changed on this host is ours to undo. */
  #ownsSystem = false;

  constructor(options: ClientOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#board = new StatusBoard(options);
    this.#network = new TunNetwork(options.tunName, "policy");
  }

  /** Resolves with the exit code once the daemon has ended. */
  finished(): Promise<number> {
    return this.#finished.promise;
  }

  async start(): Promise<void> {
    checkTunnelPrivileges("client", ["ip"]);
    if (this.#options.dnsControl === "etc-resolv-conf") this.#resolvConf.check();
    this.#localApi = await openLocalApi(this.#options.socketPath, {
      board: this.#board,
      plane: () => this.#plane,
    });

    const plane = new DataPlane<ClientCommand, ClientEvent>(
      {
        machine: { role: "client", privateKey: this.#privateKey },
        tunName: this.#options.tunName,
        backend: this.#options.udpBackend,
        port: this.#options.udpPort,
        mark: FIREWALL_MARK,
      },
      { onEvent: (event) => this.#handleEvent(event), onFailure: (message) => this.#fail(message) },
    );
    this.#plane = plane;
    const { offload } = await plane.ready();
    this.#log.debug({ offload }, "TUN device created");
    // Only now: while another client holds the device, rules and resolv.conf are that client's.
    process.once("exit", this.#restoreSystem);
    this.#ownsSystem = true;
    this.#resolvConf.recover();
    removePolicyRules();
    plane.send({ kind: "system-resolvers", servers: this.#resolvConf.systemResolvers() });
    plane.send({ kind: "internet-resource", active: this.#options.internetResource });
    this.#resolverTimer = setInterval(() => this.#readResolvers(), RESOLVER_POLL_MS).unref();
    this.#connectPortal(plane);
  }

  /** New keys, new paths: what an operator asks for with SIGHUP after a network change. */
  reset(): void {
    this.#privateKey = systemRandom().bytes(32);
    this.#log.info({}, "network changed: starting over with a new key");
    this.#doh.reset();
    this.#plane?.send({ kind: "reset", privateKey: this.#privateKey });
    this.#portal?.reconnect(noiseCrypto().publicKey(this.#privateKey));
  }

  async stop(exitCode: number): Promise<void> {
    this.#localApi?.close();
    clearInterval(this.#resolverTimer);
    this.#doh.reset();
    this.#portal?.close();
    await this.#configuration.settled();
    const statistics = await this.#plane?.shutdown();
    if (statistics !== undefined) this.#log.info(statistics as never, "final counters");
    this.#restoreSystem();
    process.off("exit", this.#restoreSystem);
    this.#finished.resolve(exitCode);
  }

  #connectPortal(plane: DataPlane<ClientCommand, ClientEvent>): void {
    const { portal, token, externalId, name } = this.#options;
    this.#portal = new PortalConnection(
      {
        role: "client",
        url: portal.href,
        token,
        externalId,
        name,
        publicKey: noiseCrypto().publicKey(this.#privateKey),
        createSocket: (target) => connectAroundTunnel(target, FIREWALL_MARK),
        log: this.#log,
      },
      {
        onMessage: (message) => plane.send({ kind: "portal", message }),
        onState: (state) => {
          this.#board.setPortal(state);
          this.#log.info({ state }, "portal connection");
        },
        onFatal: (error) => this.#fail(fatalText(error)),
      },
    );
  }

  #handleEvent(event: ClientEvent): void {
    switch (event.kind) {
      case "portal":
        this.#portal?.send(event.message);
        break;
      case "tun-config":
        this.#configuration.add(() => this.#configure(event.config));
        break;
      case "host-dns-query":
        void this.#forwarder.forward(event.server, event.message, event.transport).then((result) => {
          this.#plane?.send({ kind: "host-dns-result", id: event.id, result });
        });
        break;
      case "host-doh-query":
        void this.#doh.ask(event.url, event.message).then((result) => {
          this.#plane?.send({ kind: "host-dns-result", id: event.id, result });
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
    if (this.#configured) return;

    this.#configured = true;
    const elapsedMs = Math.round(performance.now() - this.#startedAt);
    this.#log.info({ elapsedMs, ipv4: families.v4, ipv6: families.v6 }, "tunnel ready");
  }

  #readResolvers(): void {
    this.#plane?.send({ kind: "system-resolvers", servers: this.#resolvConf.systemResolvers() });
  }

  #fail(message: string): void {
    this.#log.error({}, message);
    void this.stop(1);
  }

  readonly #restoreSystem = (): void => {
    if (!this.#ownsSystem) return;
    if (this.#options.dnsControl === "etc-resolv-conf") this.#resolvConf.restore();
    this.#network.removeRules();
  };
}
