import assert from "node:assert/strict";
import { test } from "node:test";
import * as abi from "../../assembly/abi.ts";
import { ip } from "../../host/core/address.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import {
  decapsulate,
  drainOutputs,
  encapsulate,
  keyOf,
  type Link,
  link,
  NOW,
  newCore,
  type Output,
  sealAll,
} from "./pipeline-driver.ts";
import { UDP } from "./twins/checksum.ts";
import { PLAIN } from "./twins/offload.ts";
import { ipv4, packet } from "./twins/packets.ts";
import { Seeded } from "./twins/seeded.ts";

const INNER = packet({
  source: ipv4("100.64.0.1"),
  destination: ipv4("10.1.2.3"),
  sourcePort: 40000,
  protocol: UDP,
});
const KEEPALIVE = new Uint8Array(0);

test("gives out every peer slot once, and a freed one last", () => {
  const core = newCore();
  const peers = Array.from({ length: abi.PEER_CAPACITY }, () => core.addPeer());
  assert.equal(new Set(peers).size, abi.PEER_CAPACITY);
  assert.equal(core.addPeer(), undefined);
  core.removePeer(7);
  core.removePeer(5);
  assert.deepEqual([core.addPeer(), core.addPeer(), core.addPeer()], [5, 7, undefined]);
});

test("a reused peer slot starts empty: no keys, no path, no flows, no NAT entries, no activity", () => {
  const { left, pair } = tunnel();
  left.addFlow(keyOf(INNER, "tun"), pair.left, undefined, NOW);
  left.natOutgoing(pair.left, { kind: "udp", port: 1, ip: ip("100.96.0.1") }, ip("10.0.0.1"), NOW);
  assert.equal(encapsulate(left, [{ virtio: PLAIN, packet: INNER }]).trains.length, 1);
  for (let id: number | undefined = 0; id !== undefined; ) id = left.addPeer();

  left.removePeer(pair.left);
  assert.equal(left.addPeer(), pair.left);

  assert.equal(left.natCount(), 0);
  assert.equal(left.sendCounter(pair.left, pair.leftIndex), 0n);
  assert.equal(left.activity(pair.left, NOW).txPackets, 0);
  assert.deepEqual(
    encapsulate(left, [{ virtio: PLAIN, packet: INNER }]).slow.map((slow) => slow.reason),
    [abi.SLOW_TUN_PACKET],
  );
  const keys = left.bytes.subarray(
    abi.KEYPAIRS_BASE,
    abi.KEYPAIRS_BASE + 8 * abi.KEYPAIR_BYTES * (pair.left + 1),
  );
  assert.ok(keys.every((byte) => byte === 0));
});

test("keys that are passed in do not stay in the argument slot", () => {
  const { left } = tunnel();
  const argument = left.bytes.subarray(abi.ARGUMENT_BASE, abi.ARGUMENT_BASE + 64);
  assert.ok(argument.every((byte) => byte === 0));
});

test("a keypair replaces the one in its slot, and the choice to send with that one ends", () => {
  const { left, pair } = tunnel();
  assert.equal(left.seal(pair.left, KEEPALIVE, NOW), true);
  assert.equal(left.sendCounter(pair.left, pair.leftIndex), 1n);
  const localIndex = (pair.leftIndex & ~0xff) | ((pair.leftIndex + 8) & 0xff);
  const keys = { sendKey: new Uint8Array(32), receiveKey: new Uint8Array(32), initiated: true };
  left.addKeypair(pair.left, { localIndex, remoteIndex: 1, ...keys });
  assert.equal(left.seal(pair.left, KEEPALIVE, NOW), false);
  assert.equal(left.sendCounter(pair.left, pair.leftIndex), 0n);
  left.selectKeypair(pair.left, pair.leftIndex);
  assert.equal(left.seal(pair.left, KEEPALIVE, NOW), false);
  left.selectKeypair(pair.left, localIndex);
  assert.equal(left.seal(pair.left, KEEPALIVE, NOW), true);
});

