import type { IncomingMessage } from "node:http";
import https from "node:https";
import type net from "node:net";
import tls from "node:tls";
import type { IpAddress, SocketAddress } from "../core/address.ts";
import { DOH_CONTENT_TYPE, dohRequestUrl } from "../core/dns/doh.ts";
import type { ForwardResult } from "./dns-forwarder.ts";

// tunnel-core §2.4 and §2.5
const TIMEOUT_MS = 5000;
const MAX_CONCURRENT = 1000;
const MAX_SOCKETS = 4;
const IDLE_MS = 30_000;
/** RFC 8484 §6: a message as of TCP. */
const MAX_ANSWER_BYTES = 0xffff;
const HTTPS_PORT = 443;

export interface DohClientParts {
  /** Addresses of a server's host, found around the tunnel. */
  readonly resolve: (host: string) => Promise<readonly IpAddress[]>;
  /** Begins a TCP connection around the tunnel. */
  readonly connect: (remote: SocketAddress) => net.Socket;
  /** Certificates to trust instead of the built-in ones. */
  readonly ca?: string | Buffer;
}

/** Asks DNS servers over HTTPS (RFC 8484, tunnel-core §11.6); connections are kept for the next query. */
export class DohClient {
  readonly #parts: DohClientParts;
  #agent: https.Agent;
  #running = 0;

  constructor(parts: DohClientParts) {
    this.#parts = parts;
    this.#agent = createAgent(parts);
  }

  /** Never rejects. The message has the id 0. */
  async ask(server: string, message: Uint8Array): Promise<ForwardResult> {
    if (this.#running >= MAX_CONCURRENT) return { kind: "failed" };

    this.#running += 1;
    const result = Promise.withResolvers<ForwardResult>();
    try {
      const request = https.get(
        dohRequestUrl(server, message),
        { agent: this.#agent, headers: { accept: DOH_CONTENT_TYPE } },
        (response) => {
          readAnswer(response).then(result.resolve, () => result.resolve({ kind: "failed" }));
        },
      );
      request.on("error", () => result.resolve({ kind: "failed" }));
      const timer = setTimeout(() => result.resolve({ kind: "timeout" }), TIMEOUT_MS);
      try {
        return await result.promise;
      } finally {
        clearTimeout(timer);
        // Whatever is still going on is of no interest any more; a finished request keeps its connection.
        request.destroy();
      }
    } catch {
      return { kind: "failed" };
    } finally {
      this.#running -= 1;
    }
  }

  /** The network changed: connections start over. Queries in flight fail. */
  reset(): void {
    this.#agent.destroy();
    this.#agent = createAgent(this.#parts);
  }
}

async function readAnswer(response: IncomingMessage): Promise<ForwardResult> {
  const type = response.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (response.statusCode !== 200 || type !== DOH_CONTENT_TYPE) {
    response.resume();
    return { kind: "failed" };
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) return { kind: "failed" };
    chunks.push(chunk);
  }
  return { kind: "answer", message: Buffer.concat(chunks) };
}

function createAgent(parts: DohClientParts): https.Agent {
  const agent = new https.Agent({ keepAlive: true, maxSockets: MAX_SOCKETS, timeout: IDLE_MS });
  agent.createConnection = (options, callback) => {
    connectTls(parts, options as tls.ConnectionOptions).then(
      (socket) => callback?.(null, socket),
      (error: unknown) => callback?.(error as Error, undefined as never),
    );
    return undefined as never;
  };
  return agent;
}

async function connectTls(parts: DohClientParts, options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const host = options.host ?? "";
  const [ip] = await parts.resolve(host);
  if (ip === undefined) throw new Error(`no address for ${host}`);

  const socket = parts.connect({ ip, port: Number(options.port ?? HTTPS_PORT) });
  const ca = parts.ca === undefined ? {} : { ca: parts.ca };
  const secured = tls.connect({ ...options, ...ca, socket, ALPNProtocols: ["http/1.1"] });
  // Without a listener an error of the TCP socket below would end the process.
  socket.on("error", (error) => secured.destroy(error));
  return secured;
}
