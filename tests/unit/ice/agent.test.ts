import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeCheck } from "../../../host/core/ice/binding.ts";
import type { IceRole } from "../../../host/core/ice/checklist.ts";
import { MAX_PAIRS, pairPriority } from "../../../host/core/ice/checklist.ts";
import { MAX_REMOTE_CANDIDATES } from "../../../host/core/ice/remote-candidates.ts";
import type { IceCredentials } from "../../../host/core/messages.ts";
import { attributeValue } from "../../../host/core/stun/message.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };
import { AgentHarness, CLIENT_ICE, decode, GATEWAY_ICE, remote } from "./harness.ts";

const HOST = "10.0.0.1:52625";
const RELAYED = "198.51.100.7:50000";
const PEER = "203.0.113.9:40000";
const OTHER = "203.0.113.9:52625";
const VECTOR_SOURCE = vectors.connectivity.mapped;

// ── Answering ───────────────────────────────────────────────────────────────────────────────────

test("answers the check of 16.2 byte for byte (connectivity 17.23)", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  const refusal = gateway.request(vectorCheck(), HOST, VECTOR_SOURCE);

  assert.equal(refusal, undefined);
  const [reply] = gateway.replies;
  assert.equal(Buffer.from(reply?.payload ?? []).toString("hex"), vectors.connectivity.success);
  assert.deepEqual(reply?.source, { ip: "10.0.0.1", port: 52625 });
  assert.deepEqual(reply?.destination, { ip: "192.0.2.1", port: 52625 });
});

test("does not answer a check whose destination is not one of our candidates (connectivity 17.24)", () => {
  const gateway = new AgentHarness("controlled");
  assert.equal(gateway.request(vectorCheck(), HOST, VECTOR_SOURCE), "stun-unmatched");
  gateway.addLocal("host", "10.0.0.2:52625");
  gateway.addLocal("server-reflexive", HOST, "10.0.0.2:52625");
  assert.equal(gateway.request(vectorCheck(), HOST, VECTOR_SOURCE), "stun-unmatched");
  assert.deepEqual(gateway.replies, []);
});

test("does not answer checks with wrong integrity, a foreign user name, or missing attributes", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  const tampered = vectorCheck();
  tampered[70] = (tampered[70] ?? 0) ^ 1;

  assert.equal(gateway.request(tampered, HOST, PEER), "stun-bad-integrity");
  const wrongPassword = { ...GATEWAY_ICE, password: "x" };
  assert.equal(gateway.request(check({ to: wrongPassword }), HOST, PEER), "stun-bad-integrity");
  const foreign = { ...GATEWAY_ICE, username: "zzzz" };
  assert.equal(gateway.request(check({ to: foreign }), HOST, PEER), "stun-unmatched");
  const stranger = { ...CLIENT_ICE, username: "zzzz" };
  assert.equal(gateway.request(check({ from: stranger }), HOST, PEER), "stun-unmatched");
  assert.equal(gateway.request(vectorCheck().slice(0, 20).fill(0, 2, 4), HOST, PEER), "malformed");
  assert.deepEqual(gateway.replies, []);
  assert.deepEqual(gateway.agent.remoteCandidates, []);
});

test("ignores a recorded check that comes again from elsewhere, and answers a duplicate from the same place", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  gateway.request(vectorCheck(), HOST, PEER);
  assert.equal(gateway.request(vectorCheck(), HOST, "192.0.2.66:1"), "stun-unmatched");
  assert.equal(gateway.request(vectorCheck(), HOST, PEER), undefined);

  assert.equal(gateway.replies.length, 2);
  assert.equal(gateway.agent.remoteCandidates.length, 1);
});

test("a check from an unknown address makes a peer-reflexive candidate; a signalled one replaces it in place", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  gateway.request(check({ priority: 12_345 }), HOST, PEER);
  const [learned] = gateway.agent.remoteCandidates;
  assert.equal(learned?.kind, "peer-reflexive");
  assert.equal(learned?.priority, 12_345);

  const signalled = remote("server-reflexive", PEER);
  gateway.addRemote(signalled);
  assert.deepEqual(gateway.agent.remoteCandidates, [signalled]);
  const [pair, ...rest] = gateway.agent.pairs;
  assert.deepEqual(rest, []);
  assert.equal(pair?.remote, signalled);
  assert.equal(pair?.priority, pairPriority("controlled", pair.local, signalled));
});

