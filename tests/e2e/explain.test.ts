import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { ADDRESSES } from "../../host/lab/topology.ts";
import { TestLab } from "./lab-harness.ts";

const WEB = ADDRESSES.siteWeb.v4;

let lab: TestLab;
before(async () => {
  lab = await TestLab.start();
});
after(() => lab.finish());

test("before anything was asked for, a client explains that the first packet asks the portal", async () => {
  const { code, stdout } = await ask("client", "explain", "--to", "web.private.test", "--port", "80");
  assert.equal(code, 3);
  assert.match(stdout, /^tcp port 80 of web\.private\.test: waits\. Nobody has asked the portal/);
  assert.match(stdout, /^ {2}resource {2}Private web \(dns \*\*\.private\.test\)$/m);
  const { peers } = await json("client", "status");
  assert.deepEqual(peers, [], "explaining connected nobody");
});

test("what passes and what a rule refuses is told as it happens", async () => {
  await lab.fetch("http://web.private.test/");
  const allowed = await json("client", "explain", "--to", "web.private.test", "--port", "80");
  assert.deepEqual([allowed["verdict"], allowed["reason"]], ["passes", "permitted"]);
  assert.deepEqual(allowed["rule"], { kind: "tcp", firstPort: 80, lastPort: 80 });
  assert.match(String((allowed["peer"] as Record<string, unknown>)["path"]), /->/);

  const refused = await ask("client", "explain", "--to", WEB, "--port", "8080");
  assert.equal(refused.code, 3);
  assert.match(refused.stdout, /refused\. A resource covers it, but none of its rules permits it\./);
  const attempt = await lab.lab
    .host("client")
    .exec(["curl", "-sS", "--max-time", "5", `http://${WEB}:8080/`]);
  assert.notEqual(attempt.code, 0);

  const ping = await ask("client", "explain", "--to", "web.private.test", "--proto", "icmp");
  assert.equal(ping.code, 0, ping.stdout + ping.stderr);
});

test("a name that is no resource is not a matter of the tunnel", async () => {
  const answer = await json("client", "explain", "--to", "public.test");
  assert.deepEqual([answer["verdict"], answer["reason"]], ["outside", "name-not-ours"]);
});

test("the gateway explains the same packet from its side, with the address behind the name", async () => {
  const { stdout, code } = await ask(
    "gateway",
    "explain",
    "--to",
    "web.private.test",
    "--port",
    "80",
    "--from",
    "laptop",
  );
  assert.equal(code, 0, stdout);
  assert.match(stdout, /passes\. The client is granted a resource that covers it\./);
  assert.match(stdout, new RegExp(`^  sent on to +${ADDRESSES.namedWeb.v4.replaceAll(".", "\\.")}$`, "m"));
  assert.match(stdout, /^ {2}client +laptop \(/m);

  const refused = await json("gateway", "explain", "--to", "web.private.test", "--port", "22");
  assert.deepEqual([refused["verdict"], refused["reason"]], ["refused", "filter"]);
  const stranger = await json("gateway", "explain", "--to", WEB, "--from", "nobody");
  assert.equal(stranger["reason"], "unknown-client");
});

test("status shows both ends of the same path, and counts both ways", async () => {
  const client = await json("client", "status");
  const gateway = await json("gateway", "status");
  const [there] = client.peers;
  const [back] = gateway.peers;
  assert.equal((client["portal"] as Record<string, unknown>)["state"], "joined");
  assert.deepEqual([there?.["state"], there?.["via"]], ["connected", "direct"]);
  assert.equal(there?.["ipv4"], gateway["ipv4"]);
  assert.equal(back?.["ipv4"], client["ipv4"]);
  assert.equal(back?.["name"], "laptop");
  for (const peer of [there, back]) {
    for (const way of ["sent", "received"]) {
      const traffic = peer?.[way] as Record<string, number> | undefined;
      assert.ok((traffic?.["packets"] ?? 0) > 0, way);
    }
    assert.equal(typeof peer?.["handshakeAgeMs"], "number");
  }
  assert.ok(Number(there?.["roundTripMs"]) > 0);
});

test("status is a table for people, on both ends", async () => {
  const client = (await ask("client", "status")).stdout;
  assert.match(client, /^client +up for /m);
  assert.match(client, /^GATEWAY +STATE +FOR +ROUND TRIP/m);
  assert.match(client, / direct for .*: \S+ -> \S+ \(\S+, \S+\) +Private web/);
  assert.match(client, /^Private web +dns +\*\*\.private\.test +Private network +online/m);
  const gateway = (await ask("gateway", "status")).stdout;
  assert.match(gateway, /^CLIENT +ACTOR +ADDRESS/m);
  assert.match(gateway, /^Private web +dns +\*\*\.private\.test +laptop/m);
});

test("a daemon that is killed leaves its socket, and its successor takes it over and away", async () => {
  const socket = lab.lab.socket("gateway");
  assert.equal(fs.statSync(socket).mode & 0o777, 0o600);
  await lab.lab.stop("gateway", "SIGKILL");
  assert.ok(fs.existsSync(socket));
  const gone = await ask("gateway", "status");
  assert.deepEqual([gone.code, /no daemon listens/.test(gone.stderr)], [1, true]);

  await lab.lab.start("gateway");
  assert.equal((await json("gateway", "status"))["role"], "gateway");
  assert.equal(await lab.lab.stop("gateway"), 0);
  assert.deepEqual(
    fs.readdirSync(path.dirname(socket)).filter((file) => file === "gateway.sock"),
    [],
  );
});

function ask(daemon: "client" | "gateway", ...args: string[]) {
  return lab.lab.ask(daemon, ...args);
}

type Answer = Record<string, unknown> & { readonly peers: readonly Record<string, unknown>[] };

async function json(daemon: "client" | "gateway", ...args: string[]): Promise<Answer> {
  const { stdout, stderr } = await ask(daemon, ...args, "--json");
  assert.equal(stderr, "");
  return JSON.parse(stdout) as Answer;
}
