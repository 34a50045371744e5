// Stub answers per second of one client, through its TUN device: a load generator in the client's namespace.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Lab } from "../../host/lab/lab.ts";
import { type Spread, spread } from "./measure.ts";

export interface DnsLoadFigures {
  /** Answers per second with many queries in flight. */
  readonly answersPerSecond: Spread;
  /** Queries that were never answered, all rounds together. */
  readonly lost: number;
  /** Milliseconds from question to answer with one query in flight. */
  readonly latencyMs: { readonly median: Spread; readonly p99: Spread };
}

export interface DnsLoadOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Folder of a built bundle; undefined: the sources. */
  readonly bundle?: string;
}

interface LoadResult {
  readonly answers: number;
  readonly lost: number;
  readonly seconds: number;
  readonly medianMs: number;
  readonly p99Ms: number;
}

const IN_FLIGHT = 64;

export async function measureDnsLoad({ rounds, seconds, bundle }: DnsLoadOptions): Promise<DnsLoadFigures> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-bench-"));
  const lab = await Lab.create(directory, { udp: "native", logLevel: "info", bundle });
  const rates: number[] = [];
  const medians: number[] = [];
  const tails: number[] = [];
  let lost = 0;
  try {
    await lab.startAll();
    await load(lab, IN_FLIGHT, 1);
    for (let round = 0; round < rounds; round++) {
      const busy = await load(lab, IN_FLIGHT, seconds);
      const calm = await load(lab, 1, seconds);
      rates.push(busy.answers / busy.seconds);
      medians.push(calm.medianMs);
      tails.push(calm.p99Ms);
      lost += busy.lost + calm.lost;
    }
  } finally {
    await lab.destroy();
    fs.rmSync(directory, { recursive: true, force: true });
  }
  return {
    answersPerSecond: spread(rates),
    lost,
    latencyMs: { median: spread(medians), p99: spread(tails) },
  };
}

async function load(lab: Lab, inFlight: number, seconds: number): Promise<LoadResult> {
  const generator = path.join(import.meta.dirname, "dns-load-generator.ts");
  const args = [process.execPath, generator, "web.private.test", String(inFlight), String(seconds)];
  const { code, stdout, stderr } = await lab.host("client").exec(args, (seconds + 10) * 1000);
  if (code !== 0) throw new Error(`load generator: ${stderr}`);
  return JSON.parse(stdout) as LoadResult;
}

if (import.meta.main) {
  const bundle = process.argv.includes("--source")
    ? {}
    : { bundle: path.join(import.meta.dirname, "../../dist") };
  const { answersPerSecond, lost, latencyMs } = await measureDnsLoad({ rounds: 3, seconds: 3, ...bundle });
  console.log(`answers per second, ${IN_FLIGHT} in flight: ${answersPerSecond.median.toFixed(0)}`);
  console.log(`lost: ${lost}`);
  console.log(
    `latency of one query: median ${latencyMs.median.median.toFixed(3)} ms, p99 ${latencyMs.p99.median.toFixed(3)} ms`,
  );
}