test("a withdrawn address is ignored until it is signalled again (connectivity 17.20)", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  gateway.addRemote(remote("relayed", PEER));
  gateway.agent.removeRemoteCandidate(remote("relayed", PEER), gateway.now);
  assert.deepEqual(gateway.agent.pairs, []);

  assert.equal(gateway.request(check({ id: 1 }), HOST, PEER), "stun-unmatched");
  assert.deepEqual(gateway.replies, []);
  assert.deepEqual(gateway.agent.remoteCandidates, []);

  gateway.addRemote(remote("relayed", PEER));
  assert.equal(gateway.request(check({ id: 2 }), HOST, PEER), undefined);
  assert.equal(gateway.replies.length, 1);
});

test("a peer that claims our role gets 487 from the higher tie-breaker and its way from the lower", () => {
  const insists = new AgentHarness("controlled");
  insists.addLocal("host", HOST);
  const lower = new Uint8Array(8);
  assert.equal(insists.request(check({ role: "controlled", tieBreaker: lower }), HOST, PEER), undefined);
  const error = decode(insists.replies[0]?.payload ?? new Uint8Array());
  assert.equal(error.class, "error");
  assert.equal(attributeValue(error, "error-code")?.code, 487);
  assert.equal(insists.agent.role, "controlled");
  assert.deepEqual(insists.agent.remoteCandidates, []);

  const yields = new AgentHarness("controlled");
  yields.addLocal("host", HOST);
  const higher = new Uint8Array(8).fill(0xff);
  yields.request(check({ role: "controlled", tieBreaker: higher }), HOST, PEER);
  assert.equal(decode(yields.replies[0]?.payload ?? new Uint8Array()).class, "success");
  assert.equal(yields.agent.role, "controlling");
});

test("does not answer USE-CANDIDATE while it is controlling itself", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  const payload = check({ to: CLIENT_ICE, from: GATEWAY_ICE, role: "controlled", nominates: true });
  assert.equal(client.request(payload, HOST, PEER), "stun-unmatched");
  assert.deepEqual(client.replies, []);
});

// ── Checking ────────────────────────────────────────────────────────────────────────────────────

test("a check has the attributes of connectivity 8.2 in order, signed with the receiver's password", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addRemote(remote("host", PEER));
  const [first] = client.checks;
  assert.ok(first);

  assert.equal(first.transmit.payload.length, 88);
  const { attributes } = first.message;
  assert.deepEqual(
    attributes.map(({ kind }) => kind),
    ["username", "ice-controlling", "priority"],
  );
  assert.equal(attributeValue(first.message, "username"), "kwe6:w7up");
  assert.equal(attributeValue(first.message, "priority"), 1862270719);
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", PEER);
  assert.equal(gateway.request(first.transmit.payload, PEER, HOST), undefined);
});

test("host and server-reflexive candidates of one base share their pairs, one check each", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addLocal("server-reflexive", PEER, HOST);
  client.addRemote(remote("host", "10.9.9.9:1"));
  client.addRemote(remote("host", "[2001:db8::1]:1"));
  assert.equal(client.checks.length, 1);
  assert.equal(client.agent.pairs[0]?.local.kind, "host");
});

test("forged, foreign and repeated answers change nothing", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addRemote(remote("host", PEER));
  const [first] = client.checks;
  assert.ok(first?.transmit.source);
  const answered = new AgentHarness("controlled");
  answered.addLocal("host", PEER);
  answered.request(first.transmit.payload, PEER, HOST);
  const genuine = answered.replies[0]?.payload ?? new Uint8Array();

  const forged = genuine.slice();
  forged[27] = (forged[27] ?? 0) ^ 1;
  const { source, destination } = first.transmit;
  assert.equal(client.success(forged, source, destination), "stun-bad-integrity");
  const foreign = genuine.slice();
  foreign[19] = (foreign[19] ?? 0) ^ 1;
  assert.equal(client.success(foreign, source, destination), "stun-unmatched");
  assert.equal(client.agent.chosen, undefined);

  assert.equal(client.success(genuine, source, destination), undefined);
  assert.ok(client.agent.chosen);
  assert.equal(client.success(genuine, source, destination), "stun-unmatched");
});

