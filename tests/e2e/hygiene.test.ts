import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { LabHost } from "../../host/lab/host.ts";
import { LAB_PORTAL } from "../../host/lab/policy.ts";
import { TestLab } from "./lab-harness.ts";
import { Program } from "./program.ts";

const PAGE = "http://web.private.test/";
const MAIN = path.resolve(import.meta.dirname, "../../host/cli/main.ts");
const RULES_OF_THE_CLIENT = [100, 300];

describe("what daemons leave behind", () => {
  let lab: TestLab;
  let client: LabHost;
  let gateway: LabHost;
  let untouched: { readonly client: string; readonly gateway: string };
  before(async () => {
    lab = await TestLab.create();
    // The portal slows down peers that come back as quickly as here.
    lab.expectWarning(/^portal refused the connection$/);
    client = lab.lab.host("client");
    gateway = lab.lab.host("gateway");
    untouched = { client: await state(client), gateway: await state(gateway) };
    await lab.lab.startAll();
  });
  after(() => lab.finish());

  test("no secret is in the logs, nor in what other users see of the processes", async () => {
    const recorders = [];
    for (const router of ["client-router", "gateway-router"] as const) {
      const script = path.join(import.meta.dirname, "wire-recorder.ts");
      const recorder = new Program(lab.lab.host(router), [process.execPath, script, "lan", "tcp", "8081"]);
      await recorder.outputs(/recording/);
      recorders.push(recorder);
    }
    await Promise.all([lab.lab.stop("client"), lab.lab.stop("gateway")]);
    await Promise.all([lab.lab.start("client"), lab.lab.start("gateway")]);
    await lab.fetch(PAGE);

    const secrets = [...storedSecrets(lab.lab.directory), ...recorders.flatMap((r) => wireSecrets(r.output))];
    await Promise.all(recorders.map((recorder) => recorder.stop()));
    const kinds = new Set(secrets.map(({ kind }) => kind));
    assert.deepEqual([...kinds].sort(), ["password", "preshared_key", "seed", "token"]);

    for (const name of ["portal", "relay", "gateway", "client"] as const) {
      const pid = lab.lab.pid(name);
      const visible = {
        log: fs.readFileSync(lab.lab.logFile(name), "utf8"),
        "command line": fs.readFileSync(`/proc/${pid}/cmdline`, "latin1"),
        environment: fs.readFileSync(`/proc/${pid}/environ`, "latin1"),
      };
      for (const [where, text] of Object.entries(visible)) {
        for (const { kind, value } of secrets) {
          assert.ok(!text.includes(value), `a ${kind} is in the ${where} of the ${name}`);
        }
      }
      const keys = visible.log.match(/"[^"]*(?:[A-Za-z0-9+/]{43}=|\b[0-9a-f]{64}\b)[^"]*"/g) ?? [];
      assert.deepEqual(keys, [], `something that looks like a key is in the log of the ${name}`);
    }
  });

  test("a token in the environment is gone from it once it was read", async () => {
    const token = fs.readFileSync(path.join(lab.lab.directory, "client.token"), "utf8");
    await lab.lab.stop("client");
    const command = ["env", `CULVERT_TOKEN=${token}`, process.execPath, MAIN, "client"];
    const program = new Program(client, [...command, "--portal", LAB_PORTAL.url, "--id", "lab-client"]);
    await program.outputs(/tunnel ready/);
    const environment = fs.readFileSync(`/proc/${program.pid}/environ`, "latin1");
    assert.equal(await program.stop(), 0);
    assert.doesNotMatch(program.output, new RegExp(token));
    assert.ok(!environment.includes(token), "environment");
    await lab.lab.start("client");
  });

  test("SIGTERM puts everything back as it was", async () => {
    await lab.fetch(PAGE);
    assert.notEqual(await state(client), untouched.client);
    assert.notEqual(await state(gateway), untouched.gateway);

    assert.equal(await lab.lab.stop("client"), 0);
    assert.equal(await lab.lab.stop("gateway"), 0);
    assert.equal(await state(client), untouched.client);
    assert.equal(await state(gateway), untouched.gateway);
  });

  test("a start after SIGKILL finds its way: rules once, and the original resolv.conf at the end", async () => {
    await Promise.all([lab.lab.start("gateway"), lab.lab.start("client")]);
    await lab.lab.stop("client", "SIGKILL");
    await lab.lab.stop("gateway", "SIGKILL");
    assert.match(await resolvConf(client), /^# BEGIN Culvert/);
    assert.deepEqual(await rulesOfClient(client), RULES_OF_THE_CLIENT);

    await Promise.all([lab.lab.start("gateway"), lab.lab.start("client")]);
    assert.deepEqual(await rulesOfClient(client), RULES_OF_THE_CLIENT);
    assert.deepEqual(await lab.resolve("public.test"), ["203.0.113.80"], "the resolver of before is known");
    await lab.fetch(PAGE);

    await lab.lab.stop("client");
    assert.equal(await state(client), untouched.client);
    await lab.lab.start("client");
  });

  test("a second client on the host ends at once and leaves the first alone", async () => {
    const before = await state(client);
    const { code, stdout } = await run(client, "client", "client");
    assert.equal(code, 1);
    assert.match(stdout, /tun-culvert: EBUSY: another process uses it/);
    assert.equal(await state(client), before);
    await lab.fetch(PAGE);
  });

  test("a second gateway on the host ends at once and leaves the first alone", async () => {
    const before = await state(gateway);
    const { code, stdout } = await run(gateway, "gateway", "gateway");
    assert.equal(code, 1);
    assert.match(stdout, /tun-culvert: EBUSY: another process uses it/);
    assert.equal(await state(gateway), before);
    await lab.fetch(PAGE);
  });

  test("a resolv.conf that is a symbolic link is refused, and nothing is changed", async () => {
    await lab.lab.stop("client");
    await lab.onClient(
      "sh",
      "-c",
      "mv /etc/resolv.conf /etc/managed.conf; ln -s managed.conf /etc/resolv.conf",
    );
    const { code, stdout } = await run(client, "client", "client");
    assert.equal(code, 1);
    assert.match(stdout, /resolv\.conf is a symbolic link.*--dns-control disabled/);
    assert.equal(await state(client), untouched.client);
    assert.equal(await lab.onClient("readlink", "/etc/resolv.conf"), "managed.conf\n");

    await lab.lab.start("client", ["--dns-control", "disabled"]);
    assert.equal(await resolvConf(client), "nameserver 203.0.113.53\n");
    await lab.fetch("http://10.20.0.100/");
    assert.equal(await lab.lab.stop("client"), 0);
    await lab.onClient("mv", "/etc/managed.conf", "/etc/resolv.conf");
  });

  test("a log folder gets one file per run: JSON lines, a link to the newest, not readable by everybody", async () => {
    const directory = path.join(lab.lab.directory, "client-logs");
    await lab.lab.start("client", ["--log-dir", directory]);
    await lab.fetch(PAGE);
    await lab.lab.stop("client");
    const file = fs.realpathSync(path.join(directory, "culvert-client.latest"));
    assert.match(path.basename(file), /^culvert-client\.\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.log$/);
    assert.equal(fs.statSync(file).mode & 0o007, 0);

    const lines = fs.readFileSync(file, "utf8").trimEnd().split("\n");
    const read = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    for (const { time, severity, message } of read) {
      assert.match(`${time} ${severity} ${message}`, /^\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warn) \S.*$/);
    }
    assert.ok(read.some(({ message }) => message === "tunnel ready"));
    assert.equal(read.at(-1)?.["message"], "goodbye");
    await lab.lab.start("client");
  });

  test("what a portal and a device keep on disk is for their owner only", async () => {
    for (const name of fs.readdirSync(lab.lab.directory).filter((entry) => entry.includes("token"))) {
      assert.equal(fs.statSync(path.join(lab.lab.directory, name)).mode & 0o077, 0, name);
    }
    // Without a machine id the device id is drawn and kept.
    await lab.lab.stop("client");
    const stateDir = path.join(lab.lab.directory, "state");
    await lab.onClient("sh", "-c", ": > /etc/machine-id");
    const token = ["--token-file", path.join(lab.lab.directory, "client.token")];
    const args = ["client", "--portal", LAB_PORTAL.url, ...token, "--state-dir", stateDir];
    const program = new Program(client, [process.execPath, MAIN, ...args]);
    await program.outputs(/tunnel ready/);
    assert.equal(await program.stop(), 0);
    const id = path.join(stateDir, "id.json");
    assert.match((JSON.parse(fs.readFileSync(id, "utf8")) as { id: string }).id, /^[0-9a-f-]{36}$/);
    assert.equal(fs.statSync(id).mode & 0o007, 0);
    assert.equal(fs.statSync(stateDir).mode & 0o007, 0);
  });

  /** Another daemon of this kind with the same token, to its end. */
  function run(host: LabHost, role: string, token: string) {
    const file = path.join(lab.lab.directory, `${token}.token`);
    const args = [role, "--portal", LAB_PORTAL.url, "--token-file", file, "--id", "second"];
    return host.exec([process.execPath, MAIN, ...args], 10_000);
  }
});

