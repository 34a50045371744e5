// Runs spread over worker threads. Which runs there are depends on the seed alone, not on the threads.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type Failure, perform, randomRun } from "./session.ts";

export interface Batch {
  readonly firstSeed: number;
  readonly runs: number;
  readonly length: number;
  readonly jobs: number;
}

export interface BatchResult {
  /** The first failure that any thread met. */
  readonly failure: Failure | undefined;
  readonly runs: number;
}

type Message = { readonly kind: "done" } | { readonly kind: "failure"; readonly failure: Failure };

interface Share extends Batch {
  readonly offset: number;
}

/** Stops at the first failure. */
export async function runMany(batch: Batch): Promise<BatchResult> {
  const result = Promise.withResolvers<BatchResult>();
  let runs = 0;
  let left = batch.jobs;
  const workers = Array.from({ length: batch.jobs }, (_, offset) => {
    const workerShare: Share = { ...batch, offset };
    const worker = new Worker(new URL(import.meta.url), { workerData: workerShare });
    worker.on("error", (error) => result.reject(error));
    worker.on("message", (message: Message) => {
      runs += 1;
      if (message.kind === "failure") result.resolve({ failure: message.failure, runs });
    });
    worker.on("exit", () => {
      left -= 1;
      if (left === 0) result.resolve({ failure: undefined, runs });
    });
    return worker;
  });
  const { failure } = await result.promise;
  await Promise.all(workers.map((worker) => worker.terminate()));
  return { failure, runs };
}

function work({ firstSeed, runs, length, jobs, offset }: Share): void {
  for (let run = offset; run < runs; run += jobs) {
    const failure = perform(randomRun((firstSeed + run) >>> 0, length));
    const message: Message = failure === undefined ? { kind: "done" } : { kind: "failure", failure };
    parentPort?.postMessage(message);
    if (failure !== undefined) return;
  }
}

if (!isMainThread && (workerData as Partial<Share> | null)?.offset !== undefined) work(workerData as Share);
