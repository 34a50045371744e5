import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { run } from "../io/linux/command.ts";

/** What a finished command said. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface HostFiles {
  /** Contents of /etc/resolv.conf and /etc/hosts as this host sees them. */
  readonly resolvConf: string;
  readonly hosts?: string;
}

// Runs in the new namespaces: an /etc of its own (writes go to memory), loopback up, then hold.
const HOLD = `
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
cp "$2/resolv.conf" "$2/hosts" "$1/upper/"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
ip link set lo up
echo ready
exec sleep infinity
`;

/**
 * One host of the lab: a network namespace and a mount namespace with an /etc of its own, held open by one
 * sleeping process. When that process dies everything in it vanishes: interfaces, rules, files.
 */
export class LabHost {
  readonly name: string;
  readonly pid: number;
  /** The holding process, if we started it. */
  readonly #holder: ChildProcess | undefined;

  private constructor(name: string, pid: number, holder?: ChildProcess) {
    this.name = name;
    this.pid = pid;
    this.#holder = holder;
  }

  /** A host that is up already, known by the process that holds it. */
  static attach(name: string, pid: number): LabHost {
    return new LabHost(name, pid);
  }

  /** `directory` is this host's own, for its initial files. */
  static async create(name: string, directory: string, files: HostFiles): Promise<LabHost> {
    const mountPoint = path.join(directory, "etc");
    fs.mkdirSync(mountPoint, { recursive: true });
    fs.writeFileSync(path.join(directory, "resolv.conf"), files.resolvConf);
    fs.writeFileSync(path.join(directory, "hosts"), files.hosts ?? "127.0.0.1 localhost\n::1 localhost\n");

    const holder = spawn(
      "unshare",
      ["--net", "--mount", "--propagation", "private", "sh", "-c", HOLD, "hold", mountPoint, directory],
      { stdio: ["ignore", "pipe", "pipe"], detached: true },
    );
    if (holder.pid === undefined) throw new Error(`cannot start unshare for host ${name}`);
    let errors = "";
    holder.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const ready = once(holder.stdout, "data").then(() => true);
    const failed = once(holder, "exit").then(() => false);
    if (!(await Promise.race([ready, failed]))) throw new Error(`host ${name}: ${errors.trim()}`);

    holder.stdout.destroy();
    holder.stderr.destroy();
    holder.unref();
    return new LabHost(name, holder.pid, holder);
  }

  /** Command line that runs `command` on this host, in the folder that we are in. */
  command(command: readonly string[]): [string, string[]] {
    // Without --wd a new mount namespace begins at its root.
    const where = ["--target", String(this.pid), "--net", "--mount", `--wd=${process.cwd()}`];
    return ["nsenter", [...where, "--", ...command]];
  }

  spawn(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn(...this.command(command), options);
  }

  /** Runs a command to its end, or kills it after `timeoutMs`. */
  async exec(command: readonly string[], timeoutMs = 30_000): Promise<CommandResult> {
    const child = this.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    const [code] = (await once(child, "close")) as [number | null];
    clearTimeout(timer);
    return { code, stdout, stderr };
  }

  /** Runs `ip -batch` on this host. */
  async ip(lines: readonly string[]): Promise<void> {
    const [tool, args] = this.command(["ip", "-batch", "-"]);
    await run(tool, args, `${lines.join("\n")}\n`);
  }

  async nft(ruleset: string): Promise<void> {
    const [tool, args] = this.command(["nft", "-f", "-"]);
    await run(tool, args, ruleset);
  }

  async sysctl(settings: Readonly<Record<string, string>>): Promise<void> {
    const script = Object.entries(settings)
      .map(([key, value]) => `[ ! -e /proc/sys/${key} ] || echo ${value} > /proc/sys/${key}`)
      .join("\n");
    const [tool, args] = this.command(["sh", "-c", script]);
    await run(tool, args);
  }

  /** Takes the host down; resolves when its holder is gone. Programs still running on it lose their network. */
  async destroy(): Promise<void> {
    this.#holder?.ref();
    const running = this.#holder?.exitCode === null && this.#holder.signalCode === null;
    const gone = running && this.#holder !== undefined ? once(this.#holder, "exit") : undefined;
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // Gone already.
    }
    await gone;
  }
}

/** Connects two hosts with a veth pair. */
export async function link(a: LabHost, aInterface: string, b: LabHost, bInterface: string): Promise<void> {
  const line = `link add ${aInterface} netns ${a.pid} type veth peer name ${bInterface} netns ${b.pid}`;
  await run("ip", ["-batch", "-"], `${line}\n`);
}
