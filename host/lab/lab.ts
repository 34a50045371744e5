import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import type { CommandResult, LabHost } from "./host.ts";
import { type LogLine, readLog, waitForLine } from "./log-watch.ts";
import { LAB_PORTAL, LAB_TOKENS, portalConfiguration } from "./policy.ts";
import { DEFAULT_RECORDS, type LabRecords, PUBLIC_RECORDS } from "./records.ts";
import {
  ADDRESSES,
  createTopology,
  destroyTopology,
  HOST_NAMES,
  type HostName,
  type Topology,
} from "./topology.ts";

export type DaemonName = "portal" | "relay" | "gateway" | "client";

export interface LabOptions {
  readonly udp: "native" | "portable";
  readonly logLevel: "debug" | "info";
  /** Folder of a built bundle to run; default: what this code itself is, source or bundle. */
  readonly bundle?: string | undefined;
  /** Names and addresses in the site's DNS. */
  readonly records?: LabRecords;
}

/** The daemons that answer `culvert status` and `culvert explain`. */
export type TunnelDaemon = Extract<DaemonName, "client" | "gateway">;

/** The hosts share the file system but for /etc, so each daemon has a socket in the lab's own directory. */
export function labSocket(directory: string, name: TunnelDaemon): string {
  return path.join(directory, `${name}.sock`);
}

/** How a lab that was left up can be found again. */
export interface LabState {
  readonly directory: string;
  readonly hosts: Readonly<Record<HostName, number>>;
  readonly processes: Readonly<Record<string, number>>;
}

const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 5_000;

/**
 * All of Culvert on one machine: a topology of hosts, servers on them, and portal, relay, gateway and client
 * as processes of their own. Everything it makes lives in `directory` and in its namespaces.
 */
export class Lab {
  readonly directory: string;
  readonly topology: Topology;
  readonly #options: LabOptions;
  readonly #processes = new Map<string, ChildProcess>();

  private constructor(directory: string, topology: Topology, options: LabOptions) {
    this.directory = directory;
    this.topology = topology;
    this.#options = options;
  }

