import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import { type IpAddress, isIpv4 } from "../core/address.ts";
import { decodeQuery, emptyResponse, fitUdp, RCODE_SERVFAIL } from "../core/dns/message.ts";
import { frameMessage } from "../core/dns/stream-framing.ts";
import type { DnsForwarder, DnsTransport } from "./dns-forwarder.ts";
import type { Logger } from "./log.ts";
import { MessageReader } from "./message-reader.ts";
import { NameserverRanking } from "./nameserver-ranking.ts";

/** Known to every client; never changes (tunnel-core §2.2). */
const PORT = 53535;
const NAMESERVER_PORT = 53;
/** tunnel-core §2.3. */
const MAX_UDP_ANSWER_BYTES = 1200;
/** Addresses that are new may take a moment until they can be bound (tunnel-core §13.8). */
const BIND_TRIES = 3;
const BIND_PAUSE_MS = 100;
/** Further connections are refused. */
const MAX_CONNECTIONS = 256;
/** Queries of one connection in work; further ones fail. A Culvert client asks as many at once. */
const MAX_PIPELINED = 256;
const IDLE_MS = 30_000;

export interface GatewayDnsParts {
  readonly forwarder: DnsForwarder;
  /** Read anew for every ranking. */
  readonly nameservers: () => readonly IpAddress[];
  readonly log: Logger;
}

/**
 * Answers clients' DNS queries on the gateway's own tunnel addresses with what the site's fastest nameserver
 * says (tunnel-core §13.9), so that SRV and TXT of names that only the site knows can be resolved.
 */
export class GatewayDns {
  readonly #parts: GatewayDnsParts;
  readonly #ranking: NameserverRanking;
  #addresses: readonly IpAddress[] = [];
  #closers: (() => void)[] = [];

  constructor(parts: GatewayDnsParts) {
    this.#parts = parts;
    this.#ranking = new NameserverRanking(parts.forwarder, parts.nameservers);
  }

  /** Serves on these addresses and no others. Never rejects; an address that cannot be bound is logged. */
  async serve(addresses: readonly IpAddress[]): Promise<void> {
    if (addresses.join() === this.#addresses.join()) return;

    this.close();
    this.#addresses = addresses;
    this.#ranking.start();
    for (const address of addresses) {
      try {
        this.#closers.push(await retry(() => this.#serveUdp(address)));
        this.#closers.push(await retry(() => this.#serveTcp(address)));
      } catch (error) {
        this.#parts.log.warn({ error: (error as Error).message }, "cannot serve DNS on a tunnel address");
      }
    }
  }

  close(): void {
    this.#ranking.stop();
    for (const close of this.#closers) close();
    this.#closers = [];
    this.#addresses = [];
  }

  async #serveUdp(address: IpAddress): Promise<() => void> {
    const socket = dgram.createSocket(isIpv4(address) ? "udp4" : "udp6");
    const listening = once(socket, "listening");
    socket.bind(PORT, address);
    await listening.catch((error: unknown) => {
      socket.close();
      throw error;
    });
    // Errors of sending say something about one client only.
    socket.on("error", () => {});
    let isOpen = true;
    socket.on("message", (message, remote) => {
      void this.#answer(message, "udp").then((answer) => {
        if (answer === undefined || !isOpen) return;
        socket.send(fitUdp(answer, MAX_UDP_ANSWER_BYTES), remote.port, remote.address);
      });
    });
    return () => {
      isOpen = false;
      socket.close();
    };
  }

  async #serveTcp(address: IpAddress): Promise<() => void> {
    const sockets = new Set<net.Socket>();
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      this.#serveConnection(socket);
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(PORT, address);
    await once(server, "listening");
    return () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    };
  }

  #serveConnection(socket: net.Socket): void {
    const reader = new MessageReader();
    let inWork = 0;
    let hasEnded = false;
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("end", () => {
      hasEnded = true;
      if (inWork === 0) socket.end();
    });
    // A client that does not read is not read from either, so that answers cannot pile up.
    socket.on("drain", () => socket.resume());
    socket.on("data", (chunk: Buffer) => {
      for (const message of reader.read(chunk)) {
        inWork += 1;
        const answer =
          inWork > MAX_PIPELINED ? Promise.resolve(refusal(message)) : this.#answer(message, "tcp");
        void answer.then((bytes) => {
          inWork -= 1;
          if (bytes === undefined) socket.destroy();
          else if (!socket.destroyed && !socket.write(frameMessage(bytes))) socket.pause();
          if (hasEnded && inWork === 0) socket.end();
        });
      }
    });
  }

  /** Undefined: no query. */
  async #answer(message: Uint8Array, transport: DnsTransport): Promise<Uint8Array | undefined> {
    const query = decodeQuery(message);
    if (query === undefined) return undefined;

    const nameserver = this.#ranking.fastest(transport);
    if (nameserver === undefined) return refusal(message);
    const server = { ip: nameserver, port: NAMESERVER_PORT };
    const result = await this.#parts.forwarder.forward(server, query.bytes, transport);
    return result.kind === "answer" ? result.message : emptyResponse(query, RCODE_SERVFAIL);
  }
}

function refusal(message: Uint8Array): Uint8Array | undefined {
  const query = decodeQuery(message);
  return query === undefined ? undefined : emptyResponse(query, RCODE_SERVFAIL);
}

async function retry<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (tries === BIND_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, BIND_PAUSE_MS));
    }
  }
}
