import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSocketAddress } from "../../../host/core/address.ts";
import { parseCandidate } from "../../../host/core/ice/candidate.ts";
import { relayAt } from "../../sim/node.ts";
import { CLIENT, CLIENT_IP, GATEWAY, GATEWAY_IP, isRequest, RELAY, World, wireGuardType } from "./world.ts";

const GOODBYE =
  "600000000008ff0000000000000000000000000000000000000000000000000000000000000000000200000000000000";
const HOST_CANDIDATE = "candidate:1 1 udp 2130706175 10.1.0.5 52625 typ host";

// ── Making a connection ─────────────────────────────────────────────────────────────────────────

test("refuses a grant without relays, and makes the connection with one that has not answered yet (connectivity 17.3)", () => {
  const world = new World({ relays: "later" });
  assert.equal(world.grantClient(), "no-relays");
  assert.equal(world.clientStatus(), undefined);

  world.nameRelay();
  assert.equal(world.grantClient(), "created");
  assert.deepEqual(world.client.eventsOf("candidates-added"), []);
  world.network.run(25);
  const [added] = world.client.eventsOf("candidates-added");
  assert.equal(added?.node, GATEWAY);
  assert.deepEqual(
    added?.candidates.map((text) => parseCandidate(text)?.candidate),
    [
      { kind: "host", address: parseSocketAddress("10.0.0.5:52625"), priority: 2130706175 },
      { kind: "server-reflexive", address: parseSocketAddress("203.0.113.1:40000"), priority: 1686109951 },
    ],
  );
});

test("signals all candidates in one message, best first, without a reflexive twin where there is no NAT", () => {
  const world = new World({ clientNat: "none" });
  world.grantClient();
  const added = world.client.eventsOf("candidates-added");
  assert.deepEqual(
    added.map(({ candidates }) => candidates.map((text) => text.split(" ")[7])),
    [["host"]],
  );
});

test("emits no-relays when the last relay went silent", () => {
  const world = new World();
  world.relay.isSilent = true;
  world.network.run(40_000);
  assert.equal(world.client.eventsOf("no-relays").length, 1);
  assert.equal(world.grantClient(), "no-relays");
});

test("fails after 10 s without a candidate of the peer (connectivity 17.27)", () => {
  const world = new World();
  world.grantClient();
  world.network.run(9_999);
  assert.equal(world.clientStatus()?.state, "connecting");
  world.network.run(1);
  assert.deepEqual(
    world.client.eventsOf("failed").map(({ reason }) => reason),
    ["no candidates of the peer"],
  );
  assert.equal(world.clientStatus(), undefined);
  assert.equal(world.client.connectivity.pollTimeout()?.reason, "relay keep-alive");
});

test("ignores candidates with a foreign ufrag and uses those without one (connectivity 17.18)", () => {
  const world = new World();
  world.grantClient();
  const targets = () => world.sentBy(CLIENT_IP).checks.map(({ to }) => to.port);
  const add = (text: string) => {
    world.client.connectivity.addRemoteCandidates(GATEWAY, [text], world.now);
    world.client.drain(world.now);
    world.network.settle();
  };
  add("candidate:1 1 udp 1 192.0.2.1 1001 typ host ufrag zzzz");
  add("not a candidate");
  assert.deepEqual(targets(), []);
  add("candidate:1 1 udp 1 192.0.2.1 1002 typ host ufrag kwe6");
  add("candidate:1 1 udp 1 192.0.2.1 1003 typ host");
  assert.deepEqual(targets(), [1002, 1003]);
});

test("the client handshakes when its path is chosen and confirms with a keepalive at once (connectivity 17.28)", () => {
  const world = new World();
  world.establish();
  const wire = world.network.sent
    .filter(({ payload }) => wireGuardType(payload) !== undefined)
    .map(({ from, payload }) => [from.ip, wireGuardType(payload), payload.length]);
  assert.deepEqual(wire, [
    [CLIENT_IP, 1, 148],
    [GATEWAY_IP, 2, 92],
    [CLIENT_IP, 4, 32],
  ]);
  const [established] = world.client.eventsOf("established");
  assert.ok(established && established.handshakeMs > 0 && established.handshakeMs < 2_000);
  assert.equal(world.clientStatus()?.roundTripMs, 20);
});