test("refuses keys of a wrong length, and packets longer than the tunnel carries", () => {
  const { left, pair } = tunnel();
  const keys = { sendKey: new Uint8Array(31), receiveKey: new Uint8Array(32), initiated: true };
  assert.throws(() => left.addKeypair(pair.left, { localIndex: 1, remoteIndex: 1, ...keys }), RangeError);
  assert.throws(() => left.seal(pair.left, new Uint8Array(1281), NOW), RangeError);
  assert.throws(() => left.writeTun(new Uint8Array(1281)), RangeError);
});

test("activity follows what is sealed and opened", () => {
  const { left, right, pair } = tunnel();
  const at = (core: WasmPacketCore, peer: number) => core.activity(peer, 5000);
  const none = {
    dataSentAt: undefined,
    dataReceivedAt: undefined,
    innerAt: undefined,
    unansweredSince: undefined,
  };

  const keepalive = sealAll(left, pair.left, [KEEPALIVE], 1000);
  assert.deepEqual(at(left, pair.left), {
    ...at(left, pair.left),
    ...none,
    sentAt: 1000,
    txPackets: 0,
    txBytes: 0,
  });
  const first = sealAll(left, pair.left, [INNER], 1100);
  const second = sealAll(left, pair.left, [INNER], 1200);
  assert.deepEqual(at(left, pair.left), {
    receivedAt: undefined,
    sentAt: 1200,
    dataSentAt: 1200,
    dataReceivedAt: undefined,
    unansweredSince: 1100,
    unacknowledgedSince: undefined,
    innerAt: 1200,
    txPackets: 2,
    txBytes: 2 * INNER.length,
    rxPackets: 0,
    rxBytes: 0,
  });

  decapsulate(right, keepalive, 2000);
  assert.deepEqual(at(right, pair.right), {
    ...at(right, pair.right),
    ...none,
    receivedAt: 2000,
    rxPackets: 0,
  });
  decapsulate(right, first, 2100);
  decapsulate(right, second, 2200);
  assert.deepEqual(at(right, pair.right), {
    receivedAt: 2200,
    sentAt: undefined,
    dataSentAt: undefined,
    dataReceivedAt: 2200,
    unansweredSince: undefined,
    unacknowledgedSince: 2100,
    innerAt: 2200,
    txPackets: 0,
    txBytes: 0,
    rxPackets: 2,
    rxBytes: 2 * INNER.length,
  });

  const answer = sealAll(right, pair.right, [KEEPALIVE], 3000);
  assert.equal(at(right, pair.right).unacknowledgedSince, undefined);
  decapsulate(left, answer, 3100);
  assert.equal(at(left, pair.left).unansweredSince, undefined);
  assert.equal(at(left, pair.left).receivedAt, 3100);
});

test("a peer is listed as touched once, when a field leaves none", () => {
  const { left, right, pair } = tunnel();
  assert.deepEqual(left.drainTouched(), []);
  const trains = sealAll(left, pair.left, [INNER, INNER]);
  assert.deepEqual(left.drainTouched(), [pair.left]);
  sealAll(left, pair.left, [INNER]);
  assert.deepEqual(left.drainTouched(), []);
  decapsulate(right, trains);
  assert.deepEqual(right.drainTouched(), [pair.right]);
  sealAll(right, pair.right, [KEEPALIVE]);
  assert.deepEqual(right.drainTouched(), [pair.right]);
});

test("writeTun makes plain frames; seal and writeTun survive a full region when outputs are drained", () => {
  const { left, pair } = tunnel();
  const output: Output = { trains: [], frames: [], slow: [], more: 0 };
  left.onOutputFull(() => {
    output.more += 1;
    drainOutputs(left, output);
  });
  const packets = Array.from({ length: 2000 }, (_, i) =>
    packet({
      source: ipv4("100.64.0.1"),
      destination: ipv4("10.0.0.1"),
      protocol: UDP,
      sourcePort: i,
      payload: new Uint8Array(i % 1200),
    }),
  );
  for (const each of packets) {
    left.writeTun(each);
    assert.equal(left.seal(pair.left, each, NOW), true);
  }
  drainOutputs(left, output);
  assert.ok(output.more > 0);
  assert.deepEqual(
    output.frames.map((frame) => frame.packet.length),
    packets.map((each) => each.length),
  );
  assert.ok(output.frames.every((frame, i) => Buffer.compare(frame.packet, packets[i]!) === 0));
  assert.equal(
    output.trains.reduce((sum, train) => sum + Math.ceil(train.bytes.length / train.segmentLength), 0),
    2000,
  );
});

