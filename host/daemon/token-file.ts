import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { z } from "zod";
import { fromBase64, toBase64 } from "../portal/base64.ts";
import { parsed, uuid } from "../portal/fields.ts";
import type { TokenRecord, TokenTable } from "../portal/server/tokens.ts";
import { parseJson } from "../portal/wire.ts";

/** What the portal keeps on disk: hashes of tokens, and the seed that devices' ids and keys follow from. */
export interface TokenFile {
  /** 32 secret bytes, drawn when the file is made. */
  readonly seed: Uint8Array;
  readonly tokens: TokenTable;
}

/** The file cannot be used; the message names it and says what to do. */
export class TokenFileError extends Error {
  override readonly name = "TokenFileError";
}

const VERSION = 1;
const LOCK_ATTEMPTS = 100;
const LOCK_INTERVAL_MS = 20;
/** Nobody holds the lock for longer than a write; an older one was left by a process that died. */
const STALE_LOCK_MS = 10_000;

const bytes = parsed((text) => {
  const value = fromBase64(text);
  return value?.length === 32 ? value : undefined;
}, "32 bytes in base64");

const common = { id: uuid<string>(), hash: bytes, label: z.string().optional(), created_at: z.number() };
const entrySchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("client"), actor: z.string(), expires_at: z.number(), ...common }),
  z.object({ kind: z.literal("gateway"), site: z.string(), expires_at: z.number().optional(), ...common }),
  z.object({ kind: z.literal("relay"), expires_at: z.number().optional(), ...common }),
]);
const fileSchema = z.object({ version: z.literal(VERSION), seed: bytes, tokens: z.array(entrySchema) });

/** Where the token file of a configuration is: its own path counts from the configuration file's folder. */
export function tokenFilePath(configurationFile: string, tokensPath: string): string {
  return path.resolve(path.dirname(configurationFile), tokensPath);
}

/** Reads the file; makes one with a new seed and no tokens if there is none. Throws TokenFileError. */
export function readTokenFile(file: string): TokenFile {
  return readExisting(file) ?? withLock(file, () => readExisting(file) ?? write(file, emptyFile()));
}

/** Changes the tokens; other processes that do the same wait. Throws TokenFileError. */
export function updateTokenFile(file: string, change: (tokens: Map<string, TokenRecord>) => void): void {
  withLock(file, () => {
    const { seed, tokens } = readExisting(file) ?? emptyFile();
    const changed = new Map(tokens);
    change(changed);
    write(file, { seed, tokens: changed });
  });
}

/** Changes whenever the file was written anew; undefined if there is none. */
export function tokenFileStamp(file: string): string | undefined {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat && `${stat.ino}/${stat.mtimeMs}/${stat.size}`;
}

function emptyFile(): TokenFile {
  return { seed: new Uint8Array(crypto.randomBytes(32)), tokens: new Map() };
}

function readExisting(file: string): TokenFile | undefined {
  let text: string;
  try {
    const { mode } = fs.statSync(file);
    if (process.platform !== "win32" && (mode & 0o077) !== 0) {
      throw new TokenFileError(`${file} can be read by others; expected mode 0600 (chmod 600 ${file})`);
    }
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof TokenFileError) throw error;
    if (isCode(error, "ENOENT")) return undefined;
    throw new TokenFileError(`${file} cannot be read: ${messageOf(error)}`);
  }
  const parsedFile = fileSchema.safeParse(parseJson(text));
  if (!parsedFile.success) throw new TokenFileError(`${file} is not a token file of version ${VERSION}`);
  const { seed, tokens } = parsedFile.data;
  return { seed, tokens: new Map(tokens.map((entry) => [entry.id, toRecord(entry)])) };
}

function toRecord(entry: z.output<typeof entrySchema>): TokenRecord {
  const { id, hash, label, created_at } = entry;
  const base = { id, secretHash: hash, label, createdAt: created_at };
  switch (entry.kind) {
    case "client":
      return { ...base, kind: "client", actor: entry.actor, expiresAt: entry.expires_at };
    case "gateway":
      return { ...base, kind: "gateway", site: entry.site, expiresAt: entry.expires_at };
    case "relay":
      return { ...base, kind: "relay", expiresAt: entry.expires_at };
  }
}

function toEntry(record: TokenRecord): unknown {
  return {
    id: record.id,
    kind: record.kind,
    ...(record.kind === "client" ? { actor: record.actor } : {}),
    ...(record.kind === "gateway" ? { site: record.site } : {}),
    hash: toBase64(record.secretHash),
    label: record.label,
    created_at: record.createdAt,
    expires_at: record.expiresAt,
  };
}

/** Writes beside and renames over, so that a reader sees the old file or the new one. */
function write(file: string, content: TokenFile): TokenFile {
  const text = JSON.stringify(
    { version: VERSION, seed: toBase64(content.seed), tokens: [...content.tokens.values()].map(toEntry) },
    null,
    2,
  );
  const draft = `${file}.${process.pid}.tmp`;
  try {
    const descriptor = fs.openSync(draft, "w", 0o600);
    try {
      fs.writeSync(descriptor, `${text}\n`);
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    fs.renameSync(draft, file);
  } catch (error) {
    throw new TokenFileError(`${file} cannot be written: ${messageOf(error)}`);
  }
  return content;
}

function withLock<T>(file: string, action: () => T): T {
  const lock = `${file}.lock`;
  takeLock(file, lock);
  try {
    return action();
  } finally {
    fs.rmSync(lock, { force: true });
  }
}

function takeLock(file: string, lock: string): void {
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    try {
      fs.closeSync(fs.openSync(lock, "wx", 0o600));
      return;
    } catch (error) {
      if (!isCode(error, "EEXIST")) {
        throw new TokenFileError(`${file} cannot be written: ${messageOf(error)}`);
      }
    }
    const age = Date.now() - (fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (age > STALE_LOCK_MS) fs.rmSync(lock, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_INTERVAL_MS);
  }
  throw new TokenFileError(`${file} is being written by another process; try again, or remove ${lock}`);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