test("a gateway keeps its response until a path is chosen (connectivity 17.29)", () => {
  const world = new World();
  const isNomination = (payload: Uint8Array) => isRequest(payload) && payload.length === 92;
  world.network.drops = ({ payload }) => isNomination(payload);
  world.grant();
  world.network.run(1_000);
  assert.deepEqual(
    world.sentBy(CLIENT_IP).wireGuard.map(({ payload }) => wireGuardType(payload)),
    [1],
  );
  assert.deepEqual(world.sentBy(GATEWAY_IP).wireGuard, []);
  assert.equal(world.gatewayStatus()?.path, undefined);
  assert.equal(world.sendDown(), false, "no packets before that");

  world.network.drops = () => false;
  world.network.run(1_500);
  assert.deepEqual(
    world.sentBy(GATEWAY_IP).wireGuard.map(({ payload }) => wireGuardType(payload)),
    [2],
  );
  assert.ok(world.isEstablished());
});

// ── Staying connected ───────────────────────────────────────────────────────────────────────────

test("a better path is taken over, with a handshake unless one was started within 20 s (connectivity 17.25)", () => {
  for (const [wait, expected] of [
    [8_000, 0],
    [25_000, 1],
  ] as const) {
    const world = new World({ gatewayNat: "full-cone", gatewayForwards: true });
    world.network.drops = ({ to, payload }) => to.port === 52625 && isRequest(payload);
    world.establish();
    world.network.run(wait);
    world.network.drops = () => false;
    const since = world.now;
    const better = "candidate:9 1 udp 2130706175 203.0.113.2 52625 typ host";
    world.client.connectivity.addRemoteCandidates(GATEWAY, [better], world.now);
    world.client.drain(world.now);
    world.network.run(2_000);

    assert.match(world.clientStatus()?.path ?? "", / -> 203\.0\.113\.2:52625 \(host, host\)$/);
    const initiations = world.sentBy(CLIENT_IP, since).wireGuard.filter(({ payload }) => payload[0] === 1);
    assert.equal(initiations.length, expected);
    assert.ok(initiations.every(({ to }) => to.port === 52625));
    assert.equal(world.client.eventsOf("established").length, 1);
  }
});

test("falls asleep after 20 s without packets and wakes with one in either direction (connectivity 17.30)", () => {
  for (const direction of ["up", "down"] as const) {
    const world = new World();
    world.establish();
    const established = world.now;
    world.network.run(19_900);
    assert.equal(world.clientStatus()?.state, "connected");
    world.network.run(200);
    assert.equal(world.clientStatus()?.state, "idle");
    assert.equal(world.gatewayStatus()?.state, "idle");

    world.network.run(80_000);
    const asleep = world.sentBy(CLIENT_IP, established + 21_500).checks.map(({ at }) => at);
    assert.equal(asleep.length, 3);
    assert.equal((asleep[2] ?? 0) - (asleep[1] ?? 0), 25_000);

    const woken = world.now;
    if (direction === "up") world.sendUp();
    else world.sendDown();
    world.network.run(50);
    assert.equal(world.clientStatus()?.state, "connected");
    assert.equal(world.gatewayStatus()?.state, "connected");
    world.network.run(9_000);
    const awake = world.sentBy(CLIENT_IP, woken).checks.map(({ at }) => at);
    const gaps = awake.slice(1).map((at, i) => at - (awake[i] ?? 0));
    assert.ok(gaps.length >= 4 && gaps.slice(1).every((gap) => gap === 1_500), `${gaps}`);
  }
});

test("packets keep a connection awake", () => {
  const world = new World();
  world.establish();
  for (let i = 0; i < 6; i++) {
    world.network.run(10_000);
    assert.equal(world.clientStatus()?.state, "connected");
    world.sendUp();
  }
});

test("stays up for hours without traffic", () => {
  const world = new World();
  world.establish();
  world.network.run(4 * 3_600_000);
  assert.deepEqual([...world.client.eventsOf("failed"), ...world.gateway.eventsOf("failed")], []);
  assert.ok(world.sendUp());
});

