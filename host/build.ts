// Builds everything that is shipped: the packet core (three variants) and the bundled program.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { build } from "esbuild";

const root = path.dirname(import.meta.dirname);
const TARGETS = ["release", "plain", "debug"] as const;

for (const target of TARGETS) {
  const result = spawnSync(
    path.join(root, "node_modules/.bin/asc"),
    ["assembly/index.ts", "--config", "asconfig.json", "--target", target],
    { cwd: root, stdio: "inherit" },
  );
  if (result.status !== 0) process.exit(result.status ?? 1);
}

fs.rmSync(path.join(root, "dist"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: {
    culvert: "host/cli/main.ts",
    "data-thread": "host/daemon/data-thread.ts",
    "lab-service": "host/lab/service.ts",
    index: "host/index.ts",
  },
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  // koffi finds its native library beside its own files.
  external: ["koffi"],
  // Some dependencies are CommonJS and call require for Node's own modules.
  banner: {
    js: 'import { createRequire as culvertRequire } from "node:module"; const require = culvertRequire(import.meta.url);',
  },
  logLevel: "warning",
});
for (const [from, to] of [
  ["core.wasm", "core.wasm"],
  ["core.plain.wasm", "core.plain.wasm"],
]) {
  fs.copyFileSync(path.join(root, "build", from ?? ""), path.join(root, "dist", to ?? ""));
}

// For a checkout: runs the program with the pinned Node, whatever the machine has.
const launcher = path.join(root, "dist", "culvert");
fs.writeFileSync(
  launcher,
  '#!/bin/sh\nhere=$(dirname "$0")\nexec "$here/../node_modules/.bin/node" "$here/culvert.js" "$@"\n',
  {
    mode: 0o755,
  },
);
