import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeCheck } from "../../../host/core/ice/binding.ts";
import { encodeStun } from "../../../host/core/stun/message.ts";
import type { Sent } from "../../sim/network.ts";
import { SeededRandom, testSeed } from "../../sim/random.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };
import { address, GATEWAY_IP, PACKET, RELAY, World, wireGuardType } from "./world.ts";

const LOCAL = address(GATEWAY_IP);
const { client, gateway } = vectors.connectivity;

test("answers a peer whose NAT maps it to port 3478 (connectivity 17.5)", () => {
  const world = new World();
  world.grantGateway();
  assert.deepEqual(answersTo(world, check(1), "192.0.2.66", 3478), ["192.0.2.66:3478"]);
});

test("drops STUN from port 3478 of a relay that was given up", () => {
  const world = new World();
  world.grantGateway();
  world.gateway.connectivity.updateRelays([RELAY.id], [], world.now);
  assert.deepEqual(answersTo(world, check(1), "198.51.100.7", 3478), []);
  assert.equal(world.gateway.connectivity.drops()["former-relay"], 1);
});

test("drops and counts a datagram of 1317 bytes, and reads one of 1316 (connectivity 17.7)", () => {
  const world = new World();
  world.gateway.connectivity.handleDatagram(datagram(new Uint8Array(1317)), world.now);
  assert.deepEqual(world.gateway.connectivity.drops(), { oversized: 1 });
  world.gateway.connectivity.handleDatagram(datagram(new Uint8Array(1316)), world.now);
  assert.deepEqual(world.gateway.connectivity.drops(), { oversized: 1, "not-wireguard": 1 });
});

test("accepts data from an address never seen, and goes on sending on the chosen path (connectivity 17.6)", () => {
  const world = new World();
  world.establish();
  const path = world.gatewayStatus()?.path;
  let captured: Sent | undefined;
  world.network.drops = (sent) => {
    if (sent.from.ip !== GATEWAY_IP && wireGuardType(sent.payload) === 4) captured = sent;
    return captured === sent;
  };
  world.sendUp();
  world.network.run(50);
  assert.ok(captured);
  const elsewhere = { local: LOCAL, from: address("192.0.2.66"), payload: captured.payload };
  world.gateway.handleDatagram(elsewhere, world.now);
  assert.deepEqual(
    world.gateway.packets.map(({ packet }) => packet),
    [PACKET],
  );

  const since = world.now;
  assert.ok(world.sendDown());
  assert.deepEqual(
    world.sentBy(GATEWAY_IP, since).wireGuard.map(({ to }) => to.ip),
    ["203.0.113.1"],
  );
  assert.equal(world.gatewayStatus()?.path, path);
});

test("answers an initiation from an address never seen on the chosen path", () => {
  const world = new World();
  world.establish();
  world.network.run(25_000);
  let captured: Sent | undefined;
  world.network.drops = (sent) => {
    if (wireGuardType(sent.payload) === 1) captured ??= sent;
    return captured === sent;
  };
  world.grantClient();
  world.network.run(1);
  assert.ok(captured);
  const since = world.now;
  world.gateway.handleDatagram(
    { local: LOCAL, from: address("192.0.2.66"), payload: captured.payload },
    world.now,
  );
  world.network.settle();
  const responses = world.sentBy(GATEWAY_IP, since).wireGuard;
  assert.deepEqual(
    responses.map(({ to, payload }) => [to.ip, wireGuardType(payload)]),
    [["203.0.113.1", 2]],
  );
});

test("counts what it cannot place, by reason", () => {
  const world = new World();
  world.grantGateway();
  const { connectivity } = world.gateway;
  const send = (payload: Uint8Array, from = address("192.0.2.66")) =>
    connectivity.handleDatagram({ local: LOCAL, from, payload }, world.now);

  send(new Uint8Array(0));
  send(stun("request"));
  send(check(1, { password: "wrong" }));
  send(check(2, { ufrag: "zzzz" }));
  send(stun("success"));
  send(stun("error"));
  send(stun("indication"));
  send(stun("success"), address("198.51.100.7", 3478));
  send(new Uint8Array(148).fill(1, 0, 1));
  send(new Uint8Array(64).fill(3, 0, 1));
  assert.deepEqual(connectivity.drops(), {
    "not-wireguard": 1,
    malformed: 1,
    "stun-bad-integrity": 1,
    "stun-unmatched": 5,
    "bad-handshake": 1,
    "unknown-sender": 1,
  });
  assert.equal(connectivity.pollTransmit(), undefined);
});

