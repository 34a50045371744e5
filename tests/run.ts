// Runs every test there is: checks, as-pect, then the suites of Node's test runner; prints the counts.
// `npm test -- --only unit` runs one part; `--no-e2e` leaves out what needs root and network namespaces, and says so.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";

const root = path.dirname(import.meta.dirname);
const bin = (name: string): string => path.join(root, "node_modules/.bin", name);

interface Part {
  readonly name: string;
  readonly run: () => Counts;
}

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

// End-to-end suites share the machine's two cores and some fixed names, so they run one after the other.
const PARTS: readonly Part[] = [
  { name: "format and lint", run: () => check(bin("biome"), ["ci", "."]) },
  { name: "types of the host", run: () => check(bin("tsc"), ["--noEmit"]) },
  { name: "types of the packet core", run: () => check(bin("tsc"), ["--noEmit", "-p", "assembly"]) },
  { name: "as-pect", run: asPect },
  { name: "architecture", run: () => nodeTests(["tests/architecture.test.ts"], 2) },
  { name: "kernel", run: () => nodeTests(testFiles("tests/kernel"), 2) },
  { name: "unit", run: () => nodeTests(testFiles("tests/unit"), 2) },
  { name: "fuzz", run: () => nodeTests(testFiles("tests/fuzz"), 2) },
  { name: "model", run: () => nodeTests(testFiles("tests/model"), 1) },
  { name: "e2e", run: () => nodeTests(testFiles("tests/e2e"), 1) },
];

const args = process.argv.slice(2);
const only = args.includes("--only") ? args[args.indexOf("--only") + 1] : undefined;
const parts = PARTS.filter(
  ({ name }) => (only === undefined || name === only) && !(args.includes("--no-e2e") && name === "e2e"),
);
if (parts.length === 0) fail(`no part ${only}; there are: ${PARTS.map(({ name }) => name).join(", ")}`);

const results = parts.map((part) => {
  console.log(`\n── ${part.name}`);
  return { name: part.name, counts: part.run() };
});

console.log("\n── summary");
for (const { name, counts } of results) {
  console.log(
    `${name.padEnd(26)} ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`,
  );
}
if (args.includes("--no-e2e")) console.log("e2e                        left out (--no-e2e)");
const total = (key: keyof Counts): number => results.reduce((sum, { counts }) => sum + counts[key], 0);
console.log(`\n${total("passed")} passed, ${total("failed")} failed, ${total("skipped")} skipped`);
process.exit(total("failed") === 0 ? 0 : 1);

/** A tool that only says yes or no counts as one test. */
function check(program: string, programArgs: readonly string[]): Counts {
  const { status } = spawnSync(program, programArgs, { cwd: root, stdio: "inherit" });
  return status === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
}

function nodeTests(files: readonly string[], concurrency: number): Counts {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const { status, stdout } = spawnSync(
    process.execPath,
    ["--test", `--test-concurrency=${concurrency}`, "--test-reporter=spec", ...files],
    { cwd: root, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8", maxBuffer: 1 << 28 },
  );
  process.stdout.write(stdout);
  const counts = {
    passed: counter(stdout, "pass"),
    failed: counter(stdout, "fail") + counter(stdout, "cancelled"),
    skipped: counter(stdout, "skipped") + counter(stdout, "todo"),
  };
  // A runner that dies without counting has failed.
  return status !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

function asPect(): Counts {
  // asp starts whatever `node` is on the PATH.
  const PATH = `${path.join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  const { status, stdout } = spawnSync(bin("asp"), ["--summary"], {
    cwd: root,
    env: { ...process.env, PATH },
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  process.stdout.write(stdout);
  const plain = stripVTControlCharacters(stdout);
  const line = /\[Tests\]:?\s+(\d+) \/ (\d+)/i.exec(plain.slice(plain.lastIndexOf("[Summary]")));
  const passed = Number(line?.[1] ?? 0);
  const failed = line === null ? 1 : Number(line[2]) - passed;
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed, skipped: 0 };
}

function counter(output: string, name: string): number {
  const matches = [...stripVTControlCharacters(output).matchAll(new RegExp(`^ℹ ${name} (\\d+)$`, "gm"))];
  return Number(matches.at(-1)?.[1] ?? 0);
}

function testFiles(directory: string): string[] {
  const absolute = path.join(root, directory);
  if (!fs.existsSync(absolute)) return [];
  return fs
    .readdirSync(absolute, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => path.join(directory, file))
    .sort();
}

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}
