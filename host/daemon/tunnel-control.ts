import { noiseCrypto } from "../io/crypto.ts";
import { FIREWALL_MARK } from "../io/linux/network.ts";
import { systemRandom } from "../io/random.ts";
import { DataPlane } from "./data-plane.ts";
import type { LocalApi } from "./local-api.ts";
import { openLocalApi } from "./local-handlers.ts";
import type { Logger } from "./log.ts";
import { PortalConnection, type PortalMessages } from "./portal-connection.ts";
import { connectAroundTunnel, fatalText } from "./portal-link.ts";
import { StatusBoard } from "./status.ts";
import { TaskQueue } from "./task-queue.ts";
import type { TunnelDaemonOptions } from "./tunnel-options.ts";

export interface TunnelControlParts<Role extends "client" | "gateway", Command, Event> {
  readonly role: Role;
  readonly options: TunnelDaemonOptions;
  readonly log: Logger;
  /** A message of the portal, as the machine takes it. */
  readonly fromPortal: (message: PortalMessages[Role]["ingress"]) => Command;
  readonly onEvent: (event: Event) => void;
  /** Closes what the role opened and undoes what it changed on this host; at every end, also in an exit handler. */
  readonly cleanUp: () => void;
}

/**
 * What the control threads of client and gateway share: the data thread, the portal, the local API, changes to
 * the system one after the other, and an end that puts everything back whatever led to it.
 */
export class TunnelControl<Role extends "client" | "gateway", Command, Event> {
  readonly #parts: TunnelControlParts<Role, Command, Event>;
  readonly #board: StatusBoard;
  readonly #configuration = new TaskQueue((error) =>
    this.fail(`cannot configure the system: ${error.message}`),
  );
  readonly #finished = Promise.withResolvers<number>();
  readonly #startedAt = performance.now();
  #privateKey = systemRandom().bytes(32);
  #plane: DataPlane<Command, Event> | undefined;
  #portal: PortalConnection<Role> | undefined;
  #localApi: LocalApi | undefined;
  #isStopping = false;
  #isReady = false;

  constructor(parts: TunnelControlParts<Role, Command, Event>) {
    this.#parts = parts;
    this.#board = new StatusBoard(parts.options);
  }

  /** Resolves with the exit code once everything has ended. */
  finished(): Promise<number> {
    return this.#finished.promise;
  }

  /** Opens the local API, starts the data thread, and resolves when device and sockets exist. */
  async start(): Promise<void> {
    const { role, options, log, onEvent, cleanUp } = this.#parts;
    this.#localApi = await openLocalApi(options.socketPath, { board: this.#board, plane: () => this.#plane });
    this.#plane = new DataPlane<Command, Event>(
      {
        machine: { role, privateKey: this.#privateKey },
        tunName: options.tunName,
        backend: options.udpBackend,
        port: options.udpPort,
        mark: FIREWALL_MARK,
      },
      { onEvent, onFailure: (message) => this.fail(message) },
    );
    const { offload } = await this.#plane.ready();
    log.debug({ offload }, "TUN device created");
    process.once("exit", cleanUp);
  }

  connectPortal(): void {
    const { role, options, log, fromPortal } = this.#parts;
    this.#portal = new PortalConnection<Role>(
      {
        role,
        url: options.portal.href,
        token: options.token,
        externalId: options.externalId,
        name: options.name,
        publicKey: noiseCrypto().publicKey(this.#privateKey),
        createSocket: (target) => connectAroundTunnel(target, FIREWALL_MARK),
        log,
      },
      {
        onMessage: (message) => this.send(fromPortal(message)),
        onState: (state) => {
          this.#board.setPortal(state);
          log.info({ state }, "portal connection");
        },
        onFatal: (error) => this.fail(fatalText(error)),
      },
    );
  }

  send(command: Command): void {
    this.#plane?.send(command);
  }

  tellPortal(message: PortalMessages[Role]["egress"]): void {
    this.#portal?.send(message);
  }

  /** Takes a new node key and tells the portal; returns it for the machine. */
  renewKey(): Uint8Array {
    this.#privateKey = systemRandom().bytes(32);
    this.#portal?.reconnect(noiseCrypto().publicKey(this.#privateKey));
    return this.#privateKey;
  }

  /** Changes the system after everything that was asked for before; a failure ends the daemon. */
  configure(change: () => Promise<void>): void {
    this.#configuration.add(change);
  }

  /** Says once that the tunnel can be used, and how long that took. */
  reportReady(message: string, fields: Readonly<Record<string, unknown>>): void {
    if (this.#isReady) return;
    this.#isReady = true;
    this.#parts.log.info({ elapsedMs: Math.round(performance.now() - this.#startedAt), ...fields }, message);
  }

  /** Ends the daemon with an error. */
  fail(message: string): void {
    this.#parts.log.error({}, message);
    void this.stop(1);
  }

  /** Says goodbye, puts the system back, and makes `finished` resolve; later calls change nothing. */
  async stop(exitCode: number): Promise<void> {
    if (this.#isStopping) return;
    this.#isStopping = true;
    const { log, cleanUp } = this.#parts;
    this.#localApi?.close();
    this.#portal?.close();
    await this.#configuration.settled();
    const statistics = await this.#plane?.shutdown();
    if (statistics !== undefined) log.info({ ...statistics }, "final counters");
    cleanUp();
    process.off("exit", cleanUp);
    this.#finished.resolve(exitCode);
  }
}
