// First step of `npm start`, `npm test` and `npm run bench`: from a bare checkout to a running program.
// Plain JavaScript for any Node from 20 on; everything after it runs on the Node version that we pin.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname);
const nodeModules = path.join(root, "node_modules");
const node = path.join(nodeModules, ".bin", "node");

/** Debian packages behind the programs that the lab and the tests run. */
const PACKAGES = {
  ip: "iproute2",
  nft: "nftables",
  unshare: "util-linux",
  nsenter: "util-linux",
  ping: "iputils-ping",
  curl: "curl",
  iperf3: "iperf3",
};
const TEST_PACKAGES = {
  ...PACKAGES,
  "wireguard-go": "wireguard-go",
  wg: "wireguard-tools",
  dig: "dnsutils",
  openssl: "openssl",
};

const COMMANDS = {
  lab: { packages: PACKAGES, program: ["dist/culvert.js", "lab"] },
  test: { packages: TEST_PACKAGES, program: ["tests/run.ts"] },
  bench: { packages: TEST_PACKAGES, program: ["bench/run.ts"] },
};

const [name = "", ...rest] = process.argv.slice(2);
const command = COMMANDS[name];
if (command === undefined) fail(`unknown command ${name}; use one of: ${Object.keys(COMMANDS).join(", ")}`);

const noInstall = rest.includes("--no-install");
installPackages(command.packages);
installModules();
buildIfStale();
process.exit(run(node, [...command.program, ...rest.filter((arg) => arg !== "--no-install")]));

function installPackages(programs) {
  const missing = [
    ...new Set(
      Object.keys(programs)
        .filter((p) => !onPath(p))
        .map((p) => programs[p]),
    ),
  ];
  if (missing.length === 0) return;

  console.log(`This needs Debian packages that are not installed: ${missing.join(" ")}`);
  if (noInstall)
    fail(`install them, for example with: apt-get install --no-install-recommends ${missing.join(" ")}`);
  if (process.getuid?.() !== 0 || !onPath("apt-get")) fail("install them, then start again");

  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  step("apt-get", ["update", "-qq"], { env: environment, stdio: ["ignore", "ignore", "inherit"] });
  step("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing], {
    env: environment,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

function installModules() {
  const lock = fs.readFileSync(path.join(root, "package-lock.json"));
  const stamp = path.join(nodeModules, ".culvert-stamp");
  const wanted = createHash("sha256").update(lock).digest("hex");
  if (fs.existsSync(node) && fs.existsSync(stamp) && fs.readFileSync(stamp, "utf8") === wanted) return;

  console.log("Installing npm packages …");
  // Everything that is needed comes inside the packages: no install script has to run.
  step("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
  fs.writeFileSync(stamp, wanted);
}

function buildIfStale() {
  const output = path.join(root, "dist", "culvert.js");
  const built = fs.existsSync(output) ? fs.statSync(output).mtimeMs : 0;
  const sources = ["assembly", "host", "package-lock.json", "asconfig.json"].map((s) => path.join(root, s));
  if (Math.max(...sources.map(newest)) <= built) return;

  console.log("Building …");
  step(node, ["host/build.ts"]);
}

function newest(file) {
  const stat = fs.statSync(file);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...fs.readdirSync(file).map((entry) => newest(path.join(file, entry))));
}

function onPath(program) {
  const directories = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"];
  return directories.some((directory) => fs.existsSync(path.join(directory, program)));
}

function step(program, args, options = {}) {
  const code = run(program, args, options);
  if (code !== 0) fail(`${program} ${args.join(" ")} ended with exit code ${code}`);
}

function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error !== undefined) fail(`${program}: ${result.error.message}`);
  return result.status ?? 1;
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
