import type { Logger } from "../daemon/log.ts";

/** What the commands need of a daemon. */
export interface Daemon {
  start(): Promise<void>;
  /** Puts the system back and makes `finished` resolve. */
  stop(exitCode: number): Promise<void>;
  finished(): Promise<number>;
  reset?(): void;
}

/** Runs a daemon until it ends or a signal ends it, then exits the process. */
export async function runDaemon(daemon: Daemon, log: Logger): Promise<never> {
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, "stopping");
    void daemon.stop(0);
  };
  process.on("SIGINT", () => stop("SIGINT"));
  process.on("SIGTERM", () => stop("SIGTERM"));
  if (daemon.reset !== undefined) process.on("SIGHUP", () => daemon.reset?.());

  try {
    await daemon.start();
  } catch (error) {
    log.error({}, error instanceof Error ? error.message : String(error));
    await daemon.stop(1);
  }
  const code = await daemon.finished();
  log.info({}, "goodbye");
  process.exit(code);
}