test("an equal grant signals again and handshakes at most every 20 s (connectivity 17.31)", () => {
  const world = new World();
  world.establish();
  world.network.run(21_000);
  const since = world.now;
  const before = world.client.eventsOf("candidates-added").length;
  for (let i = 0; i < 4; i++) {
    assert.equal(world.grantGateway(), "reused");
    assert.equal(world.grantClient(), "reused");
    world.network.run(2_000);
  }
  assert.equal(world.client.eventsOf("candidates-added").length, before + 4);
  const initiations = world.sentBy(CLIENT_IP, since).wireGuard.filter(({ payload }) => payload[0] === 1);
  assert.equal(initiations.length, 1);
  assert.ok(world.sendUp());
  assert.equal(world.client.eventsOf("established").length, 1);

  const connectionBits = (index: number) => index & 0xffffff00;
  const senders = world.network.sent
    .filter(({ from, payload }) => from.ip === CLIENT_IP && wireGuardType(payload) === 1)
    .map(({ payload }) => Buffer.from(payload).readUInt32LE(4));
  assert.equal(senders.length, 2);
  assert.equal(connectionBits(senders[0] ?? 0), connectionBits(senders[1] ?? 1));
});

test("another preshared key replaces the connection without a goodbye (connectivity 17.31)", () => {
  const world = new World();
  world.establish();
  const since = world.now;
  world.grant({ presharedKey: new Uint8Array(32).fill(0x66) });
  assert.equal(world.clientStatus()?.state, "connecting");
  assert.ok(world.network.runUntil(() => world.client.eventsOf("established").length === 2, 5_000));
  world.network.run(100);
  assert.equal(world.gateway.eventsOf("established").length, 2);
  assert.deepEqual(
    world.sentBy(CLIENT_IP, since).wireGuard.map(({ payload }) => [wireGuardType(payload), payload.length]),
    [
      [1, 148],
      [4, 32],
    ],
  );
});

test("a client that forgot the connection resumes with a gateway that kept it", () => {
  const world = new World();
  world.establish();
  world.client.connectivity.remove(GATEWAY, world.now);
  world.network.run(5_000);
  assert.equal(world.grantGateway(), "reused");
  assert.equal(world.grantClient(), "created");
  world.network.run(1_000);
  assert.equal(world.client.eventsOf("established").length, 2);
  assert.ok(world.sendUp());
  world.network.run(50);
  assert.equal(world.gateway.packets.length, 1);
});

test("a withdrawn candidate of the peer is checked no longer (connectivity 17.20)", () => {
  const world = new World();
  world.grantClient();
  world.client.connectivity.addRemoteCandidates(GATEWAY, [HOST_CANDIDATE], world.now);
  world.client.drain(world.now);
  world.network.run(1_000);
  const before = world.sentBy(CLIENT_IP).checks.length;
  assert.equal(before, 3);
  world.client.connectivity.removeRemoteCandidates(GATEWAY, [HOST_CANDIDATE], world.now);
  world.client.drain(world.now);
  world.network.run(5_000);
  assert.equal(world.sentBy(CLIENT_IP).checks.length, before);
});

// ── Ending ──────────────────────────────────────────────────────────────────────────────────────

test("the client notices a dead gateway after 16.5 s and gives up 2 s later (connectivity 17.22)", () => {
  const world = new World();
  world.establish();
  // Until the pair has all its attempts behind it and is checked every 1.5 s.
  world.network.run(18_000);
  world.sendUp();
  world.network.run(500);
  world.network.drops = () => true;
  const since = world.now;
  world.network.run(30_000);
  const [first] = world.sentBy(CLIENT_IP, since).checks;
  const [failed] = world.client.eventsOf("failed");
  assert.equal(failed?.reason, "no working path");
  assert.equal((failed?.at ?? 0) - (first?.at ?? 0), 18_500);
});

test("an outage of 14 s is survived", () => {
  const world = new World();
  world.establish();
  world.network.run(500);
  world.network.drops = () => true;
  world.network.run(14_000);
  world.network.drops = () => false;
  world.network.run(5_000);
  assert.deepEqual(world.client.eventsOf("failed"), []);
  assert.ok(world.sendUp());
});

