import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { LabHost } from "../../host/lab/host.ts";

/** A program on a lab host whose output is kept and can be waited for. */
export class Program {
  static readonly #running = new Set<Program>();
  readonly #child: ChildProcess;
  #output = "";
  readonly #waiting = new Set<() => void>();

  constructor(host: LabHost, command: readonly string[]) {
    this.#child = host.spawn(command, { stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        this.#output += chunk.toString();
        for (const check of this.#waiting) check();
      });
    }
    Program.#running.add(this);
    this.#child.on("exit", () => {
      Program.#running.delete(this);
      for (const check of this.#waiting) check();
    });
  }

  /** Ends what a test that failed left running. */
  static async stopAll(): Promise<void> {
    await Promise.all([...Program.#running].map((program) => program.stop("SIGKILL")));
  }

  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves with the match once the output has it; rejects when the program ends without, or after the time. */
  async outputs(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    const result = Promise.withResolvers<RegExpExecArray>();
    const fail = (why: string): void =>
      result.reject(new Error(`no ${pattern} ${why}; output: ${this.#output}`));
    const check = (): void => {
      const match = pattern.exec(this.#output);
      if (match !== null) result.resolve(match);
      else if (this.#child.exitCode !== null) fail(`before the end (exit code ${this.#child.exitCode})`);
    };
    const timer = setTimeout(() => fail(`within ${timeoutMs} ms`), timeoutMs);
    this.#waiting.add(check);
    check();
    try {
      return await result.promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(check);
    }
  }

  writeLine(text: string): void {
    this.#child.stdin?.write(`${text}\n`);
  }

  /** Ends it; resolves with its exit code, null if the signal ended it. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
    return this.#child.exitCode;
  }
}
