import { Worker } from "node:worker_threads";
import { WakeUp } from "../io/linux/event-loop.ts";
import type {
  DataThreadSetup,
  DataThreadStatistics,
  FromDataThread,
  MachineQuery,
  ToDataThread,
} from "./data-thread-protocol.ts";

/** A worker that hangs must not keep the process: shutdown is given this long (tunnel-core §18.3: 1 s of goodbyes). */
const SHUTDOWN_LIMIT_MS = 2000;
/** The data thread answers between two batches: in milliseconds, or something is wrong. */
const QUERY_LIMIT_MS = 2000;

export type DataPlaneOptions = Omit<DataThreadSetup, "wakeFd" | "stop">;

/**
 * The control thread's end of the data thread: starts it, sends commands, receives events.
 *
 * A worker blocked in `epoll_wait` would hang `process.exit`, so an exit handler tells it to leave.
 */
export class DataPlane<Command, Event> {
  readonly #worker: Worker;
  readonly #wake = new WakeUp();
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #onEvent: (event: Event) => void;
  readonly #onFailure: (message: string) => void;
  /** Who waits for `statistics` or `answer`, by id. */
  readonly #queries = new Map<number, (answer: unknown) => void>();
  readonly #ready = Promise.withResolvers<{ offload: string }>();
  readonly #stopped = Promise.withResolvers<DataThreadStatistics | undefined>();
  #started = false;
  #nextQuery = 1;

  constructor(
    options: DataPlaneOptions,
    handlers: { onEvent: (event: Event) => void; onFailure: (message: string) => void },
  ) {
    this.#onEvent = handlers.onEvent;
    this.#onFailure = handlers.onFailure;
    const workerData: DataThreadSetup = {
      ...options,
      wakeFd: this.#wake.fd,
      stop: this.#stop.buffer as SharedArrayBuffer,
    };
    this.#worker = new Worker(workerUrl(), { workerData });
    this.#worker.on("message", (message: FromDataThread) => this.#handle(message));
    this.#worker.on("error", (error) => this.#fail(error instanceof Error ? error.message : String(error)));
    this.#worker.on("exit", () => this.#stopped.resolve(undefined));
    process.once("exit", this.#leave);
  }

  /** Resolves once device and sockets exist; rejects with the reason if they could not be made. */
  ready(): Promise<{ offload: string }> {
    return this.#ready.promise;
  }

  send(command: Command): void {
    this.#post({ kind: "command", command });
  }

  statistics(): Promise<DataThreadStatistics> {
    const id = this.#nextQuery++;
    return this.#ask<DataThreadStatistics>({ kind: "statistics", id }, id);
  }

  /** Asks the machine; rejects when it does not answer in time. */
  query<Answer>(query: MachineQuery): Promise<Answer> {
    const id = this.#nextQuery++;
    return this.#ask<Answer>({ kind: "query", id, query }, id);
  }

  /** Says goodbye to peers, closes the device, and resolves with the last counters. */
  async shutdown(): Promise<DataThreadStatistics | undefined> {
    this.#post({ kind: "shutdown" });
    const timer = setTimeout(this.#leave, SHUTDOWN_LIMIT_MS);
    const statistics = await this.#stopped.promise;
    clearTimeout(timer);
    process.off("exit", this.#leave);
    await this.#worker.terminate();
    return statistics;
  }

  readonly #leave = (): void => {
    Atomics.store(this.#stop, 0, 1);
    this.#wake.signal();
  };

  async #ask<Answer>(message: ToDataThread, id: number): Promise<Answer> {
    const answered = Promise.withResolvers<unknown>();
    const timer = setTimeout(
      () => answered.reject(new Error("the data thread does not answer")),
      QUERY_LIMIT_MS,
    );
    this.#queries.set(id, answered.resolve);
    this.#post(message);
    try {
      return (await answered.promise) as Answer;
    } finally {
      clearTimeout(timer);
      this.#queries.delete(id);
    }
  }

  #post(message: ToDataThread): void {
    this.#worker.postMessage(message);
    this.#wake.signal();
  }

  #handle(message: FromDataThread): void {
    switch (message.kind) {
      case "ready":
        this.#started = true;
        this.#ready.resolve({ offload: message.offload });
        break;
      case "failed":
        this.#fail(message.message);
        break;
      case "event":
        this.#onEvent(message.event as Event);
        break;
      case "statistics":
        this.#queries.get(message.id)?.(message.statistics);
        break;
      case "answer":
        this.#queries.get(message.id)?.(message.answer);
        break;
      case "stopped":
        this.#stopped.resolve(message.statistics);
        break;
    }
  }

  #fail(message: string): void {
    if (this.#started) this.#onFailure(message);
    else this.#ready.reject(new Error(message));
    this.#stopped.resolve(undefined);
  }
}

/** Source files and the bundle keep the worker beside this module, each with its own ending. */
function workerUrl(): URL {
  const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`./data-thread.${ending}`, import.meta.url);
}
