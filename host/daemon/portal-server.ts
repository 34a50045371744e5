import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import type net from "node:net";
import path from "node:path";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { parseConfiguration } from "../portal/server/configuration.ts";
import { type Hello, type Refusal, refusal } from "../portal/server/hello.ts";
import type { Configuration } from "../portal/server/model.ts";
import type { ConnectionId } from "../portal/server/peers.ts";
import { PortalState, type PortalStatus } from "../portal/server/portal-state.ts";
import { MAX_INBOUND_FRAME_BYTES } from "../portal/wire.ts";
import { logPortalNote, type PortalLog } from "./portal-log.ts";
import { readTokenFile, tokenFilePath, tokenFileStamp } from "./token-file.ts";

// portal §22.6
const MAX_OUTBOUND_BYTES = 4 * 1024 * 1024;
// portal §24.4
const DRAIN_PER_SECOND = 200;
const DRAIN_LIMIT_MS = 30_000;
const DRAIN_INTERVAL_MS = 50;
const CLOSE_GRACE_MS = 2_000;
/** Revoked tokens take effect after at most this long; a new token at once, when it is first used. */
const TOKEN_POLL_MS = 2_000;

// WebSocket close codes
const UNSUPPORTED = 1003;
const RESTART = 1012;
const TRY_AGAIN_LATER = 1013;

export interface PortalServerOptions {
  readonly configFile: string;
  readonly log: PortalLog;
}

export interface RunningPortal {
  /** Where it listens: with the port that was taken if the configuration says 0. */
  readonly address: { readonly host: string; readonly port: number };
  /** What peers use as portal URL on this machine. */
  readonly url: string;
  status(): PortalStatus;
  /** Refused input by reason, since the start. */
  counters(): ReadonlyMap<string, number>;
  /** Reads configuration, tokens and certificate again; keeps what it has if the new is wrong. */
  reload(): void;
  /** Sends everybody away gently, then closes. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/** The configuration cannot be used. One line per problem, ready for people. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** Reads and checks a configuration file. Throws ConfigurationError. */
export function loadConfiguration(file: string): Configuration {
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigurationError([`${file}: cannot be read: ${messageOf(error)}`]);
  }
  const parsed = parseConfiguration(text, file);
  if (parsed.ok) return parsed.configuration;
  throw new ConfigurationError(parsed.problems);
}

/** Starts the portal. Rejects with ConfigurationError, TokenFileError, or the error of the listening socket. */
export async function startPortal(options: PortalServerOptions): Promise<RunningPortal> {
  const portal = new PortalServer(options);
  await portal.listen();
  return portal;
}

/** Joins `PortalState` to sockets, files and the clocks. */
class PortalServer implements RunningPortal {
  readonly #configFile: string;
  readonly #log: PortalLog;
  readonly #tokenFile: string;
  readonly #server: http.Server | https.Server;
  readonly #webSockets: WebSocketServer;
  readonly #state: PortalState;
  readonly #sockets = new Map<ConnectionId, WebSocket>();
  readonly #tokenPoll: NodeJS.Timeout;
  #tokenStamp: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;
  #isClosed = false;
  #address = { host: "", port: 0 };

