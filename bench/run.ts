// `npm run bench` measures everything and writes bench/results/<date>.json; `-- --quick` is shorter and writes nothing;
// `-- --only micro|macro` does one half.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type DnsLoadFigures, measureDnsLoad } from "./macro/dns-load.ts";
import { type FirstLightFigures, measureFirstLight } from "./macro/first-light.ts";
import type { Spread } from "./macro/measure.ts";
import { measureAead } from "./micro/aead.ts";
import { benchNat } from "./micro/nat.ts";
import { measurePipeline } from "./micro/pipeline.ts";

const root = path.dirname(import.meta.dirname);
const args = process.argv.slice(2);
const quick = args.includes("--quick");
const bundle = path.join(root, "dist");
const only = args.includes("--only") ? args[args.indexOf("--only") + 1] : undefined;

const micro = only === "macro" ? undefined : measureMicro();
const macro =
  only === "micro"
    ? undefined
    : {
        ...(await measureFirstLight(quick ? { rounds: 2, seconds: 2 } : { rounds: 5, seconds: 4 })),
        dns: await measureDnsLoad({
          ...(quick ? { rounds: 1, seconds: 2 } : { rounds: 3, seconds: 3 }),
          bundle,
        }),
      };

for (const figures of Object.values(micro ?? {})) console.table(figures.map(rounded));
if (macro !== undefined) printMacro(macro);
if (!quick && only === undefined) writeResults();

function measureMicro() {
  return { aead: measureAead(), nat: benchNat(), pipeline: measurePipeline() };
}

/** Tenths are noise already. */
function rounded(figure: object): object {
  const entries = Object.entries(figure).map(([key, value]) => [
    key,
    typeof value === "number" ? Math.round(value) : value,
  ]);
  return Object.fromEntries(entries);
}

function printMacro(figures: FirstLightFigures & { readonly dns: DnsLoadFigures }): void {
  const reference = figures.throughput["wireguard-go (Debian)"];
  console.log("\nOne TCP stream, Gbit/s: median (lowest–highest)");
  for (const [name, { up, down, retransmits }] of Object.entries(figures.throughput)) {
    const ratio =
      reference === undefined
        ? ""
        : `  ${(up.median / reference.up.median).toFixed(1)} × / ${(down.median / reference.down.median).toFixed(1)} ×`;
    console.log(
      `  ${name.padEnd(22)} up ${text(up)}  down ${text(down)}  retransmits ${retransmits}${ratio}`,
    );
  }
  console.log("\nFirst DNS question to first byte of a page, ms");
  console.log(`  cold ${text(figures.firstByteMs.cold)}   warm ${text(figures.firstByteMs.warm)}`);
  const { answersPerSecond, lost, latencyMs } = figures.dns;
  console.log("\nNames of resources, answered to one load generator");
  console.log(`  ${answersPerSecond.median.toFixed(0)} answers per second, ${lost} lost`);
  console.log(`  one at a time, ms: median ${text(latencyMs.median)}   p99 ${text(latencyMs.p99)}`);
  console.log("\nResident memory, MiB");
  for (const [name, { idle, after, peak }] of Object.entries(figures.residentMib)) {
    console.log(
      `  ${name.padEnd(8)} idle ${idle.toFixed(0)}, after the transfers ${after.toFixed(0)}, highest ${peak.toFixed(0)}`,
    );
  }
}

function text({ median, lowest, highest }: Spread): string {
  return `${median.toFixed(2)} (${lowest.toFixed(2)}–${highest.toFixed(2)})`;
}

function writeResults(): void {
  const date = new Date().toISOString().slice(0, 10);
  const file = path.join(root, "bench/results", `${date}.json`);
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], {
    cwd: root,
    encoding: "utf8",
  }).trim();
  const machine = {
    cpu: os.cpus()[0]?.model,
    cores: os.cpus().length,
    kernel: os.release(),
    node: process.version,
  };
  fs.writeFileSync(file, `${JSON.stringify({ date, commit, machine, micro, macro }, undefined, 2)}\n`);
  console.log(`\nwritten to ${path.relative(root, file)}`);
}