test("a flood of initiations is answered with cookies to where it came from, and stays without state", () => {
  const world = new World();
  let initiation: Sent | undefined;
  world.network.drops = (sent) => {
    if (wireGuardType(sent.payload) === 1) initiation ??= sent;
    return initiation !== undefined;
  };
  world.grant();
  world.network.run(500);
  assert.ok(initiation);
  const { payload } = initiation;
  world.network.run(2_000);
  world.gateway.drain(world.now);
  while (world.gateway.pollTransmit() !== undefined);
  for (let i = 0; i < 150; i++) {
    const from = address(`192.0.2.${i}`);
    world.gateway.handleDatagram({ local: LOCAL, from, payload }, world.now);
  }

  const sent = [];
  for (let t = world.gateway.pollTransmit(); t !== undefined; t = world.gateway.pollTransmit()) sent.push(t);
  const cookies = sent.filter((transmit) => wireGuardType(transmit.payload) === 3);
  assert.equal(cookies.length, 50);
  assert.ok(
    cookies.every(({ source, destination }) => source?.ip === GATEWAY_IP && destination.ip.startsWith("192")),
  );
  assert.equal(sent.filter((transmit) => wireGuardType(transmit.payload) === 2).length, 1);
  assert.equal(world.gateway.connectivity.drops()["handshake-rate"], 50);
});

test("a check at every length, random bytes and mutated checks neither throw nor get an answer", () => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const world = new World();
  world.grantGateway();
  const genuine = check(1);
  const inputs: Uint8Array[] = [];
  for (let length = 0; length < genuine.length; length++) inputs.push(genuine.slice(0, length));
  for (let i = 0; i < 2_000; i++) {
    // Integrity covers everything but FINGERPRINT.
    const mutated = genuine.slice();
    const at = Math.floor(random.uniform() * (mutated.length - 8));
    mutated[at] = (mutated[at] ?? 0) ^ (1 + Math.floor(random.uniform() * 255));
    inputs.push(mutated, random.bytes(Math.floor(random.uniform() * 200)));
  }
  for (const payload of inputs) {
    for (const from of [address("192.0.2.66"), address("198.51.100.7", 3478)]) {
      world.gateway.connectivity.handleDatagram({ local: LOCAL, from, payload }, world.now);
    }
  }
  assert.equal(world.gateway.connectivity.pollTransmit(), undefined, `SEED=${seed}`);
});

function answersTo(world: World, payload: Uint8Array, fromIp: string, port: number): string[] {
  world.gateway.handleDatagram({ local: LOCAL, from: address(fromIp, port), payload }, world.now);
  const answers: string[] = [];
  for (let t = world.gateway.pollTransmit(); t !== undefined; t = world.gateway.pollTransmit()) {
    if (t.payload[0] === 1 && t.payload[1] === 1) answers.push(`${t.destination.ip}:${t.destination.port}`);
  }
  return answers;
}

function check(id: number, change: { password?: string; ufrag?: string } = {}): Uint8Array {
  return encodeCheck({
    transactionId: new Uint8Array(12).fill(id),
    local: client,
    remote: {
      username: change.ufrag ?? gateway.username,
      password: change.password ?? gateway.password,
    },
    role: "controlling",
    tieBreaker: new Uint8Array(8),
    priority: 1,
    nominates: false,
  });
}

function stun(messageClass: "request" | "success" | "error" | "indication"): Uint8Array {
  return encodeStun({
    method: "binding",
    class: messageClass,
    transactionId: new Uint8Array(12),
    attributes: [],
  });
}

function datagram(payload: Uint8Array) {
  return { local: LOCAL, from: address("192.0.2.66"), payload };
}