  constructor({ configFile, log }: PortalServerOptions) {
    this.#configFile = configFile;
    this.#log = log;
    const configuration = loadConfiguration(configFile);
    this.#tokenFile = tokenFilePath(configFile, configuration.tokensPath);
    const { seed, tokens } = readTokenFile(this.#tokenFile);
    this.#tokenStamp = tokenFileStamp(this.#tokenFile);

    this.#server = createServer(configFile, configuration);
    this.#webSockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_INBOUND_FRAME_BYTES,
      // Released peers refuse an answer that selects a subprotocol (portal §2.3).
      handleProtocols: () => false,
    });
    this.#state = new PortalState(
      { configuration, tokens, seed, url: urlOf(configuration, configuration.listen.port) },
      { bytes: (length) => crypto.randomBytes(length), uniform: () => crypto.randomInt(2 ** 32) / 2 ** 32 },
      unixTime(),
      now(),
    );
    this.#server.on("request", (request, response) => this.#respond(request, response));
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#tokenPoll = setInterval(() => this.#refreshTokens(), TOKEN_POLL_MS);
  }

  get address(): { readonly host: string; readonly port: number } {
    return this.#address;
  }

  get url(): string {
    return urlOf(this.#state.configuration, this.#address.port);
  }

  async listen(): Promise<void> {
    const { host, port } = this.#state.configuration.listen;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(port, host, resolve);
      });
    } catch (error) {
      clearInterval(this.#tokenPoll);
      throw error;
    }
    const bound = this.#server.address() as net.AddressInfo;
    this.#address = { host: bound.address, port: bound.port };
    this.#server.on("error", (error) => this.#log.error({ error: error.message }, "listening socket failed"));
    this.#log.info({ port: bound.port }, "portal listens");
    this.#arm();
  }

  status(): PortalStatus {
    return this.#state.status;
  }

  counters(): ReadonlyMap<string, number> {
    return this.#state.counters;
  }

  reload(): void {
    try {
      this.#applyConfiguration(loadConfiguration(this.#configFile));
    } catch (error) {
      for (const problem of error instanceof ConfigurationError ? error.problems : [messageOf(error)]) {
        this.#log.error({ problem }, "configuration was not applied");
      }
    }
    this.#tokenStamp = undefined;
    this.#refreshTokens();
  }

  async drain(): Promise<void> {
    this.#isDraining = true;
    this.#state.handleDrain();
    const connections = shuffled([...this.#sockets.keys()]);
    const perStep = Math.ceil(
      Math.max(
        (DRAIN_PER_SECOND * DRAIN_INTERVAL_MS) / 1000,
        (connections.length * DRAIN_INTERVAL_MS) / DRAIN_LIMIT_MS,
      ),
    );
    while (connections.length > 0) {
      for (const connection of connections.splice(0, perStep)) this.#closeSocket(connection, RESTART);
      await new Promise((resolve) => setTimeout(resolve, DRAIN_INTERVAL_MS));
    }
    await this.close();
  }

  async close(): Promise<void> {
    clearInterval(this.#tokenPoll);
    this.#isClosed = true;
    this.#isDraining = true;
    this.#state.handleDrain();
    for (const connection of [...this.#sockets.keys()]) this.#closeSocket(connection, RESTART);
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
      setTimeout(() => this.#server.closeAllConnections(), CLOSE_GRACE_MS).unref();
    });
  }

  #applyConfiguration(configuration: Configuration): void {
    const old = this.#state.configuration;
    if (configuration.account.id !== old.account.id) {
      throw new Error(
        "account.id differs, so that everything would get another id; restart the portal instead",
      );
    }
    const isMoved =
      JSON.stringify(configuration.listen) !== JSON.stringify(old.listen) ||
      configuration.tokensPath !== old.tokensPath;
    if (isMoved) this.#log.warn({}, "changes of listen and storage need a restart");
    if (this.#server instanceof https.Server) {
      this.#server.setSecureContext(readCertificate(this.#configFile, old));
    }
    this.#state.handleConfiguration(configuration, now());
    this.#drain();
    this.#log.info({}, "configuration applied");
  }

  /** Reads the token file again if it was written since. */
  #refreshTokens(): void {
    const stamp = tokenFileStamp(this.#tokenFile);
    if (stamp === undefined || stamp === this.#tokenStamp) return;
    this.#tokenStamp = stamp;
    try {
      this.#state.handleTokens(readTokenFile(this.#tokenFile).tokens, now());
      this.#drain();
    } catch (error) {
      this.#log.error({ error: messageOf(error) }, "token file was not applied");
    }
  }

  #respond(request: http.IncomingMessage, response: http.ServerResponse): void {
    const target = (request.url ?? "").split("?", 1)[0];
    if (target === "/healthz") respond(response, 200, "ok");
    else if (target === "/readyz")
      respond(response, this.#isDraining ? 503 : 200, this.#isDraining ? "draining" : "ok");
    else if (target?.endsWith("/websocket")) respond(response, 400, "expected a WebSocket upgrade");
    else respond(response, 404, "not found");
  }

  #upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    if (!isWebSocketUpgrade(request)) {
      reject(socket, refusal(400, "invalid_upgrade", "expected a WebSocket upgrade of version 13"));
      return;
    }
    const hello: Hello = {
      target: request.url ?? "",
      authorization: headerText(request.headers["x-authorization"]),
      userAgent: request.headers["user-agent"],
      // A dual-stack socket shows IPv4 peers as mapped addresses.
      address: (request.socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, ""),
    };
    if (!this.#state.knowsToken(hello)) this.#refreshTokens();
    this.#state.handleUnixTime(unixTime(), now());
    const result = this.#state.handleHello(hello, now());
    if (result.kind === "refused") {
      this.#log.info({ status: result.refusal.status, code: result.refusal.code }, "refused a connection");
      reject(socket, result.refusal);
    } else {
      this.#accept(request, socket, head, result.connection);
    }
    this.#drain();
  }

  #accept(request: http.IncomingMessage, socket: Duplex, head: Buffer, connection: ConnectionId): void {
    socket.once("close", () => this.#forget(connection));
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#sockets.set(connection, webSocket);
      webSocket.on("message", (message, isBinary) => {
        if (isBinary) this.#closeSocket(connection, UNSUPPORTED);
        else this.#state.handleFrame(connection, String(message), now());
        this.#drain();
      });
      webSocket.on("close", () => this.#forget(connection));
      webSocket.on("error", (error) => this.#log.debug({ error: error.message }, "peer's connection failed"));
    });
  }

  #forget(connection: ConnectionId): void {
    this.#sockets.delete(connection);
    this.#state.handleClosed(connection, now());
    this.#drain();
  }

  #drain(): void {
    for (let send = this.#state.pollSend(); send; send = this.#state.pollSend()) {
      this.#send(send.connection, send.text);
    }
    for (let close = this.#state.pollClose(); close; close = this.#state.pollClose()) {
      this.#closeSocket(close.connection, close.code);
    }
    for (let note = this.#state.pollNote(); note; note = this.#state.pollNote())
      logPortalNote(this.#log, note);
    this.#arm();
  }

  #send(connection: ConnectionId, text: string): void {
    const socket = this.#sockets.get(connection);
    if (socket === undefined) return;
    if (socket.bufferedAmount + text.length > MAX_OUTBOUND_BYTES) {
      this.#log.warn({ connection }, "peer reads too slowly");
      this.#closeSocket(connection, TRY_AGAIN_LATER);
    } else {
      socket.send(text);
    }
  }

  /** Tells the machine at once: what the peer sends until it answers the close frame counts no more. */
  #closeSocket(connection: ConnectionId, code: number): void {
    const socket = this.#sockets.get(connection);
    this.#sockets.delete(connection);
    this.#state.handleClosed(connection, now());
    if (socket === undefined) return;
    socket.close(code);
    setTimeout(() => socket.terminate(), CLOSE_GRACE_MS).unref();
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const deadline = this.#state.pollTimeout();
    if (deadline === undefined || this.#isClosed) return;
    this.#timer = setTimeout(
      () => {
        this.#state.handleUnixTime(unixTime(), now());
        this.#state.handleTimeout(now());
        this.#drain();
      },
      Math.max(0, Math.ceil(deadline.at - now())),
    );
  }
}

