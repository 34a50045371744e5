import dgram from "node:dgram";
import { type IpAddress, ip, isIpv4, type SocketAddress } from "../core/address.ts";
import { openMarkedDatagramSocket } from "../io/linux/marked-socket.ts";

// tunnel-core §2.4 and §2.5
const TIMEOUT_MS = 5000;
const MAX_CONCURRENT = 1000;

export type ForwardResult =
  | { readonly kind: "answer"; readonly message: Uint8Array }
  | { readonly kind: "timeout" }
  | { readonly kind: "failed" };

/**
 * Performs DNS queries on the host's network, around the tunnel.
 *
 * One fresh marked socket per query; only an answer from the asked server with the asked id counts
 * (platform §7.1).
 */
export class DnsForwarder {
  readonly #mark: number;
  #running = 0;

  constructor(mark: number) {
    this.#mark = mark;
  }

  /** Never rejects. */
  async forward(server: SocketAddress, message: Uint8Array): Promise<ForwardResult> {
    if (this.#running >= MAX_CONCURRENT) return { kind: "failed" };

    this.#running += 1;
    try {
      return await this.#ask(server, message);
    } catch {
      return { kind: "failed" };
    } finally {
      this.#running -= 1;
    }
  }

  async #ask(server: SocketAddress, message: Uint8Array): Promise<ForwardResult> {
    const family = isIpv4(server.ip) ? 4 : 6;
    const fd = openMarkedDatagramSocket(family, 0, this.#mark);
    if (fd === undefined) return { kind: "failed" };

    const socket = dgram.createSocket(family === 4 ? "udp4" : "udp6");
    const result = Promise.withResolvers<ForwardResult>();
    const timer = setTimeout(() => result.resolve({ kind: "timeout" }), TIMEOUT_MS);
    socket.on("error", () => result.resolve({ kind: "failed" }));
    socket.on("message", (answer, remote) => {
      if (remote.port === server.port && plainIp(remote.address) === server.ip && sameId(answer, message)) {
        result.resolve({ kind: "answer", message: answer });
      }
    });
    socket.bind({ fd }, () => {
      socket.send(message, server.port, server.ip, (error) => {
        if (error !== null) result.resolve({ kind: "failed" });
      });
    });
    try {
      return await result.promise;
    } finally {
      clearTimeout(timer);
      socket.close();
    }
  }
}

function plainIp(address: string): IpAddress {
  return ip(address.split("%")[0] ?? "");
}

function sameId(answer: Uint8Array, query: Uint8Array): boolean {
  return answer.length >= 12 && answer[0] === query[0] && answer[1] === query[1];
}