test("a gateway holds a vanished client until WireGuard gives up after 540 s", () => {
  const world = new World();
  world.establish();
  world.network.drops = () => true;
  world.network.run(535_000);
  assert.deepEqual(world.gateway.eventsOf("failed"), []);
  world.network.run(10_000);
  assert.deepEqual(
    world.gateway.eventsOf("failed").map(({ reason }) => reason),
    ["handshake unused"],
  );
  assert.deepEqual(world.gateway.connectivity.pollTimeout()?.reason, undefined);
});

test("fails when initiations stay unanswered for 20 s", () => {
  const world = new World();
  world.network.drops = ({ payload }) => wireGuardType(payload) === 2;
  world.grant();
  world.network.run(25_000);
  assert.deepEqual(
    world.client.eventsOf("failed").map(({ reason }) => reason),
    ["handshake unanswered"],
  );
  const initiations = world.sentBy(CLIENT_IP).wireGuard.map(({ at }) => at);
  assert.equal(initiations.length, 4);
});

test("says goodbye when it closes on purpose, and nothing while connecting (connectivity 17.38)", () => {
  const world = new World();
  world.establish();
  world.close();
  world.network.run(50);
  assert.deepEqual(
    world.gateway.packets.map(({ packet }) => Buffer.from(packet).toString("hex")),
    [GOODBYE],
  );
  assert.equal(world.clientStatus(), undefined);
  assert.equal(world.client.paths.path(1), undefined, "the path is free again");

  const connecting = new World();
  connecting.grantClient();
  connecting.close();
  assert.deepEqual(connecting.sentBy(CLIENT_IP).wireGuard, []);
  assert.equal(connecting.clientStatus(), undefined);
});

test("a reset forgets connections silently, takes the new key and asks the relays anew (connectivity 17.39)", () => {
  const world = new World();
  world.establish();
  const since = world.now;
  const events = world.client.events.length;
  const privateKey = new Uint8Array(32).fill(7);
  world.client.connectivity.reset(privateKey, world.now);
  world.client.drain(world.now);
  world.network.settle();

  assert.equal(world.clientStatus(), undefined);
  assert.equal(world.client.events.length, events);
  const sent = world.network.sent.filter(({ from, at }) => from.ip === CLIENT_IP && at >= since);
  assert.deepEqual(
    sent.map(({ to, payload }) => [to.port, isRequest(payload)]),
    [[3478, true]],
  );
});

test("after a reset with new credentials both sides connect again", () => {
  const world = new World();
  world.establish();
  const privateKey = new Uint8Array(32).fill(7);
  world.client.rekey(privateKey, world.now);
  world.network.run(100);
  const localIce = { username: "aaaa", password: "a".repeat(22) };
  const remoteIce = { username: "bbbb", password: "b".repeat(22) };
  world.grantGateway({ localIce: remoteIce, remoteIce: localIce });
  world.grantClient({ localIce, remoteIce });
  assert.ok(world.network.runUntil(() => world.client.eventsOf("established").length === 2, 5_000));
  world.network.run(100);
  assert.ok(world.sendUp());
  assert.ok(world.sendDown());
});

test("changes and withdrawals for an unknown connection are counted, and nothing else", () => {
  const world = new World();
  world.client.connectivity.addRemoteCandidates(GATEWAY, [HOST_CANDIDATE], world.now);
  world.client.connectivity.removeRemoteCandidates(GATEWAY, [HOST_CANDIDATE], world.now);
  world.client.connectivity.remove(GATEWAY, world.now);
  world.client.connectivity.close(GATEWAY, world.now);
  assert.deepEqual(world.client.connectivity.drops(), { "candidates-for-nobody": 2 });
});

test("new relays give existing connections further candidates", () => {
  const world = new World();
  world.establish();
  const before = world.gateway.eventsOf("candidates-added").length;
  const other = relayAt("other", "198.51.100.7:3479");
  world.gateway.connectivity.updateRelays([RELAY.id], [other], world.now);
  world.gateway.drain(world.now);
  world.network.run(20_000);
  assert.equal(world.gateway.eventsOf("candidates-added").length, before, "the same addresses as before");
  assert.equal(world.gateway.connectivity.status(CLIENT, world.now)?.state, "idle");
});