function createServer(configFile: string, configuration: Configuration): http.Server | https.Server {
  if (configuration.listen.tls === undefined) return http.createServer();
  return https.createServer(readCertificate(configFile, configuration));
}

/** Paths count from the configuration file's folder. Throws ConfigurationError. */
function readCertificate(configFile: string, { listen }: Configuration): { cert: Buffer; key: Buffer } {
  const read = (name: "cert" | "key") => {
    const file = path.resolve(path.dirname(configFile), listen.tls?.[name] ?? "");
    try {
      return fs.readFileSync(file);
    } catch (error) {
      const problem = `listen.sockets.${name}: cannot be read: ${messageOf(error)}`;
      throw new ConfigurationError([`${configFile}: ${problem}`]);
    }
  };
  return { cert: read("cert"), key: read("key") };
}

function urlOf({ listen }: Configuration, port: number): string {
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return `${listen.tls === undefined ? "http" : "https"}://${host}:${port}/`;
}

function isWebSocketUpgrade({ method, headers }: http.IncomingMessage): boolean {
  if (method !== "GET" || headers.upgrade?.toLowerCase() !== "websocket") return false;
  return (
    headers["sec-websocket-version"] === "13" &&
    /^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? "")
  );
}

/**
 * Head and body in one write, with their length and neither compressed nor chunked: released peers
 * read the reason only from the bytes that arrive together with the head (portal §2.5).
 */
function reject(socket: Duplex, { status, title, code, detail, retryAfterS }: Refusal): void {
  const body = JSON.stringify({ type: "about:blank", title, status, detail, code });
  const head = [
    `HTTP/1.1 ${status} ${title}`,
    "Content-Type: application/problem+json; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(retryAfterS === undefined ? [] : [`Retry-After: ${retryAfterS}`]),
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
  // Whoever does not close its side would keep the socket for ever.
  setTimeout(() => socket.destroy(), CLOSE_GRACE_MS).unref();
}

function respond(response: http.ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${text}\n`);
}

function headerText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function shuffled<T>(values: T[]): T[] {
  for (let i = values.length - 1; i > 0; i--) {
    const j = crypto.randomInt(i + 1);
    [values[i], values[j]] = [values[j] as T, values[i] as T];
  }
  return values;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function now(): number {
  return performance.now() + 1;
}

function unixTime(): number {
  return Date.now() / 1000;
}