test("an unknown mapped address becomes a local peer-reflexive candidate without pairs of its own", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addRemote(remote("host", PEER));
  const [first] = client.checks;
  assert.ok(first);
  client.answer(first, { ip: first.transmit.destination.ip, port: 7 });
  assert.deepEqual(
    client.agent.localCandidates.map(({ kind }) => kind),
    ["host", "peer-reflexive"],
  );
  assert.equal(client.agent.pairs.length, 1);
});

test("guesses a forwarded port from host and reflexive candidate, and checks it (connectivity 17.19)", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addRemote(remote("host", "10.0.0.7:52625"));
  client.addRemote(remote("server-reflexive", PEER));
  assert.deepEqual(client.checkTimes(OTHER), [0]);
});

// ── Choosing ────────────────────────────────────────────────────────────────────────────────────

test("chooses the first pair that works at once, and a better one as soon as it works (connectivity 17.25)", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addLocal("relayed", RELAYED);
  client.addRemote(remote("host", PEER));
  const [relayedCheck] = client.checks.filter((c) => c.transmit.source?.ip === "198.51.100.7");
  const [hostCheck] = client.checks.filter((c) => c.transmit.source?.ip === "10.0.0.1");
  assert.ok(relayedCheck && hostCheck);

  client.runTo(20);
  client.answer(relayedCheck);
  assert.equal(client.agent.chosen?.local.kind, "relayed");
  assert.equal(client.agent.state, "connected");
  assert.deepEqual(nominations(client, "198.51.100.7"), [20]);

  client.runTo(40);
  client.answer(hostCheck);
  assert.equal(client.agent.chosen?.local.kind, "host");
  assert.deepEqual(nominations(client, "10.0.0.1"), [40]);

  client.runTo(6_000);
  const later = client.checks.filter(({ at }) => at > 40);
  assert.ok(later.length > 4);
  assert.ok(
    later.every(({ nominates }) => nominates),
    "both keep their nomination",
  );
});

test("falls back to the next pair that works when the chosen one fails", () => {
  const client = new AgentHarness("controlling");
  client.answers = ({ at, transmit }) => at < 5_000 || transmit.destination.port === 40_000;
  client.addLocal("host", HOST);
  client.addRemote(remote("server-reflexive", PEER));
  client.addRemote(remote("host", "192.0.2.8:9"));
  client.runTo(5_000);
  assert.equal(client.agent.chosen?.remote.kind, "host");
  client.runTo(25_000);
  assert.equal(client.agent.chosen?.remote.kind, "server-reflexive");
  assert.equal(client.agent.state, "connected");
});

test("the peer's first check on a pair triggers ours at once, later ones do not", () => {
  const client = new AgentHarness("controlling");
  client.addLocal("host", HOST);
  client.addRemote(remote("host", PEER));
  client.runTo(100);
  client.request(check({ id: 1, from: GATEWAY_ICE, to: CLIENT_ICE, role: "controlled" }), HOST, PEER);
  assert.deepEqual(client.checkTimes(PEER), [0, 100]);
  client.runTo(120);
  client.request(check({ id: 2, from: GATEWAY_ICE, to: CLIENT_ICE, role: "controlled" }), HOST, PEER);
  assert.deepEqual(client.checkTimes(PEER), [0, 100]);
});

test("the controlled side follows nominations, and checks the nominated pair at once", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  gateway.addRemote(remote("host", PEER));
  gateway.runTo(100);
  gateway.request(check({ id: 1 }), HOST, PEER);
  assert.equal(gateway.agent.chosen, undefined);
  assert.deepEqual(gateway.checkTimes(PEER), [0, 100]);

  gateway.runTo(200);
  gateway.request(check({ id: 2, nominates: true }), HOST, PEER);
  assert.ok(gateway.agent.chosen);
  assert.deepEqual(gateway.checkTimes(PEER), [0, 100, 200]);
  gateway.request(check({ id: 3, nominates: true }), HOST, PEER);
  assert.deepEqual(gateway.checkTimes(PEER), [0, 100, 200], "further nominations change nothing");
});

