// Compiles AssemblyScript entries the way asconfig.json builds the core, and loads them, for tests and benchmarks.
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MEMORY_PAGES } from "../../assembly/abi.ts";

/** Targets of asconfig.json: unoptimised, as shipped, and as shipped for engines without SIMD. */
export const VARIANTS = ["debug", "release", "plain"] as const;
export type VariantName = (typeof VARIANTS)[number];

interface Memory {
  readonly buffer: ArrayBuffer;
}

/** The part of the engine's interface that is used here; the configured libraries do not declare it. */
interface Engine {
  readonly Memory: new (limits: { initial: number; maximum: number }) => Memory;
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

/** An instance with a zeroed memory of its own; `Exports` is what the caller knows the entry to export. */
export interface Variant<Exports> {
  readonly exports: Exports;
  readonly memory: Memory;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
}

const engine = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly;
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const OUTPUT = join(ROOT, "build", "kernel");
const ASC = join(ROOT, "node_modules", "assemblyscript", "bin", "asc.js");

/** Loads `entry` (a path from the project's root), compiling it first if a source is newer than the last build. */
export function loadVariant<Exports>(name: VariantName, entry = "assembly/index.ts"): Variant<Exports> {
  const module = new engine.Module(readFileSync(buildVariant(name, entry)));
  const memory = new engine.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
  const instance = new engine.Instance(module, { env: { memory } });
  return {
    exports: instance.exports as Exports,
    memory,
    bytes: new Uint8Array(memory.buffer),
    view: new DataView(memory.buffer),
  };
}

/** Returns the path of the up-to-date module. Test processes may call it at once: each renames its own file into place. */
export function buildVariant(name: VariantName, entry: string): string {
  const stem = join(OUTPUT, `${basename(entry, ".ts")}.${name}`);
  const built = `${stem}.wasm`;
  if (modifiedAt(built) >= newestSource()) return built;

  mkdirSync(OUTPUT, { recursive: true });
  const config = `${stem}.${process.pid}.json`;
  const output = `${stem}.${process.pid}.wasm`;
  const startedAt = new Date();
  writeFileSync(config, JSON.stringify(configWithoutEntries()));
  try {
    const options = ["--config", config, "--target", name, "--outFile", output];
    execFileSync(process.execPath, [ASC, entry, ...options], {
      cwd: ROOT,
      stdio: ["ignore", "inherit", "inherit"],
    });
  } finally {
    rmSync(config);
  }
  // A source that is saved while the compiler runs must count as newer.
  utimesSync(output, startedAt, startedAt);
  renameSync(output, built);
  return built;
}

/** asc would add the entries of the configuration to ours. */
function configWithoutEntries(): unknown {
  const config = JSON.parse(readFileSync(join(ROOT, "asconfig.json"), "utf8"));
  delete config.entries;
  delete config.targets.debug.sourceMap;
  return config;
}

function newestSource(): number {
  const sources = readdirSync(join(ROOT, "assembly"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".spec.ts"))
    .map((path) => join(ROOT, "assembly", path));
  return Math.max(...[join(ROOT, "asconfig.json"), ...sources].map(modifiedAt));
}

function modifiedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
