import dgram from "node:dgram";
import { once } from "node:events";
import { type IpAddress, ip } from "../core/address.ts";
import { BindingServer } from "../core/relay/binding-server.ts";
import { systemRandom } from "../io/random.ts";
import { monotonicNow } from "./clock.ts";
import type { Logger } from "./log.ts";
import { PortalConnection } from "./portal-connection.ts";
import { fatalText } from "./portal-link.ts";

const BUFFER_BYTES = 4 << 20;

export interface RelayOptions {
  readonly portal: URL;
  readonly token: string;
  readonly name: string;
  /** Addresses under which clients and gateways reach this relay; at least one. */
  readonly publicIpv4: IpAddress | undefined;
  readonly publicIpv6: IpAddress | undefined;
  readonly port: number;
}

/** The relay: answers STUN Binding requests on UDP, and is registered at the portal. */
export class RelayDaemon {
  readonly #options: RelayOptions;
  readonly #log: Logger;
  readonly #server = new BindingServer();
  readonly #sockets: dgram.Socket[] = [];
  readonly #finished = Promise.withResolvers<number>();
  #portal: PortalConnection<"relay"> | undefined;

  constructor(options: RelayOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
  }

  /** Resolves with the exit code once the daemon has ended. */
  finished(): Promise<number> {
    return this.#finished.promise;
  }

  /** Rejects if a socket cannot be bound. */
  async start(): Promise<void> {
    const { publicIpv4, publicIpv6, port } = this.#options;
    if (publicIpv4 !== undefined) await this.#listen("udp4", "0.0.0.0");
    if (publicIpv6 !== undefined) await this.#listen("udp6", "::");
    this.#log.info({ port }, "relay listening");
    this.#portal = new PortalConnection(
      {
        role: "relay",
        url: this.#options.portal.href,
        token: this.#options.token,
        name: this.#options.name,
        relay: {
          ipv4: publicIpv4,
          ipv6: publicIpv6,
          port,
          // Keys the TURN credentials that the portal hands out for this relay (portal §8).
          stampSecret: Buffer.from(systemRandom().bytes(32)).toString("hex"),
        },
        log: this.#log,
      },
      {
        onMessage: () => {},
        onState: (state) => this.#log.info({ state }, "portal connection"),
        onFatal: (error) => {
          this.#log.error({}, fatalText(error));
          void this.stop(1);
        },
      },
    );
  }

  async stop(exitCode: number): Promise<void> {
    this.#portal?.close();
    for (const socket of this.#sockets) socket.close();
    this.#log.info(this.#server.counters(), "final counters");
    this.#finished.resolve(exitCode);
  }

  async #listen(type: "udp4" | "udp6", address: string): Promise<void> {
    const socket = dgram.createSocket({
      type,
      ipv6Only: type === "udp6",
      recvBufferSize: BUFFER_BYTES,
      sendBufferSize: BUFFER_BYTES,
    });
    const bound = once(socket, "listening");
    socket.bind(this.#options.port, address);
    await bound;
    socket.on("error", (error) => this.#log.debug({ error: error.message }, "socket error"));
    const local = { ip: ip(address), port: this.#options.port };
    socket.on("message", (payload, remote) => {
      const from = { ip: ip(remote.address.split("%")[0] ?? ""), port: remote.port };
      const answer = this.#server.handleDatagram({ local, from, payload }, monotonicNow());
      if (answer !== undefined) socket.send(answer, remote.port, remote.address);
    });
    this.#sockets.push(socket);
  }
}
