import fs from "node:fs";

/** One line of a daemon's JSON log. */
export interface LogLine {
  readonly time: string;
  readonly severity: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** Parses what a daemon has logged so far; lines that are no JSON (a crash) become errors. */
export function readLog(file: string): LogLine[] {
  const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  const complete = text.slice(0, text.lastIndexOf("\n") + 1);
  return complete.split("\n").filter(Boolean).map(parseLine);
}

/** Resolves with the first line that fits, from the `from`th line on; rejects after `timeoutMs`. */
export async function waitForLine(
  file: string,
  fits: (line: LogLine) => boolean,
  { timeoutMs, from = 0 }: { readonly timeoutMs: number; readonly from?: number },
): Promise<LogLine> {
  fs.closeSync(fs.openSync(file, "a"));
  const result = Promise.withResolvers<LogLine>();
  const look = (): void => {
    const line = readLog(file).slice(from).find(fits);
    if (line !== undefined) result.resolve(line);
  };
  const watcher = fs.watch(file, look);
  const timer = setTimeout(() => {
    const last = readLog(file).at(-1);
    result.reject(
      new Error(`nothing of the kind in ${file} within ${timeoutMs} ms; last line: ${last?.message}`),
    );
  }, timeoutMs);
  look();
  try {
    return await result.promise;
  } finally {
    watcher.close();
    clearTimeout(timer);
  }
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { time: "", severity: "error", message: text };
  }
}