test("without someone to drain, a full region refuses", () => {
  const { left, pair } = tunnel();
  const results = Array.from({ length: 1100 }, () => left.seal(pair.left, new Uint8Array(1280), NOW));
  assert.ok(results[0] && !results.at(-1));
  left.batch.clearTrains();
  assert.equal(left.seal(pair.left, KEEPALIVE, NOW), true);
});

test("a known inside tuple keeps its target, a new one gets the next free port (tunnel-core §14.2)", () => {
  const core = newCore();
  const peer = core.addPeer()!;
  const first = core.natOutgoing(peer, { kind: "udp", port: 53, ip: ip("100.96.0.1") }, ip("10.0.0.1"), NOW);
  const again = core.natOutgoing(peer, { kind: "udp", port: 53, ip: ip("100.96.0.1") }, ip("10.0.0.2"), NOW);
  const other = core.natOutgoing(peer, { kind: "udp", port: 53, ip: ip("100.96.0.2") }, ip("10.0.0.1"), NOW);
  assert.deepEqual(again, first);
  assert.deepEqual(first?.outside, { kind: "udp", port: 53, ip: "10.0.0.1" });
  assert.deepEqual(other?.outside, { kind: "udp", port: 54, ip: "10.0.0.1" });
  assert.deepEqual(core.natIncoming(peer, other.outside, NOW), {
    entry: other.entry,
    inside: { kind: "udp", port: 53, ip: "100.96.0.2" },
  });
  assert.equal(core.natIncoming(peer, { kind: "udp", port: 99, ip: ip("10.0.0.1") }, NOW), "none");
  core.natHandleTimeout(NOW + abi.NAT_TTL_UDP_MS + 1);
  assert.equal(core.natIncoming(peer, other.outside, NOW), "expired");
});

test("IPv6 tuples come back as they went in", () => {
  const core = newCore();
  const peer = core.addPeer()!;
  const inside = { kind: "echo", port: 9, ip: ip("fd00:2021:1111:8000::5") } as const;
  const nat = core.natOutgoing(peer, inside, ip("2001:db8::1"), NOW)!;
  assert.deepEqual(nat.outside, { kind: "echo", port: 9, ip: "2001:db8::1" });
  assert.deepEqual(core.natIncoming(peer, nat.outside, NOW), { entry: nat.entry, inside });
});

test("filters judge ports towards the resource; set 0 permits everything (tunnel-core §15.1)", () => {
  const core = newCore();
  const web = core.addFilter([
    { kind: "tcp", firstPort: 80, lastPort: 443 },
    { kind: "icmp", firstPort: 0, lastPort: 0 },
  ]);
  assert.equal(core.addFilter([]), 0);
  assert.ok(core.permits(web, { kind: "tcp", port: 80 }) && core.permits(web, { kind: "tcp", port: 443 }));
  assert.ok(!core.permits(web, { kind: "tcp", port: 444 }) && !core.permits(web, { kind: "udp", port: 80 }));
  assert.ok(core.permits(web, { kind: "echo", port: 1 }) && core.permits(web, { kind: "icmp" }));
  assert.ok(!core.permits(web, { kind: "other", protocol: 47 }));
  assert.ok(core.permits(0, { kind: "other", protocol: 47 }));
});

function tunnel(): { left: WasmPacketCore; right: WasmPacketCore; pair: Link } {
  const random = new Seeded(1);
  const left = newCore();
  const right = newCore();
  return { left, right, pair: link(left, right, (length) => random.bytes(length)) };
}