  /** Builds hosts and servers; no daemon runs yet. */
  static async create(directory: string, options: LabOptions): Promise<Lab> {
    fs.mkdirSync(path.join(directory, "logs"), { recursive: true });
    const lab = new Lab(directory, await createTopology(directory), options);
    try {
      lab.setRecords(options.records ?? DEFAULT_RECORDS);
      await Promise.all([lab.#startSiteServers(), lab.#startPublicServers(), lab.#issueTokens()]);
      return lab;
    } catch (error) {
      await lab.destroy();
      throw error;
    }
  }

  host(name: HostName): LabHost {
    return this.topology[name];
  }

  /** Changes what the site's DNS server answers, from the next query on. */
  setRecords(records: LabRecords): void {
    const file = path.join(this.directory, "site-records.json");
    fs.writeFileSync(`${file}.new`, JSON.stringify(records));
    fs.renameSync(`${file}.new`, file);
  }

  logFile(name: string): string {
    return path.join(this.directory, "logs", `${name}.log`);
  }

  log(name: DaemonName): LogLine[] {
    return readLog(this.logFile(name));
  }

  /** Where that daemon answers questions. */
  socket(name: TunnelDaemon): string {
    return labSocket(this.directory, name);
  }

  /** Runs `culvert status` or `culvert explain` on a daemon's host. */
  ask(name: TunnelDaemon, ...args: string[]): Promise<CommandResult> {
    return this.host(name).exec([...this.#culvert(), ...args, "--socket", this.socket(name)]);
  }

  /** Starts one daemon and waits until it is ready to be used. */
  async start(name: DaemonName, extraArgs: readonly string[] = []): Promise<void> {
    if (this.#processes.has(name)) throw new Error(`${name} was started already; stop it first`);
    const from = this.log(name).length;
    const child = this.#spawnDaemon(name, extraArgs);
    const ready = waitForLine(this.logFile(name), READY[name], { timeoutMs: START_TIMEOUT_MS, from });
    const exited = once(child, "exit").then(([code]) => {
      throw new Error(`${name} ended with exit code ${String(code)}: ${this.log(name).at(-1)?.message}`);
    });
    exited.catch(() => {});
    await Promise.race([ready, exited]);
  }

  /** Starts all daemons in an order that works. */
  async startAll(): Promise<void> {
    await this.start("portal");
    // First the relay: peers that join later learn of it at once, those that wait for one hear a second later.
    await this.start("relay");
    await Promise.all([this.start("gateway"), this.start("client")]);
  }

  /** Sends a signal and waits for the end; resolves with the exit code, undefined if it was not running. */
  async stop(name: string, signal: NodeJS.Signals = "SIGTERM"): Promise<number | null | undefined> {
    const child = this.#processes.get(name);
    if (child === undefined) return undefined;
    this.#processes.delete(name);
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;

    const ended = once(child, "exit");
    child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
    return child.exitCode;
  }

  /** Starts a program on a host, its output in `logs/<name>.log`; ended with the lab. */
  spawn(name: string, host: LabHost, command: readonly string[]): ChildProcess {
    const output = fs.openSync(this.logFile(name), "a");
    const child = host.spawn(command, { stdio: ["ignore", output, output], detached: true });
    fs.closeSync(output);
    this.#processes.set(name, child);
    return child;
  }

  pid(name: string): number | undefined {
    return this.#processes.get(name)?.pid;
  }

  /** Ends all daemons (client first, so that goodbyes have somewhere to go), servers and hosts. */
  async destroy(): Promise<void> {
    for (const name of ["client", "gateway", "relay", "portal"]) await this.stop(name);
    await Promise.all([...this.#processes.keys()].map((name) => this.stop(name)));
    await destroyTopology(this.topology);
  }

  /** Lets go of everything without ending it. */
  leaveUp(): LabState {
    for (const child of this.#processes.values()) child.unref();
    return {
      directory: this.directory,
      hosts: Object.fromEntries(
        HOST_NAMES.map((name) => [name, this.topology[name].pid]),
      ) as LabState["hosts"],
      processes: Object.fromEntries([...this.#processes].map(([name, child]) => [name, child.pid ?? 0])),
    };
  }

  #spawnDaemon(name: DaemonName, extraArgs: readonly string[]): ChildProcess {
    const flags = ["--log-format", "json", "--log-level", this.#options.logLevel];
    return this.spawn(name, this.topology[name], [
      ...this.#culvert(),
      ...this.#daemonArgs(name),
      ...flags,
      ...extraArgs,
    ]);
  }

  #daemonArgs(name: DaemonName): string[] {
    const peer = ["--portal", LAB_PORTAL.url, "--token-file", path.join(this.directory, `${name}.token`)];
    const tunnel = ["--id", `lab-${name}`, "--udp", this.#options.udp];
    const socket = (of: TunnelDaemon) => ["--socket", this.socket(of)];
    switch (name) {
      case "portal":
        return ["portal", "--config", this.#portalFile];
      case "relay":
        return ["relay", ...peer, "--public-ipv4", ADDRESSES.relay.v4, "--public-ipv6", ADDRESSES.relay.v6];
      default:
        return [name, ...peer, ...tunnel, ...socket(name)];
    }
  }

  #culvert(): string[] {
    return [process.execPath, this.#program("culvert", "../cli/main")];
  }

  /** The bundle keeps its programs beside each other; from source they are in their folders. */
  #program(bundled: string, source: string): string {
    const { bundle } = this.#options;
    if (bundle !== undefined) return path.resolve(bundle, `${bundled}.js`);
    const fromSource = import.meta.filename.endsWith(".ts");
    return path.resolve(import.meta.dirname, fromSource ? `${source}.ts` : `${bundled}.js`);
  }

  get #portalFile(): string {
    return path.join(this.directory, "portal.yaml");
  }

  async #issueTokens(): Promise<void> {
    fs.writeFileSync(this.#portalFile, portalConfiguration());
    for (const [name, args] of Object.entries(LAB_TOKENS)) {
      const [program = "", ...first] = this.#culvert();
      const child = spawn(
        program,
        [...first, "portal", "token", "create", "--config", this.#portalFile, ...args],
        {
          stdio: ["ignore", "pipe", "ignore"],
        },
      );
      let token = "";
      child.stdout.on("data", (chunk: Buffer) => {
        token += chunk.toString();
      });
      const [code] = (await once(child, "close")) as [number];
      if (code !== 0) throw new Error(`cannot create the token of the ${name}`);
      fs.writeFileSync(path.join(this.directory, `${name}.token`), token.trim(), { mode: 0o600 });
    }
  }

  async #startSiteServers(): Promise<void> {
    await this.#startServers("site-servers", this.topology.site, {
      web: [ADDRESSES.siteWeb, ADDRESSES.namedWeb, ADDRESSES.namedWebMoved].flatMap(({ v4, v6 }) => [v4, v6]),
      dns: [ADDRESSES.siteResolver.v4],
      records: path.join(this.directory, "site-records.json"),
    });
  }

  async #startPublicServers(): Promise<void> {
    const records = path.join(this.directory, "public-records.json");
    fs.writeFileSync(records, JSON.stringify(PUBLIC_RECORDS));
    await this.#startServers("public-servers", this.topology.internet, {
      web: [ADDRESSES.publicWeb.v4, ADDRESSES.publicWeb.v6],
      dns: [ADDRESSES.publicResolver.v4],
      records,
    });
  }

  async #startServers(name: string, host: LabHost, configuration: object): Promise<void> {
    const file = path.join(this.directory, `${name}.json`);
    fs.writeFileSync(file, JSON.stringify(configuration));
    this.spawn(name, host, [process.execPath, this.#program("lab-service", "service"), file]);
    await waitForLine(this.logFile(name), (line) => line.message === "ready", {
      timeoutMs: START_TIMEOUT_MS,
    });
  }
}

/** The line that says a daemon can be used. */
const READY: Readonly<Record<DaemonName, (line: LogLine) => boolean>> = {
  portal: (line) => line.message === "portal listens",
  relay: (line) => line.message === "portal connection" && line["state"] === "joined",
  gateway: (line) => line.message === "gateway ready",
  client: (line) => line.message === "tunnel ready",
};
