import fs from "node:fs";
import path from "node:path";
import { pino } from "pino";
import type { Note, Severity } from "../core/note.ts";

export type LogFields = Readonly<Record<string, unknown>>;

/** What the daemons log through; pino's own shape, fields first. */
export interface Logger {
  trace(fields: LogFields, message: string): void;
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

export interface LogOptions {
  /** `culvert-client` and so on: begins the names of log files. */
  readonly name: string;
  readonly level: Severity;
  /** Files of JSON lines go here, besides the terminal. */
  readonly directory?: string | undefined;
  /** What the terminal gets. */
  readonly format: "human" | "json";
}

/** Logs to standard output, and to one file per run if a directory is given (platform §14.2). */
export function createLogger(options: LogOptions): Logger {
  const streams: pino.StreamEntry[] = [
    {
      level: options.level,
      stream: options.format === "json" ? process.stdout : humanStream(process.stdout),
    },
  ];
  if (options.directory !== undefined) {
    streams.push({ level: options.level, stream: fileStream(options.directory, options.name) });
  }
  return pino(
    {
      level: options.level,
      base: null,
      messageKey: "message",
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ severity: label }) },
    },
    pino.multistream(streams),
  );
}

/** Writes a machine's note. */
export function logNote(logger: Logger, { severity, message, fields }: Note): void {
  logger[severity](fields ?? {}, message);
}

function fileStream(directory: string, name: string): pino.DestinationStream {
  fs.mkdirSync(directory, { recursive: true });
  const stamp = new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-");
  const file = `${name}.${stamp}.log`;
  const latest = path.join(directory, `${name}.latest`);
  // Written synchronously: the last lines before a crash are those that matter, and the data thread does not log.
  const stream = pino.destination({ dest: path.join(directory, file), sync: true, mode: 0o640 });
  fs.rmSync(latest, { force: true });
  fs.symlinkSync(file, latest);
  return stream;
}

const COLOURS: Readonly<Record<string, string>> = {
  trace: "\u001b[35m",
  debug: "\u001b[34m",
  info: "\u001b[32m",
  warn: "\u001b[33m",
  error: "\u001b[31m",
};
const RESET = "\u001b[0m";

/** `2026-11-22T18:00:00.000Z  INFO message key=value`, coloured on a terminal. */
function humanStream(output: NodeJS.WriteStream): pino.DestinationStream {
  return {
    write(line: string): void {
      const { time, severity, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const label = String(severity).toUpperCase().padStart(5);
      const level = output.isTTY ? `${COLOURS[String(severity)] ?? ""}${label}${RESET}` : label;
      const values = Object.entries(fields).map(([key, value]) => ` ${key}=${humanValue(value)}`);
      output.write(`${String(time)} ${level} ${String(message)}${values.join("")}\n`);
    },
  };
}

function humanValue(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value) ?? "undefined";
}
