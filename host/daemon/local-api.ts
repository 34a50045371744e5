import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import type { Explanation, Question } from "../core/explanation.ts";
import {
  decodeRequest,
  encodeLine,
  type LocalAnswer,
  type LocalRequest,
  MAX_REQUEST_BYTES,
} from "./local-protocol.ts";
import { SetupError } from "./preflight.ts";
import type { DaemonStatus } from "./status.ts";

/** Further ones are told so and closed. */
export const MAX_CONNECTIONS = 16;
/** A connection that says nothing for so long is closed. */
const IDLE_MS = 30_000;
/** What a kernel takes as the path of a Unix socket, its final zero left out. */
const MAX_SOCKET_PATH_BYTES = 107;
const PROBE_MS = 1000;

/** What the API tells about; each may reject, which the asker learns. */
export interface LocalApiHandlers {
  status(): Promise<DaemonStatus>;
  explain(question: Question): Promise<Explanation>;
}

/**
 * Answers questions of the local machine's administrator on a Unix socket: one line of JSON each, in order.
 *
 * The socket is the permission: mode 0600, in a directory that is made with mode 0750.
 */
export class LocalApi {
  readonly #path: string;
  readonly #handlers: LocalApiHandlers;
  readonly #server: net.Server;
  readonly #connections = new Set<net.Socket>();
  #inode: number | undefined;

  private constructor(socketPath: string, handlers: LocalApiHandlers) {
    this.#path = socketPath;
    this.#handlers = handlers;
    this.#server = net.createServer((socket) => this.#accept(socket));
  }

  /**
   * Listens. Replaces the socket of a process that was killed; throws SetupError if another daemon answers there,
   * or if the path cannot be used.
   */
  static async open(socketPath: string, handlers: LocalApiHandlers): Promise<LocalApi> {
    const absolute = path.resolve(socketPath);
    if (Buffer.byteLength(absolute) > MAX_SOCKET_PATH_BYTES) {
      throw new SetupError(`--socket: ${absolute} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`);
    }
    try {
      makeDirectory(path.dirname(absolute));
      await removeStale(absolute);
      const api = new LocalApi(absolute, handlers);
      await api.#listen();
      return api;
    } catch (error) {
      if (error instanceof SetupError) throw error;
      throw new SetupError(
        `cannot listen on ${absolute}: ${(error as Error).message}; name another place with --socket`,
      );
    }
  }

  /** Ends all connections and removes the socket. */
  close(): void {
    process.off("exit", this.#remove);
    for (const socket of this.#connections) socket.destroy();
    // Closing a server unlinks its path, whoever has taken that over.
    if (this.#isOurs()) this.#server.close();
    else this.#server.unref();
  }

  async #listen(): Promise<void> {
    const listening = Promise.withResolvers<void>();
    this.#server.once("error", listening.reject);
    // Binding happens within the call, so that nobody else can connect before the mode is right.
    const umask = process.umask(0o177);
    try {
      this.#server.listen(this.#path, listening.resolve);
    } finally {
      process.umask(umask);
    }
    await listening.promise;
    this.#server.off("error", listening.reject);
    this.#server.on("error", () => {});
    this.#inode = fs.statSync(this.#path).ino;
    process.once("exit", this.#remove);
  }

  #accept(socket: net.Socket): void {
    socket.on("error", () => socket.destroy());
    if (this.#connections.size >= MAX_CONNECTIONS) {
      socket.end(encodeLine(failure("busy", "too many connections")));
      return;
    }
    this.#connections.add(socket);
    socket.on("close", () => this.#connections.delete(socket));
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    void this.#serve(socket);
  }

  /** One request at a time: the next line is read when the answer has left. */
  async #serve(socket: net.Socket): Promise<void> {
    let unread = Buffer.alloc(0);
    try {
      for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        unread = Buffer.concat([unread, chunk]);
        for (let end = unread.indexOf(0x0a); end >= 0; end = unread.indexOf(0x0a)) {
          const line = unread.subarray(0, end);
          unread = unread.subarray(end + 1);
          await send(socket, await this.#answer(line));
        }
        if (unread.length > MAX_REQUEST_BYTES) break;
      }
      if (unread.length > MAX_REQUEST_BYTES) await send(socket, failure("bad-request", "line is too long"));
      socket.end();
    } catch {
      socket.destroy();
    }
  }

  async #answer(line: Buffer): Promise<LocalAnswer> {
    const request = decodeRequest(line);
    if (typeof request === "string") return failure("bad-request", request);
    try {
      return { ok: true, result: await this.#ask(request) };
    } catch (error) {
      return failure("unavailable", (error as Error).message);
    }
  }

  #ask(request: LocalRequest): Promise<DaemonStatus | Explanation> {
    switch (request.method) {
      case "status":
        return this.#handlers.status();
      case "explain":
        return this.#handlers.explain(request.question);
    }
  }

  /** Another daemon may have taken the path meanwhile: only our own socket is removed. */
  readonly #remove = (): void => {
    if (this.#isOurs()) fs.rmSync(this.#path, { force: true });
  };

  #isOurs(): boolean {
    return fs.statSync(this.#path, { throwIfNoEntry: false })?.ino === this.#inode;
  }
}

function failure(code: "bad-request" | "busy" | "unavailable", message: string): LocalAnswer {
  return { ok: false, error: { code, message } };
}

async function send(socket: net.Socket, answer: LocalAnswer): Promise<void> {
  const sent = Promise.withResolvers<void>();
  socket.write(encodeLine(answer), (error) => (error ? sent.reject(error) : sent.resolve()));
  await sent.promise;
}

/** One level only. Existing directories keep their mode: they are not ours. */
function makeDirectory(directory: string): void {
  if (fs.existsSync(directory)) return;
  fs.mkdirSync(directory);
  fs.chmodSync(directory, 0o750);
}

async function removeStale(socketPath: string): Promise<void> {
  const stat = fs.lstatSync(socketPath, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new SetupError(`--socket: ${socketPath} exists and is no socket`);
  if (await answers(socketPath)) {
    throw new SetupError(
      `another daemon listens on ${socketPath}; stop it, or name another place with --socket`,
    );
  }
  // Unless somebody replaced it while we were asking.
  const now = fs.lstatSync(socketPath, { throwIfNoEntry: false });
  if (now?.ino === stat.ino) fs.unlinkSync(socketPath);
}

/** Whether a process holds the socket open. */
async function answers(socketPath: string): Promise<boolean> {
  const probe = net.connect(socketPath);
  const outcome = Promise.withResolvers<boolean>();
  probe.once("connect", () => outcome.resolve(true));
  probe.once("error", (error: NodeJS.ErrnoException) => outcome.resolve(error.code !== "ECONNREFUSED"));
  probe.setTimeout(PROBE_MS, () => outcome.resolve(true));
  const result = await outcome.promise;
  probe.destroy();
  return result;
}