/** Everything on a host that a daemon may change, as text. */
async function state(host: LabHost): Promise<string> {
  const commands = [
    "ip -o -4 addr; ip -o -6 addr show scope global",
    "ip -4 rule; ip -6 rule",
    "ip -4 route show table all; ip -6 route show table all | grep -v '^multicast\\|^anycast\\|fe80::' | sed 's/ expires [0-9]*sec//'",
    "nft list ruleset",
    "cat /etc/resolv.conf; stat -L -c '%a %U' /etc/resolv.conf",
    "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
  ];
  const { stdout } = await host.exec(["sh", "-c", commands.map((c) => `${c}; echo --`).join("\n")]);
  return stdout.replace(/ packets \d+ bytes \d+/g, "");
}

async function resolvConf(host: LabHost): Promise<string> {
  return (await host.exec(["cat", "/etc/resolv.conf"])).stdout;
}

/** Priorities of our rules, equal in both families. */
async function rulesOfClient(host: LabHost): Promise<number[]> {
  const found = [];
  for (const family of ["-4", "-6"]) {
    const { stdout } = await host.exec(["ip", family, "-j", "rule"]);
    const rules = JSON.parse(stdout) as { priority: number }[];
    found.push(rules.map(({ priority }) => priority).filter((p) => p > 0 && p < 32_766));
  }
  assert.deepEqual(found[0], found[1]);
  return found[0] ?? [];
}

interface Secret {
  readonly kind: string;
  readonly value: string;
}

function storedSecrets(directory: string): Secret[] {
  const found: Secret[] = [];
  for (const name of fs.readdirSync(directory)) {
    const text = name.includes("token") ? fs.readFileSync(path.join(directory, name), "utf8") : "";
    const seed = /"seed":\s*"([^"]+)"/.exec(text)?.[1];
    if (seed !== undefined) found.push({ kind: "seed", value: seed });
    else if (name.endsWith(".token")) found.push({ kind: "token", value: text.trim() });
  }
  return found;
}

/** What the portal told client and gateway, read off the wire. */
function wireSecrets(recording: string): Secret[] {
  const text = recording
    .split("\n")
    .map((line) => Buffer.from(line, "base64").toString("latin1"))
    .join("");
  return [...text.matchAll(/"(password|preshared_key)":"([^"]+)"/g)].map(([, kind = "", value = ""]) => ({
    kind,
    value,
  }));
}
