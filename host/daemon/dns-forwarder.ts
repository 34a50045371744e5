import dgram from "node:dgram";
import { type IpAddress, ip, isIpv4, type SocketAddress } from "../core/address.ts";
import { frameMessage } from "../core/dns/stream-framing.ts";
import { beginConnectMarked, openMarkedDatagramSocket } from "../io/linux/marked-socket.ts";
import { MessageReader } from "./message-reader.ts";

// tunnel-core §2.4 and §2.5
const TIMEOUT_MS = 5000;
const MAX_CONCURRENT = 1000;

export type ForwardResult =
  | { readonly kind: "answer"; readonly message: Uint8Array }
  | { readonly kind: "timeout" }
  | { readonly kind: "failed" };

export type DnsTransport = "udp" | "tcp";

/**
 * Performs DNS queries on the host's network, around the tunnel.
 *
 * One fresh marked socket per query, also over TCP; only an answer from the asked server with the asked id counts
 * (platform §7.1).
 */
export class DnsForwarder {
  readonly #mark: number;
  #running = 0;

  constructor(mark: number) {
    this.#mark = mark;
  }

  /** Never rejects. */
  async forward(
    server: SocketAddress,
    message: Uint8Array,
    transport: DnsTransport,
    timeoutMs = TIMEOUT_MS,
  ): Promise<ForwardResult> {
    if (this.#running >= MAX_CONCURRENT) return { kind: "failed" };

    this.#running += 1;
    const result = Promise.withResolvers<ForwardResult>();
    const timer = setTimeout(() => result.resolve({ kind: "timeout" }), timeoutMs);
    try {
      const end =
        transport === "udp" ? this.#askUdp(server, message, result) : this.#askTcp(server, message, result);
      try {
        return await result.promise;
      } finally {
        end();
      }
    } catch {
      return { kind: "failed" };
    } finally {
      clearTimeout(timer);
      this.#running -= 1;
    }
  }

  /** Returns what ends the exchange. */
  #askUdp(
    server: SocketAddress,
    message: Uint8Array,
    result: PromiseWithResolvers<ForwardResult>,
  ): () => void {
    const family = isIpv4(server.ip) ? 4 : 6;
    const fd = openMarkedDatagramSocket(family, 0, this.#mark);
    if (fd === undefined) throw new Error("no UDP socket");

    const socket = dgram.createSocket(family === 4 ? "udp4" : "udp6");
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
    return () => socket.close();
  }

  #askTcp(
    server: SocketAddress,
    message: Uint8Array,
    result: PromiseWithResolvers<ForwardResult>,
  ): () => void {
    const socket = beginConnectMarked(server, this.#mark);
    const reader = new MessageReader();
    socket.on("error", () => result.resolve({ kind: "failed" }));
    socket.on("close", () => result.resolve({ kind: "failed" }));
    socket.on("data", (chunk: Buffer) => {
      for (const answer of reader.read(chunk)) {
        if (sameId(answer, message)) result.resolve({ kind: "answer", message: answer });
      }
    });
    socket.write(frameMessage(message));
    return () => socket.destroy();
  }
}

function plainIp(address: string): IpAddress {
  return ip(address.split("%")[0] ?? "");
}

function sameId(answer: Uint8Array, query: Uint8Array): boolean {
  return answer.length >= 12 && answer[0] === query[0] && answer[1] === query[1];
}
