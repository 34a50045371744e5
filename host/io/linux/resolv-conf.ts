import fs from "node:fs";
import path from "node:path";
import { type IpAddress, isSentinel, parseIp } from "../../core/address.ts";

const MARKER = "# BEGIN Culvert DNS configuration";
const EXPLANATION = [
  MARKER,
  "# Culvert wrote this file while it is connected, and will restore it when it stops.",
  "# The original is kept beside it; after a crash the next start puts it back.",
];

/**
 * Points the system's stub resolver at the tunnel by rewriting resolv.conf, and undoes it.
 *
 * In place, because a bind-mounted file cannot be renamed over (platform §9). All synchronous: the undo
 * runs in exit handlers. A symlink is refused, since another program owns its target.
 */
export class ResolvConf {
  readonly #path: string;
  readonly #backup: string;

  constructor(file = "/etc/resolv.conf", backup = `${file}.before-culvert`) {
    this.#path = file;
    this.#backup = backup;
  }

  /** Undoes what a run left behind that could not clean up. */
  recover(): void {
    if (this.#isOurs()) this.restore();
  }

  /** The resolvers the host had without us, our own sentinels left out. */
  systemResolvers(): IpAddress[] {
    const text = this.#isOurs() ? readText(this.#backup) : readText(this.#path);
    return nameservers(text ?? "").filter((address) => !isSentinel(address));
  }

  /** Throws if the file is not one that may be rewritten. */
  check(): void {
    const stat = fs.lstatSync(this.#path, { throwIfNoEntry: false });
    if (stat?.isFile()) return;
    const what =
      stat === undefined
        ? "does not exist"
        : stat.isSymbolicLink()
          ? "is a symbolic link, so another program manages it"
          : "is no regular file";
    throw new Error(`${this.#path} ${what}; use --dns-control disabled`);
  }

  /** Throws as `check` does, before anything is changed. No servers: leaves the file untouched. */
  activate(servers: readonly IpAddress[], searchDomain: string | undefined): void {
    if (servers.length === 0) return;
    this.check();
    this.recover();
    const original = readText(this.#path) ?? "";
    writeAtomically(this.#backup, original, fs.statSync(this.#path).mode);
    fs.writeFileSync(this.#path, rewritten(original, servers, searchDomain));
  }

  restore(): void {
    const original = readText(this.#backup);
    if (original !== undefined && this.#isOurs()) fs.writeFileSync(this.#path, original);
  }

  #isOurs(): boolean {
    return readText(this.#path)?.startsWith(MARKER) ?? false;
  }
}

function rewritten(
  original: string,
  servers: readonly IpAddress[],
  searchDomain: string | undefined,
): string {
  const kept = original
    .split("\n")
    .filter((line) => /^\s*(options|sortlist)\s/.test(line))
    .map((line) => line.trim());
  return `${[
    ...EXPLANATION,
    ...kept,
    ...servers.map((server) => `nameserver ${server}`),
    // ndots:1 sends names with a dot to the tunnel before the search list is tried.
    ...(searchDomain === undefined ? [] : [`search ${searchDomain}`]),
    "options ndots:1",
  ].join("\n")}\n`;
}

function nameservers(text: string): IpAddress[] {
  const found: IpAddress[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*nameserver\s+([^\s%#;]+)/.exec(line);
    const address = match?.[1] === undefined ? undefined : parseIp(match[1]);
    if (address !== undefined) found.push(address);
  }
  return found;
}

function readText(file: string): string | undefined {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function writeAtomically(file: string, text: string, mode: number): void {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}`);
  fs.writeFileSync(temporary, text, { mode: mode & 0o777 });
  fs.renameSync(temporary, file);
}