test("of several nominated pairs the highest is used, and the lower when that fails (connectivity 17.26)", () => {
  const gateway = new AgentHarness("controlled");
  gateway.answers = ({ at, transmit }) => at < 5_000 || transmit.destination.port === 40_000;
  gateway.addLocal("host", HOST);
  gateway.addRemote(remote("server-reflexive", PEER));
  gateway.addRemote(remote("host", "192.0.2.8:9"));
  gateway.request(check({ id: 1, nominates: true }), HOST, PEER);
  assert.equal(gateway.agent.chosen?.remote.kind, "server-reflexive");
  gateway.request(check({ id: 2, nominates: true }), HOST, "192.0.2.8:9");
  assert.equal(gateway.agent.chosen?.remote.kind, "host");
  gateway.request(check({ id: 3, nominates: true }), HOST, PEER);
  assert.equal(gateway.agent.chosen?.remote.kind, "host");

  gateway.runTo(60_000);
  assert.equal(gateway.agent.chosen?.remote.kind, "server-reflexive");
});

test("is checking without candidates, disconnected when all pairs failed, and checking again with a new one", () => {
  const client = new AgentHarness("controlling");
  client.runTo(60_000);
  assert.equal(client.agent.state, "checking");
  client.addLocal("host", HOST);
  assert.equal(client.agent.state, "checking");
  client.addRemote(remote("host", PEER));
  client.runTo(60_000 + 15_249);
  assert.equal(client.agent.state, "checking");
  client.runTo(60_000 + 15_250);
  assert.equal(client.agent.state, "disconnected");
  client.addRemote(remote("host", "192.0.2.8:9"));
  assert.equal(client.agent.state, "checking");
});

// ── Limits ──────────────────────────────────────────────────────────────────────────────────────

test("keeps the 100 best pairs", () => {
  const client = new AgentHarness("controlling");
  for (let i = 0; i < 3; i++) client.addLocal("host", `10.0.0.${i + 1}:52625`);
  for (let i = 0; i < 60; i++) client.addRemote(remote("host", `192.0.2.${i + 1}:9`, i));
  assert.equal(client.agent.pairs.length, MAX_PAIRS);
  const priorities = client.agent.pairs.map(({ priority }) => priority);
  assert.deepEqual(
    priorities,
    priorities.toSorted((a, b) => (a < b ? 1 : -1)),
  );
  const best = client.agent.pairs[0];
  assert.equal(best?.local.address.ip, "10.0.0.1");
  assert.equal(best?.remote.address.ip, "192.0.2.1");
});

test("a peer that checks from ever new addresses fills neither candidates nor pairs", () => {
  const gateway = new AgentHarness("controlled");
  gateway.addLocal("host", HOST);
  gateway.addRemote(remote("host", PEER));
  gateway.request(check({ id: 1, nominates: true }), HOST, PEER);
  for (let i = 0; i < 1_000; i++) {
    gateway.request(check({ id: 2 + i }), HOST, `192.0.2.1:${1_000 + i}`);
  }
  assert.ok(gateway.agent.remoteCandidates.length <= MAX_REMOTE_CANDIDATES);
  assert.ok(gateway.agent.pairs.length <= MAX_REMOTE_CANDIDATES);
  assert.equal(gateway.agent.chosen?.remote.address.port, 40_000);
  assert.ok(gateway.agent.remoteCandidates.some(({ kind }) => kind === "host"));
});

function vectorCheck(): Uint8Array {
  return new Uint8Array(Buffer.from(vectors.connectivity.check, "hex"));
}

function check(options: {
  id?: number;
  to?: IceCredentials;
  from?: IceCredentials;
  role?: IceRole;
  tieBreaker?: Uint8Array;
  priority?: number;
  nominates?: boolean;
}): Uint8Array {
  const transactionId = new Uint8Array(12);
  new DataView(transactionId.buffer).setUint32(8, options.id ?? 0);
  return encodeCheck({
    transactionId,
    local: options.from ?? CLIENT_ICE,
    remote: options.to ?? GATEWAY_ICE,
    role: options.role ?? "controlling",
    tieBreaker: options.tieBreaker ?? new Uint8Array(8).fill(1),
    priority: options.priority ?? 1862270719,
    nominates: options.nominates ?? false,
  });
}

function nominations(harness: AgentHarness, sourceIp: string): number[] {
  return harness.checks
    .filter((sent) => sent.nominates && sent.transmit.source?.ip === sourceIp)
    .map((sent) => sent.at);
}
