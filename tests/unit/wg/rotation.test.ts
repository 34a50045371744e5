import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_KEYPAIRS } from "../../../host/core/wg/keypairs.ts";
import { ModelCore } from "./model-core.ts";
import { type DataPath, newPair, newPairOn, type Pair, type Side } from "./pair.ts";
import { seededRandom } from "./randoms.ts";
import { WasmDataPath } from "./wasm-core.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Sends numbered packets both ways every 50 to 1050 ms until `endMs`; returns how many each side sent. */
function converse<Core extends DataPath>(pair: Pair<Core>, endMs: number): Record<Side, number> {
  const random = seededRandom(SEED);
  const counts: Record<Side, number> = { left: 0, right: 0 };
  for (let time = 2_000; time < endMs; time += 50 + random.uniform() * 1000) {
    pair.runUntil(time);
    const side: Side = random.uniform() < 0.5 ? "left" : "right";
    assert.ok(pair.send(side, packetOf(counts[side]++)), `no keypair at ${time} ms, SEED=${SEED}`);
  }
  return counts;
}

function rotate(newCore: () => DataPath, latencyMs: number): void {
  const pair = newPairOn(newCore, { latencyMs });
  pair.startHandshake("left");
  pair.runUntil(2_000);
  const sent = converse(pair, 600_000);
  pair.runUntil(601_000);

  for (const side of ["left", "right"] as const) {
    const to: Side = side === "left" ? "right" : "left";
    const numbers = pair.delivered.filter((one) => one.to === to).map((one) => numberOf(one.packet));
    assert.equal(new Set(numbers).size, sent[side], `packets from ${side}, SEED=${SEED}`);
    assert.ok(pair.nodes[side].core.mostKeypairs <= MAX_KEYPAIRS, `SEED=${SEED}`);
  }
  const initiations = pair.sent("left", "initiation");
  assert.equal(initiations.length, 5, `initiations at ${initiations.join()}, SEED=${SEED}`);
  assert.deepEqual(pair.sent("right", "initiation"), [], `SEED=${SEED}`);
}

for (const [name, newCore] of [
  ["the model", () => new ModelCore()],
  ["the packet core", () => new WasmDataPath()],
] as const) {
  test(`ten minutes of traffic over ${name} rotate keypairs every two minutes without losing a packet`, () => {
    rotate(newCore, 20);
  });

  test(`rotation over ${name} loses nothing when a round trip takes longer than a packet interval`, () => {
    rotate(newCore, 450);
  });
}

test("with a tenth of all messages lost the connection survives ten minutes", () => {
  const random = seededRandom(SEED);
  const pair = newPair({ latencyMs: 30, lose: () => random.uniform() < 0.1 });
  pair.startHandshake("left");
  for (let time = 0; !(pair.nodes.left.peer.sendable && pair.nodes.right.peer.sendable); time += 100) {
    assert.ok(time < 20_000, `no handshake, SEED=${SEED}`);
    pair.runUntil(time);
    if (pair.nodes.left.peer.sendable) pair.send("left", packetOf(0));
  }
  const handshaken = Math.ceil(pair.now);
  let sent = 0;
  for (let time = handshaken; time < 600_000; time += 200) {
    pair.runUntil(time);
    if (pair.send("left", packetOf(sent))) sent++;
    if (pair.send("right", packetOf(sent))) sent++;
  }
  pair.runUntil(601_000);

  const expired = pair.events.filter(({ event }) => event.startsWith("expired"));
  assert.deepEqual(expired, [], `SEED=${SEED}`);
  assert.ok(pair.delivered.length > 0.85 * sent, `${pair.delivered.length} of ${sent}, SEED=${SEED}`);
});

/** An IPv4 packet of an unassigned protocol with the number as its payload. */
function packetOf(number: number): Uint8Array {
  const packet = new Uint8Array(24);
  packet.set([0x45, 0, 0, 24, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  new DataView(packet.buffer).setUint32(20, number);
  return packet;
}

function numberOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset).getUint32(20);
}
