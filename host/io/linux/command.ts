import { execFile, spawnSync } from "node:child_process";

/** A system tool failed; the message carries what it printed. */
export class CommandError extends Error {
  constructor(tool: string, args: readonly string[], output: string) {
    super(`${tool} ${args.join(" ")}: ${output.trim()}`);
    this.name = "CommandError";
  }
}

/** Runs a tool with text on its standard input; resolves with its standard output. */
export function run(tool: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(tool, args, { maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new CommandError(tool, args, stderr || error.message));
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/** The same for exit handlers, where nothing asynchronous runs any more; failures are ignored. */
export function runSync(tool: string, args: readonly string[], input = ""): void {
  spawnSync(tool, args, { input, stdio: ["pipe", "ignore", "ignore"] });
}
