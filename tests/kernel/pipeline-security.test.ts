import assert from "node:assert/strict";
import { test } from "node:test";
import * as abi from "../../assembly/abi.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import {
  assertSamePackets,
  datagramsOf,
  decapsulate,
  encapsulate,
  keyOf,
  type Link,
  link,
  NOW,
  newCore,
  sealAll,
  single,
} from "./pipeline-driver.ts";
import { UDP } from "./twins/checksum.ts";
import { PLAIN } from "./twins/offload.ts";
import { ipv4, packet } from "./twins/packets.ts";
import { Seeded } from "./twins/seeded.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);
const message = `SEED=${SEED}`;
const ENDS = { source: ipv4("100.64.0.1"), destination: ipv4("10.1.2.3"), sourcePort: 40000, protocol: UDP };

test("a replayed datagram is dropped, in the same batch and later", () => {
  const { left, right, pair } = tunnel();
  const [datagram] = datagramsOf(sealAll(left, pair.left, [numbered(0)]));
  const output = decapsulate(right, [single(datagram!), single(datagram!)]);
  assert.equal(peerPackets(output).length, 1);
  assert.equal(peerPackets(decapsulate(right, [single(datagram!)])).length, 0);
  assert.deepEqual(right.drops(), { replayed: 2 });
});

test("reordered datagrams pass inside the window of 8,192 counters; older ones are dropped", () => {
  const { left, right, pair } = tunnel();
  const datagrams = datagramsOf(
    sealAll(
      left,
      pair.left,
      Array.from({ length: 8200 }, (_, i) => numbered(i)),
    ),
  );
  const newest = datagrams.at(-1)!;
  decapsulate(right, [single(newest)]);
  const outside = datagrams.slice(0, 8);
  const inside = [datagrams[8]!, datagrams[4000]!, datagrams[8198]!, datagrams[100]!];
  assert.equal(
    peerPackets(
      decapsulate(
        right,
        outside.map((each) => single(each)),
      ),
    ).length,
    0,
  );
  assertSamePackets(
    peerPackets(
      decapsulate(
        right,
        inside.map((each) => single(each)),
      ),
    ),
    [8, 4000, 8198, 100].map(numbered),
    message,
  );
  assert.deepEqual(right.drops(), { "too-old": 8 });
});

test("any changed bit costs the datagram, moves no window, and leaves no plaintext behind", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel();
  const secret = packet({ ...ENDS, payload: random.bytes(200) });
  const [datagram] = datagramsOf(sealAll(left, pair.left, [secret]));
  const marker = Buffer.from(secret.subarray(28, 60));
  let refused = 0;
  for (let bit = 64; bit < datagram!.length * 8; bit += 1 + random.below(20)) {
    const changed = datagram!.slice();
    changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7));
    const output = decapsulate(right, [single(changed)]);
    assert.deepEqual([output.frames, output.slow], [[], []], message);
    refused += 1;
  }
  assert.deepEqual(right.drops(), { "bad-tag": refused }, message);
  const slots = right.bytes.subarray(abi.SLOTS_BASE, abi.SLOTS_BASE + abi.SLOT_COUNT * abi.SLOT_BYTES);
  assert.equal(Buffer.from(slots).includes(marker), false, message);
  assert.equal(right.activity(pair.right, NOW).receivedAt, undefined);
  assertSamePackets(peerPackets(decapsulate(right, [single(datagram!)])), [secret], message);
});

test("only the full receiver index of a live keypair opens anything", () => {
  const { left, right, pair } = tunnel();
  const [datagram] = datagramsOf(sealAll(left, pair.left, [numbered(0)]));
  const view = new DataView(datagram!.buffer);
  const wrong = [
    pair.rightIndex ^ 0x80000000,
    pair.rightIndex ^ 0x100,
    pair.rightIndex ^ 1,
    pair.rightIndex ^ 8,
    0,
  ];
  for (const index of wrong) {
    view.setUint32(4, index, true);
    const output = decapsulate(right, [single(datagram!)]);
    assert.deepEqual([output.frames, output.slow], [[], []]);
  }
  assert.deepEqual(right.drops(), { "unknown-index": wrong.length });
  view.setUint32(4, pair.rightIndex, true);
  right.removeKeypair(pair.right, pair.rightIndex);
  decapsulate(right, [single(datagram!)]);
  assert.equal(right.drops()["unknown-index"], wrong.length + 1);
});

test("an index of 0 opens nothing in an empty slot", () => {
  const core = newCore();
  core.addPeer();
  const datagram = new Uint8Array(64);
  datagram[0] = 4;
  assert.deepEqual(decapsulate(core, [single(datagram)]).slow, []);
  assert.deepEqual(core.drops(), { "unknown-index": 1 });
});

