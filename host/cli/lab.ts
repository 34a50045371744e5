import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Command, Option } from "commander";
import { SetupError } from "../daemon/preflight.ts";
import { LabHost } from "../lab/host.ts";
import { Lab, type LabState, labSocket } from "../lab/lab.ts";
import { STEPS } from "../lab/scenario.ts";
import { HOST_NAMES, type HostName } from "../lab/topology.ts";

const STATE_FILE = "/run/culvert-lab.json";

interface LabFlags {
  readonly keep: boolean;
  readonly udp: "native" | "portable";
}

export function labCommand(): Command {
  return (
    new Command("lab")
      // Options after the host of `exec` belong to the command that is run there.
      .enablePositionalOptions()
      .description("show all of Culvert at work on this machine, in network namespaces")
      .option("--keep", "leave the lab up afterwards", false)
      .addOption(
        new Option("--udp <backend>", "UDP sockets of client and gateway")
          .choices(["native", "portable"])
          .default("native"),
      )
      .action(runLab)
      .addCommand(
        new Command("exec")
          .description("run a command on a host of a lab that was left up")
          .argument("<host>", HOST_NAMES.join(", "))
          .argument("<command...>")
          .passThroughOptions()
          .action(execOnHost),
      )
      .addCommand(new Command("down").description("take down a lab that was left up").action(takeDown))
  );
}

async function runLab(flags: LabFlags): Promise<void> {
  if (process.getuid?.() !== 0) throw new SetupError("the lab makes network namespaces; run it as root");
  if (fs.existsSync(STATE_FILE))
    throw new SetupError("a lab is up already; take it down first: culvert lab down");

  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-lab-"));
  const startedAt = performance.now();
  let lab: Lab | undefined;
  let failed = true;
  const abandon = (): void => void lab?.destroy().finally(() => process.exit(130));
  process.once("SIGINT", abandon);
  process.once("SIGTERM", abandon);
  try {
    await show("build hosts, routers and servers", async () => {
      lab = await Lab.create(directory, { udp: flags.udp, logLevel: "debug" });
      return `${HOST_NAMES.length} network namespaces; client and gateway each behind a NAT router`;
    });
    const up = lab as unknown as Lab;
    await show("start portal, relay, gateway and client", async () => {
      await up.startAll();
      return "four processes, two TUN devices";
    });
    for (const step of STEPS) await show(step.title, () => step.run(up));
    failed = false;
  } catch (error) {
    console.error(`\nFailed: ${error instanceof Error ? error.message : String(error)}`);
    console.error(`The logs are in ${path.join(directory, "logs")}`);
  }
  if (flags.keep && lab !== undefined) {
    keep(lab);
    process.exit(failed ? 1 : 0);
  }
  await lab?.destroy();
  if (!failed) fs.rmSync(directory, { recursive: true, force: true });
  console.log(failed ? "" : `\nAll of it in ${seconds(startedAt)}; nothing is left behind.`);
  process.exit(failed ? 1 : 0);
}

async function show(title: string, run: () => Promise<string>): Promise<void> {
  const startedAt = performance.now();
  process.stdout.write(`• ${title}\n`);
  try {
    const seen = await run();
    process.stdout.write(`    ${seen}   [${seconds(startedAt)}]\n`);
  } catch (error) {
    throw new Error(`step "${title}": ${error instanceof Error ? error.message : String(error)}`);
  }
}

function keep(lab: Lab): void {
  fs.writeFileSync(STATE_FILE, JSON.stringify(lab.leaveUp()), { mode: 0o600 });
  console.log(`
The lab stays up; logs are in ${path.join(lab.directory, "logs")}
  run something on a host:   dist/culvert lab exec client -- curl http://web.private.test/
  ask why, or how it goes:   dist/culvert lab exec client -- dist/culvert explain --to web.private.test --port 22
                             dist/culvert lab exec client -- dist/culvert status
  hosts:                     ${HOST_NAMES.join(", ")}
  take it down:              dist/culvert lab down`);
}

async function execOnHost(name: string, command: readonly string[]): Promise<void> {
  const state = readState();
  const pid = state.hosts[name as HostName];
  if (pid === undefined) throw new SetupError(`no host ${name}; the lab has: ${HOST_NAMES.join(", ")}`);

  const [program, args] = LabHost.attach(name, pid).command(command[0] === "--" ? command.slice(1) : command);
  const child = spawn(program, args, {
    stdio: "inherit",
    env: { ...process.env, ...environmentOf(name, state) },
  });
  const [code] = (await once(child, "exit")) as [number | null];
  process.exit(code ?? 1);
}

/** `culvert status` and `culvert explain` ask the daemon of the host that they run on. */
function environmentOf(host: string, { directory }: LabState): Record<string, string> {
  return host === "client" || host === "gateway" ? { CULVERT_SOCKET: labSocket(directory, host) } : {};
}

async function takeDown(): Promise<void> {
  const state = readState();
  const pids = Object.values(state.processes);
  for (const pid of pids) signal(pid, "SIGTERM");
  await Promise.all(pids.map(gone));
  await Promise.all(Object.entries(state.hosts).map(([name, pid]) => LabHost.attach(name, pid).destroy()));
  fs.rmSync(state.directory, { recursive: true, force: true });
  fs.rmSync(STATE_FILE);
  console.log("The lab is down.");
}

function readState(): LabState {
  if (!fs.existsSync(STATE_FILE)) throw new SetupError("no lab is up; start one with: culvert lab --keep");
  return JSON.parse(fs.readFileSync(STATE_FILE, "utf8")) as LabState;
}

/** Waits for a process that is not our child; there is no event for that, so it is polled. */
async function gone(pid: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    if (!isRunning(pid)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  signal(pid, "SIGKILL");
}

function isRunning(pid: number): boolean {
  try {
    const state = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1];
    return state !== undefined && !state.startsWith("Z");
  } catch {
    return false;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(2)} s`;
}
