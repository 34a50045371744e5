import fs from "node:fs";
import path from "node:path";
import { eraseVariable } from "../io/linux/environment.ts";

/** A condition that the operator has to change; its message says how. Raised before anything was touched. */
export class SetupError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "SetupError";
  }
}

const CAP_NET_ADMIN = 12n;

/** Checks what a process with a TUN device needs. Throws SetupError. */
export function checkTunnelPrivileges(role: string, tools: readonly string[]): void {
  if (process.platform !== "linux")
    throw new SetupError(`culvert ${role} runs on Linux; this is ${process.platform}`);
  if (!hasNetAdmin()) {
    throw new SetupError(`culvert ${role} must run as root, or with the capability CAP_NET_ADMIN`);
  }
  if (!fs.existsSync("/dev/net/tun")) {
    throw new SetupError(
      "/dev/net/tun does not exist; load the module (modprobe tun) or create it: mknod /dev/net/tun c 10 200",
    );
  }
  for (const tool of tools) {
    if (!onPath(tool)) throw new SetupError(`the program ${tool} is not on the PATH; install it first`);
  }
}

/** Reads a token: from the environment (and takes it out of there), else from a file only its owner can read. */
export function readToken(file: string | undefined, role: string): string {
  const fromEnvironment = eraseVariable("CULVERT_TOKEN");
  if (fromEnvironment !== undefined && fromEnvironment.trim() !== "") return fromEnvironment.trim();

  if (file === undefined) {
    throw new SetupError(
      `no token: set CULVERT_TOKEN, or name a file with --token-file (culvert ${role} --help)`,
    );
  }
  const stat = statOf(file);
  if (stat === undefined) throw new SetupError(`token file ${file} does not exist or cannot be read`);
  if (!stat.isFile()) throw new SetupError(`token file ${file} is no regular file`);
  if ((stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8);
    throw new SetupError(`token file ${file} has mode ${mode}; others must not read it: chmod 600 ${file}`);
  }
  const token = contentOf(file).trim();
  if (token === "") {
    throw new SetupError(
      `token file ${file} is empty; it should hold what this printed: culvert portal token create --kind ${role}`,
    );
  }
  return token;
}

/** Normalises the portal's URL. Throws SetupError. */
export function portalUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const schemes: Record<string, string> = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };
  const scheme = url === undefined ? undefined : schemes[url.protocol];
  if (url === undefined || scheme === undefined) {
    throw new SetupError(
      `--portal: "${text}" is no portal address; expected wss://HOST[:PORT] or ws://HOST:PORT`,
    );
  }
  // Assigning url.protocol cannot change between special schemes everywhere, so the text is rebuilt.
  return new URL(`${scheme}${url.href.slice(url.protocol.length)}`);
}

function hasNetAdmin(): boolean {
  const line = fs.readFileSync("/proc/self/status", "utf8").match(/^CapEff:\s*([0-9a-f]+)$/m);
  return line?.[1] !== undefined && ((BigInt(`0x${line[1]}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}

function statOf(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file);
  } catch {
    return undefined;
  }
}

function contentOf(file: string): string {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    throw new SetupError(`token file ${file} cannot be read: ${(error as Error).message}`);
  }
}

function onPath(tool: string): boolean {
  return [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"].some((directory) =>
    fs.existsSync(path.join(directory, tool)),
  );
}