test("what is not a data message goes to the slow path as it came, with its buffer and ECN", () => {
  const random = new Seeded(SEED);
  const core = newCore();
  const stun = random.bytes(20);
  stun.set([0, 1, 0, 0]);
  const initiation = random.bytes(148);
  initiation.set([1, 0, 0, 0]);
  const short = Uint8Array.of(4, 0, 0, 0, 1);
  const reserved = random.bytes(64);
  reserved.set([4, 0, 1, 0]);
  const channel = random.bytes(60);
  channel.set([0x40, 0, 0, 56]);
  const all = [stun, initiation, short, reserved, channel] as Uint8Array<ArrayBuffer>[];
  const { slow } = decapsulate(
    core,
    all.map((each) => single(each, 1)),
  );
  assert.deepEqual(
    slow.map((each) => each.packet),
    all,
  );
  assert.deepEqual(
    slow.map((each) => [each.reason, each.source, each.detail]),
    all.map((_, i) => [abi.SLOW_DATAGRAM, i, 1]),
  );
});

test("a datagram above 1,316 bytes is dropped before anything looks at it", () => {
  const core = newCore();
  const output = decapsulate(core, [single(new Uint8Array(1317)), single(new Uint8Array(1316))]);
  assert.deepEqual(
    output.slow.map((each) => each.packet.length),
    [1316],
  );
  assert.deepEqual(core.drops(), { oversized: 1 });
});

test("the first message on a keypair that we answered is reported once, keepalives included", () => {
  const { left, right, pair } = tunnel();
  const first = decapsulate(right, sealAll(left, pair.left, [new Uint8Array(0), new Uint8Array(0)]));
  assert.deepEqual(
    first.slow.map((each) => [each.reason, each.peer, each.detail, each.packet.length]),
    [[abi.SLOW_KEYPAIR_CONFIRMED, pair.right, pair.rightIndex, 0]],
  );
  assert.deepEqual(decapsulate(left, sealAll(right, pair.right, [new Uint8Array(0)])).slow, []);
});

test("sealing stops at the counter limit, a super-packet as a whole (connectivity §10.4)", () => {
  const { left, right, pair } = tunnel();
  const limit = (BigInt(abi.COUNTER_LIMIT_HIGH) << 32n) | BigInt(abi.COUNTER_LIMIT_LOW);
  const view = new DataView(left.bytes.buffer);
  const keypair = abi.KEYPAIRS_BASE + (pair.left * 8 + (pair.leftIndex & 7)) * abi.KEYPAIR_BYTES;
  view.setBigUint64(keypair + abi.KEYPAIR_SEND_COUNTER, limit - 2n, true);
  const whole = packet({ ...ENDS, payload: new Uint8Array(3000) });
  left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);

  const refused = encapsulate(left, [{ virtio: { ...PLAIN, gsoType: 5, gsoSize: 1000 }, packet: whole }]);
  assert.equal(refused.trains.length, 0);
  assert.deepEqual(
    refused.slow.map((each) => each.reason),
    [2, 2, 2],
  );

  const sent = encapsulate(
    left,
    [0, 1, 2].map((i) => ({ virtio: PLAIN, packet: numbered(i) })),
  );
  assert.equal(datagramsOf(sent.trains).length, 2);
  assert.deepEqual(
    sent.slow.map((each) => [each.reason, each.peer]),
    [[abi.SLOW_NO_KEYPAIR, pair.left]],
  );
  assert.equal(left.seal(pair.left, numbered(3), NOW), false);
  assert.deepEqual(left.drops(), { "counter-exhausted": 5 });
  assert.equal(left.sendCounter(pair.left, pair.leftIndex), limit);
  assert.equal(peerPackets(decapsulate(right, sent.trains)).length, 2);
});

test("refuses decrypted bytes that are no packet: fragments, wrong lengths, nothing but padding", () => {
  const { left, right, pair } = tunnel();
  const fragment = numbered(0);
  fragment[6] = 0x20;
  const short = numbered(0).subarray(0, 25);
  const output = decapsulate(
    right,
    sealAll(left, pair.left, [fragment, short, new Uint8Array(64), new Uint8Array(1)]),
  );
  assert.equal(peerPackets(output).length, 0);
  assert.deepEqual(right.drops(), { fragment: 1, malformed: 3 });
});

test("a flow is bound to the peer that its packets come from", () => {
  const { left, right, pair } = tunnel();
  const impostor = link(left, right, (length) => new Seeded(SEED).bytes(length));
  right.addFlow(keyOf(numbered(0), pair.right), pair.right, undefined, NOW);
  assert.equal(decapsulate(right, sealAll(left, pair.left, [numbered(0)])).frames.length, 1);
  const forged = decapsulate(right, sealAll(left, impostor.left, [numbered(0)]));
  assert.equal(forged.frames.length, 0);
  assert.deepEqual(forged.slow.at(-1)?.peer, impostor.right);
});

function tunnel(): { left: WasmPacketCore; right: WasmPacketCore; pair: Link } {
  const random = new Seeded(SEED);
  const left = newCore();
  const right = newCore();
  return { left, right, pair: link(left, right, (length) => random.bytes(length)) };
}

function numbered(i: number): Uint8Array {
  return packet({ ...ENDS, payload: Uint8Array.of(i >> 8, i & 0xff) });
}

function peerPackets(output: ReturnType<typeof decapsulate>): Uint8Array[] {
  return output.slow.filter((slow) => slow.reason === abi.SLOW_PEER_PACKET).map((slow) => slow.packet);
}
