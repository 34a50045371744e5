import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";

const root = path.dirname(import.meta.dirname);
const MAX_LINES = 600;

interface Source {
  readonly file: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const host = sources("host");
const assembly = sources("assembly");

// Which folders of host/ a folder may import from; its own is always allowed.
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  core: [],
  wasm: ["core"],
  io: ["core"],
  portal: ["core"],
  daemon: ["io", "portal", "core", "wasm"],
  lab: ["io", "core"],
  cli: ["daemon", "lab", "io", "portal", "core"],
};

test("imports point one way only: cli → daemon → io, portal, wasm → core", () => {
  const violations = host.flatMap(({ file, imports }) => {
    const from = layerOf(file);
    const allowed = from === undefined ? undefined : ALLOWED[from];
    if (from === undefined || allowed === undefined) return [];
    return imports
      .map((target) => layerOf(target))
      .filter((to) => to !== undefined && to !== from && !allowed.includes(to))
      .map((to) => `${file} imports from host/${to}`);
  });
  assert.deepEqual(violations, []);
});

test("every folder of host/ has import rules", () => {
  const folders = fs.readdirSync(path.join(root, "host"), { withFileTypes: true });
  assert.deepEqual(
    folders.filter((entry) => entry.isDirectory() && !(entry.name in ALLOWED)).map((entry) => entry.name),
    [],
  );
});

test("host/core uses no Node module, clock, randomness, promise or timer", () => {
  const forbidden = [
    /from "node:/,
    /\bDate\b/,
    /\bperformance\b/,
    /\bMath\.random\b/,
    /\bPromise\b/,
    /\basync\b/,
    /\bsetTimeout\b/,
    /\bsetInterval\b/,
    /\bcrypto\.(subtle|getRandomValues|randomUUID)\b/,
    /\bprocess\./,
    /\bconsole\./,
  ];
  const violations = host
    .filter(({ file }) => file.startsWith("host/core/"))
    .flatMap(({ file, text }) =>
      forbidden
        .filter((pattern) => pattern.test(withoutComments(text)))
        .map((pattern) => `${file}: ${pattern}`),
    );
  assert.deepEqual(violations, []);
});

test("linear memory is made and viewed in host/wasm only", () => {
  const violations = host
    .filter(({ file }) => !file.startsWith("host/wasm/"))
    .filter(({ text }) => /\bWebAssembly\b|\bmemory\.buffer\b/.test(withoutComments(text)))
    .map(({ file }) => file);
  assert.deepEqual(violations, []);
});

test("host/io knows no protocol", () => {
  const protocols = /host\/core\/(wg|stun|turn|ice|relay|dns|nat|policy|client|gateway|connection|packet)\b/;
  const violations = host
    .filter(({ file }) => file.startsWith("host/io/") && file !== "host/io/crypto.ts")
    .flatMap(({ file, imports }) =>
      imports.filter((target) => protocols.test(target)).map((target) => `${file} → ${target}`),
    );
  assert.deepEqual(violations, []);
});

test("the packet core imports only itself", () => {
  const violations = assembly.flatMap(({ file, imports }) =>
    imports.filter((target) => !target.startsWith("assembly/")).map((target) => `${file} → ${target}`),
  );
  assert.deepEqual(violations, []);
});

test("the ABI has bare literals that both compilers read", () => {
  const abi = fs.readFileSync(path.join(root, "assembly/abi.ts"), "utf8");
  const lines = abi.split("\n").filter((line) => line !== "" && !/^\s*(\/\/|\/\*|\*)/.test(line));
  for (const line of lines) assert.match(line, /^export const [A-Z0-9_]+ = -?(0x[0-9a-f]+|\d+);$/);
});

test(`no source file has more than ${MAX_LINES} lines`, () => {
  const long = [...host, ...assembly, ...sources("tests"), ...sources("bench")]
    .filter(({ file }) => !file.includes(".gen."))
    .filter(({ text }) => text.split("\n").length > MAX_LINES)
    .map(({ file }) => file);
  assert.deepEqual(long, []);
});

function layerOf(file: string): string | undefined {
  const parts = file.split("/");
  return parts[0] === "host" && parts.length > 2 ? parts[1] : undefined;
}

function sources(folder: string): Source[] {
  const absolute = path.join(root, folder);
  return fs
    .readdirSync(absolute, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => {
      const file = path.join(folder, name);
      const text = fs.readFileSync(path.join(root, file), "utf8");
      return { file, text, imports: relativeImports(file, text) };
    });
}

/** Imported files, relative to the root; packages are left out. */
function relativeImports(file: string, text: string): string[] {
  return [...text.matchAll(/\bfrom "(\.[^"]+)"/g)].map((match) =>
    path.join(path.dirname(file), match[1] ?? ""),
  );
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/.*$/gm, "");
}
