// The product's first figures, each next to what it is measured against, in one run on one machine.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Lab } from "../../host/lab/lab.ts";
import { waitForLine } from "../../host/lab/log-watch.ts";
import { firstByteMs, residentMib, type Spread, spread, tcpTransfer } from "./measure.ts";
import { CULVERT_TARGET, setUpPlainPath, setUpWireguardGo } from "./rivals.ts";

export interface FirstLightOptions {
  readonly rounds: number;
  readonly seconds: number;
}

export interface FirstLightFigures {
  /** Gbit/s of one TCP stream, by contender and direction. */
  readonly throughput: Readonly<
    Record<string, { readonly up: Spread; readonly down: Spread; readonly retransmits: number }>
  >;
  readonly firstByteMs: { readonly cold: Spread; readonly warm: Spread };
  readonly residentMib: Readonly<
    Record<string, { readonly idle: number; readonly after: number; readonly peak: number }>
  >;
}

/** What is shipped is what is measured. */
const BUNDLE = path.join(import.meta.dirname, "../../dist");
const PAGE = "http://web.private.test/";

export async function measureFirstLight(options: FirstLightOptions): Promise<FirstLightFigures> {
  const { throughput, residentMib } = await withLab((lab) => measureTransfers(lab, options));
  const firstByte = { cold: [] as number[], warm: [] as number[] };
  for (let round = 0; round < options.rounds; round++) {
    // A lab of its own each time: routers that remember nothing, and a client that has asked for nothing yet.
    await withLab(async (lab) => {
      firstByte.cold.push(await firstByteMs(lab, PAGE));
      firstByte.warm.push(await firstByteMs(lab, PAGE));
    });
  }
  return {
    throughput,
    residentMib,
    firstByteMs: { cold: spread(firstByte.cold), warm: spread(firstByte.warm) },
  };
}

async function withLab<T>(measure: (lab: Lab) => Promise<T>): Promise<T> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-bench-"));
  const lab = await Lab.create(directory, { udp: "native", logLevel: "info", bundle: BUNDLE });
  try {
    await lab.startAll();
    return await measure(lab);
  } finally {
    await lab.destroy();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

async function measureTransfers(lab: Lab, options: FirstLightOptions) {
  await startIperfServer(lab);
  const idle = memory(lab);
  const throughput = await measureThroughput(lab, options);
  const residentMib = Object.fromEntries(
    Object.entries(memory(lab)).map(([name, { now, peak }]) => [
      name,
      { idle: idle[name]?.now ?? 0, after: now, peak },
    ]),
  );
  return { throughput, residentMib };
}

/** Contenders take turns within each round, so that what else the machine does hits all of them. */
async function measureThroughput(lab: Lab, { rounds, seconds }: FirstLightOptions) {
  const contenders = {
    "without tunnel": await setUpPlainPath(lab),
    "wireguard-go (Debian)": await setUpWireguardGo(lab),
    Culvert: CULVERT_TARGET,
  };
  const samples = new Map<string, { up: number[]; down: number[]; retransmits: number }>();
  for (let round = 0; round < rounds; round++) {
    for (const [name, target] of Object.entries(contenders)) {
      const sample = samples.get(name) ?? { up: [], down: [], retransmits: 0 };
      samples.set(name, sample);
      for (const direction of ["up", "down"] as const) {
        const { gigabits, retransmits } = await tcpTransfer(lab, target, direction, seconds);
        sample[direction].push(gigabits);
        sample.retransmits += retransmits;
      }
    }
  }
  return Object.fromEntries(
    [...samples].map(([name, { up, down, retransmits }]) => [
      name,
      { up: spread(up), down: spread(down), retransmits },
    ]),
  );
}

async function startIperfServer(lab: Lab): Promise<void> {
  lab.spawn("iperf3", lab.host("site"), ["iperf3", "-s", "--forceflush"]);
  await waitForLine(lab.logFile("iperf3"), (line) => line.message.includes("Server listening"), {
    timeoutMs: 5000,
  });
}

function memory(lab: Lab): Record<string, { now: number; peak: number }> {
  return Object.fromEntries(["client", "gateway"].map((name) => [name, residentMib(lab.pid(name) ?? 0)]));
}
