import dns from "node:dns/promises";
import { type IpAddress, parseIp } from "../core/address.ts";
import type { GatewayCommand, GatewayEvent, GatewayTunConfig } from "../core/gateway/events.ts";
import { noiseCrypto } from "../io/crypto.ts";
import { Forwarding } from "../io/linux/forwarding.ts";
import { FIREWALL_MARK, TunNetwork } from "../io/linux/network.ts";
import { ResolvConf } from "../io/linux/resolv-conf.ts";
import { systemRandom } from "../io/random.ts";
import { DataPlane } from "./data-plane.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { GatewayDns } from "./gateway-dns.ts";
import type { LocalApi } from "./local-api.ts";
import { openLocalApi } from "./local-handlers.ts";
import { type Logger, logNote } from "./log.ts";
import { PortalConnection } from "./portal-connection.ts";
import { connectAroundTunnel, fatalText } from "./portal-link.ts";
import { checkTunnelPrivileges } from "./preflight.ts";
import { StatusBoard } from "./status.ts";
import { TaskQueue } from "./task-queue.ts";
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
  readonly #configuration = new TaskQueue((error) =>
    this.#fail(`cannot configure the system: ${error.message}`),
  );
  readonly #finished = Promise.withResolvers<number>();
  readonly #startedAt = performance.now();
  readonly #board: StatusBoard;
  readonly #privateKey = systemRandom().bytes(32);
  #plane: DataPlane<GatewayCommand, GatewayEvent> | undefined;
  #portal: PortalConnection<"gateway"> | undefined;
  #localApi: LocalApi | undefined;
  #resolutions = 0;
  #configured = false;

  constructor(options: GatewayOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#board = new StatusBoard(options);
    this.#network = new TunNetwork(options.tunName, "main");
    const resolvConf = new ResolvConf();
    this.#dns = new GatewayDns({
      forwarder: new DnsForwarder(FIREWALL_MARK),
      nameservers: () => resolvConf.systemResolvers(),
      log,
    });
  }

  /** Resolves with the exit code once the daemon has ended. */
  finished(): Promise<number> {
    return this.#finished.promise;
  }

  async start(): Promise<void> {
    checkTunnelPrivileges("gateway", this.#options.forwarding ? ["ip", "nft"] : ["ip"]);
    this.#localApi = await openLocalApi(this.#options.socketPath, {
      board: this.#board,
      plane: () => this.#plane,
    });
    process.once("exit", this.#restoreSystem);
    const plane = new DataPlane<GatewayCommand, GatewayEvent>(
      {
        machine: { role: "gateway", privateKey: this.#privateKey },
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
    if (this.#options.forwarding) await this.#forwarding.enable(this.#options.tunName);
    this.#connectPortal(plane);
  }

  async stop(exitCode: number): Promise<void> {
    this.#localApi?.close();
    this.#portal?.close();
    this.#dns.close();
    await this.#configuration.settled();
    const statistics = await this.#plane?.shutdown();
    if (statistics !== undefined) this.#log.info(statistics as never, "final counters");
    this.#restoreSystem();
    process.off("exit", this.#restoreSystem);
    this.#finished.resolve(exitCode);
  }

  #connectPortal(plane: DataPlane<GatewayCommand, GatewayEvent>): void {
    const { portal, token, externalId, name } = this.#options;
    this.#portal = new PortalConnection(
      {
        role: "gateway",
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

  #handleEvent(event: GatewayEvent): void {
    switch (event.kind) {
      case "portal":
        this.#portal?.send(event.message);
        break;
      case "tun-config":
        this.#configuration.add(() => this.#configure(event.config));
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
    if (this.#configured) return;

    this.#configured = true;
    const elapsedMs = Math.round(performance.now() - this.#startedAt);
    this.#log.info({ elapsedMs, ipv4: families.v4, ipv6: families.v6 }, "gateway ready");
  }

  /** A and AAAA through the host's resolver, hosts file included. */
  async #resolve(id: number, name: string): Promise<void> {
    if (this.#resolutions >= MAX_RESOLUTIONS) return;

    this.#resolutions += 1;
    const lookup = dns.lookup(name, { all: true, order: "verbatim" }).finally(() => {
      this.#resolutions -= 1;
    });
    this.#plane?.send({ kind: "resolved", id, result: await withTimeout(lookup) });
  }

  #fail(message: string): void {
    this.#log.error({}, message);
    void this.stop(1);
  }

  readonly #restoreSystem = (): void => {
    if (this.#options.forwarding) this.#forwarding.disable();
  };
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
