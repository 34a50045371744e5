import type { ClientRequest, ClientRequestArgs, IncomingMessage } from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import WebSocket from "ws";
import type { Rejection } from "../portal/channel.ts";
import { parseRetryAfter } from "../portal/retry.ts";
import { MAX_PUSH_FRAME_BYTES, parseJson } from "../portal/wire.ts";

/** Where a TCP connection goes; the host may be a name. */
export interface ConnectTarget {
  readonly host: string;
  readonly port: number;
}

export interface PortalSocketOptions {
  readonly url: URL;
  /** Undefined: the token is in the query. */
  readonly token: string | undefined;
  readonly userAgent: string;
  /** Makes the TCP connection, so that it can be marked or bound; it may be connected already. */
  readonly createSocket?: ((target: ConnectTarget) => net.Socket | Promise<net.Socket>) | undefined;
  /** Resolves names for connections that `createSocket` does not make. */
  readonly lookup?: net.LookupFunction | undefined;
  /** Certificates to trust instead of the runtime's own, in PEM. */
  readonly ca?: string | undefined;
}

export interface PortalSocketHandlers {
  onOpened(): void;
  onFrame(text: string): void;
  onRejected(rejection: Rejection): void;
  /** Once, unless the socket was closed from this side or rejected. */
  onClosed(reason: string): void;
}

const MAX_REJECTION_BYTES = 64 * 1024;
/** How long the other side may take to answer a close frame. */
const CLOSE_GRACE_MS = 2_000;

/** One WebSocket to a portal. After `close` no handler is called any more. */
export class PortalSocket {
  readonly #socket: WebSocket;
  #isAbandoned = false;

  constructor(options: PortalSocketOptions, handlers: PortalSocketHandlers) {
    this.#socket = open(options);
    let lastError = "connection ended";
    this.#socket.on("open", () => this.#report(() => handlers.onOpened()));
    this.#socket.on("message", (message, isBinary) => {
      if (!isBinary) this.#report(() => handlers.onFrame(String(message)));
    });
    this.#socket.on("unexpected-response", (request: ClientRequest, response: IncomingMessage) => {
      void readRejection(response).then((rejection) => {
        request.destroy();
        this.#report(() => handlers.onRejected(rejection));
        this.#isAbandoned = true;
      });
    });
    this.#socket.on("error", (error) => {
      lastError = error.message;
    });
    this.#socket.on("close", (code) => {
      this.#report(() => handlers.onClosed(code === 1006 ? lastError : `close code ${code}`));
      this.#isAbandoned = true;
    });
  }

  send(text: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(text);
  }

  close(code: number): void {
    this.#isAbandoned = true;
    this.#socket.close(code);
    setTimeout(() => this.#socket.terminate(), CLOSE_GRACE_MS).unref();
  }

  #report(handler: () => void): void {
    if (!this.#isAbandoned) handler();
  }
}

function open({ url, token, userAgent, createSocket, lookup, ca }: PortalSocketOptions): WebSocket {
  return new WebSocket(url, {
    perMessageDeflate: false,
    maxPayload: MAX_PUSH_FRAME_BYTES,
    headers: {
      // Without port, as released peers send it (portal §2.3).
      Host: url.hostname,
      "User-Agent": userAgent,
      ...(token === undefined ? {} : { "X-Authorization": `Bearer ${token.replace(/\s/g, "")}` }),
    },
    ...(lookup === undefined ? {} : { lookup }),
    ...(ca === undefined ? {} : { ca }),
    ...(createSocket === undefined ? {} : { createConnection: connectWith(createSocket, url, ca) }),
  });
}

type ConnectCallback = (error: Error | null, stream: Duplex) => void;

/** Adapts the hook to what `http.request` expects; TLS is put on top of the socket where the URL asks for it. */
function connectWith(
  createSocket: (target: ConnectTarget) => net.Socket | Promise<net.Socket>,
  url: URL,
  ca: string | undefined,
) {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isSecure = url.protocol === "wss:";
  const port = url.port === "" ? (isSecure ? 443 : 80) : Number(url.port);
  const connect = async (): Promise<Duplex> => {
    const socket = await createSocket({ host, port });
    socket.setNoDelay(true);
    if (!isSecure) return socket;
    const servername = net.isIP(host) === 0 ? { servername: host } : {};
    return tls.connect({ socket, ...servername, ...(ca === undefined ? {} : { ca }) });
  };
  const adapter = (_options: ClientRequestArgs, callback: ConnectCallback): undefined => {
    connect().then(
      (stream) => callback(null, stream),
      (error: unknown) =>
        callback(error instanceof Error ? error : new Error(String(error)), new net.Socket()),
    );
  };
  // The types know only the synchronous form; `http.request` takes the callback as well.
  return adapter as unknown as typeof net.createConnection;
}

async function readRejection(response: IncomingMessage): Promise<Rejection> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_REJECTION_BYTES) break;
      chunks.push(chunk);
    }
  } catch {
    // What arrived before the connection broke is all there is to know.
  }
  const retryAfter = response.headers["retry-after"];
  return {
    status: response.statusCode ?? 0,
    code: problemCode(Buffer.concat(chunks).toString("utf8")),
    retryAfterMs: retryAfter === undefined ? undefined : parseRetryAfter(retryAfter, Date.now()),
  };
}

function problemCode(body: string): string | undefined {
  const problem = parseJson(body);
  if (typeof problem !== "object" || problem === null || !("code" in problem)) return undefined;
  return typeof problem.code === "string" ? problem.code : undefined;
}
