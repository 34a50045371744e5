import assert from "node:assert/strict";
import { test } from "node:test";
import * as abi from "../../assembly/abi.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import { bigPacket, endpoints, superVirtio } from "./offload-traffic.ts";
import {
  assertSamePackets,
  decapsulate,
  encapsulate,
  keyOf,
  type Link,
  link,
  NOW,
  newCore,
} from "./pipeline-driver.ts";
import { ipChecksumHolds, l4Sum, TCP, UDP } from "./twins/checksum.ts";
import { encodeFrame, type Frame, makePartial, PLAIN, splitSlowly, type Virtio } from "./twins/offload.ts";
import { extension, ipv4, packet } from "./twins/packets.ts";
import { parseSlowly } from "./twins/parse.ts";
import { Seeded } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);
const message = `SEED=${SEED}`;

for (const variant of VARIANTS) {
  test(`splits super-packets as the slow twin does, ${variant} build (acceptance H-12)`, () => {
    const random = new Seeded(SEED);
    const { left, right, pair } = tunnel(random, variant);
    for (let round = 0; round < (variant === "debug" ? 20 : 80); round++) {
      const ends = endpoints(random);
      const gsoSize = random.pick([1 + random.below(1100), 500, 1100, 255, 256]);
      const most = Math.min(64000, 256 * gsoSize);
      const whole = bigPacket(
        random,
        ends,
        1 + random.below(random.chance(0.5) ? most : Math.min(most, 4 * gsoSize)),
      );
      const expected = splitSlowly(whole, gsoSize);
      left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);
      const frame = { virtio: superVirtio(ends, gsoSize, random), packet: whole };

      const received = sendThrough(left, right, [frame]);

      assertSamePackets(received, expected[0]!.length > abi.MAX_PACKET_BYTES ? [] : expected, message);
    }
  });
}

test("splits what has no flow into the slow path, as the slow twin does", () => {
  const random = new Seeded(SEED);
  const core = newCore();
  for (let round = 0; round < 30; round++) {
    const ends = endpoints(random);
    const gsoSize = 300 + random.below(700);
    const whole = bigPacket(random, ends, 1 + random.below(60000));
    const output = encapsulate(core, [{ virtio: superVirtio(ends, gsoSize, random), packet: whole }]);
    const packets = output.slow.map((slow) => slow.packet);
    assertSamePackets(packets, splitSlowly(whole, gsoSize), message);
    assert.ok(output.slow.every((slow) => slow.reason === abi.SLOW_TUN_PACKET));
    assert.equal(output.trains.length, 0);
  }
});

test("finishes the checksum of a lone packet that has a partial one, on the way out and to the slow path (acceptance H-12)", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  for (let round = 0; round < 200; round++) {
    const ends = endpoints(random);
    const whole = bigPacket(random, ends, random.below(900));
    const frame = { packet: whole.slice(), virtio: PLAIN as Virtio };
    frame.virtio = makePartial(frame.packet);

    const missed = encapsulate(left, [frame]);
    assert.deepEqual(
      missed.slow.map((slow) => slow.packet),
      [whole],
      message,
    );

    left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);
    assert.deepEqual(sendThrough(left, right, [frame]), [whole], message);
  }
});

test("a UDP checksum that comes out as 0 is sent as 0xffff", () => {
  const { left, right, pair } = tunnel(new Seeded(1));
  const parts = { source: ipv4("10.0.0.1"), destination: ipv4("10.0.0.2"), protocol: UDP, sourcePort: 5 };
  const plain = packet({ ...parts, payload: new Uint8Array(4) });
  // The checksum of this packet, as payload, makes the sum complete without any checksum.
  const checksum = new DataView(plain.buffer).getUint16(26);
  const zero = packet({ ...parts, payload: Uint8Array.of(checksum >> 8, checksum & 0xff, 0, 0) });
  assert.equal(new DataView(zero.buffer).getUint16(26), 0xffff);
  left.addFlow(keyOf(zero, "tun"), pair.left, undefined, NOW);

  const frame = { packet: zero.slice(), virtio: PLAIN as Virtio };
  frame.virtio = makePartial(frame.packet);
  assert.deepEqual(sendThrough(left, right, [frame]), [zero]);
});

test("moves FIN and PSH to the last segment, leaves CWR on the first, and counts IPv4 ids past 65,535", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const ends = endpoints(random, true, TCP);
  const whole = bigPacket(random, ends, 3000, false);
  whole[33] = 0x80 | 0x10 | 0x09;
  new DataView(whole.buffer).setUint16(4, 0xffff);
  left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);

  const received = sendThrough(left, right, [{ virtio: superVirtio(ends, 1000, random), packet: whole }]);

  assert.deepEqual(
    received.map((each) => each[33]),
    [0x90, 0x10, 0x19],
    message,
  );
  assert.deepEqual(
    received.map((each) => new DataView(each.buffer).getUint16(4)),
    [0xffff, 0, 1],
    message,
  );
  for (const each of received) {
    const parsed = parseSlowly(each, 1280);
    assert.ok(typeof parsed !== "number" && ipChecksumHolds(each));
    assert.equal(l4Sum(each, parsed.l4, TCP), 0xffff, message);
  }
});

test("drops offload headers that do not match their packet, and counts them", () => {
  const random = new Seeded(SEED);
  const core = newCore();
  const tcp4 = bigPacket(random, endpoints(random, true, TCP), 3000, false);
  const udp6 = bigPacket(random, endpoints(random, false, UDP), 3000, false);
  const small = bigPacket(random, endpoints(random, true, TCP), 0, false);
  const partial = makePartial(small.slice());
  const bad: Frame[] = [
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 4, gsoSize: 1000 } },
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 5, gsoSize: 1000 } },
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 2, gsoSize: 1000 } },
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 0x81, gsoSize: 1000 } },
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 1, gsoSize: 0 } },
    { packet: tcp4, virtio: { ...PLAIN, gsoType: 1, gsoSize: 11 } },
    { packet: udp6, virtio: { ...PLAIN, gsoType: 1, gsoSize: 1000 } },
    { packet: udp6, virtio: { ...PLAIN, gsoType: 4, gsoSize: 1000 } },
    { packet: small, virtio: { ...PLAIN, gsoType: 1, gsoSize: 1000 } },
    { packet: small, virtio: { ...partial, csumStart: 0 } },
    { packet: small, virtio: { ...partial, csumOffset: 6 } },
    { packet: small, virtio: { ...partial, csumStart: 0xffff, csumOffset: 0xffff } },
  ];
  for (const frame of bad) assert.deepEqual(encapsulate(core, [frame]).slow, []);
  assert.deepEqual(core.drops(), { "bad-offload": bad.length });
});

test("drops segments that would be longer than 1,280 bytes, each counted as oversized", () => {
  const random = new Seeded(SEED);
  const core = newCore();
  const ends = endpoints(random, true, UDP);
  const whole = bigPacket(random, ends, 4000, false);
  encapsulate(core, [{ virtio: superVirtio(ends, 1253, random), packet: whole }]);
  assert.deepEqual(core.drops(), { oversized: 4 });
  const fits = encapsulate(core, [{ virtio: superVirtio(ends, 1252, random), packet: whole }]);
  assert.equal(fits.slow[0]?.packet.length, 1280);
});

test("a segment size beyond the payload means one packet, however large it claims to be", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const ends = endpoints(random, true, UDP);
  const whole = bigPacket(random, ends, 100, false);
  left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);
  for (const gsoSize of [100, 101, 2000, 65400, 65443, 65500, 65535]) {
    const frame = { virtio: superVirtio(ends, gsoSize, random), packet: whole };
    assertSamePackets(sendThrough(left, right, [frame]), [whole], message);
  }
});

test("drops fragments, packets above 1,280 bytes and frames without a packet", () => {
  const random = new Seeded(SEED);
  const core = newCore();
  const fragment = bigPacket(random, endpoints(random, true, UDP), 100, false);
  fragment[6] = 0x20;
  const fragment6 = packet({
    source: random.bytes(16),
    destination: random.bytes(16),
    protocol: UDP,
    options: Uint8Array.from(extension(UDP, 8), (byte, i) => (i === 3 ? 1 : i === 1 ? 0 : byte)),
    firstHeader: 44,
  });
  const long = bigPacket(random, endpoints(random, true, UDP), 1253, false);
  for (const bytes of [fragment, fragment6, long, new Uint8Array(0), new Uint8Array(19)]) {
    const output = encapsulate(core, [{ virtio: PLAIN, packet: bytes }]);
    assert.deepEqual([output.slow, output.trains], [[], []]);
  }
  assert.deepEqual(core.drops(), { fragment: 2, oversized: 1, malformed: 2 });
  assert.equal(encodeFrame({ virtio: PLAIN, packet: new Uint8Array(0) }).length, abi.VIRTIO_BYTES);
});

function tunnel(
  random: Seeded,
  variant: (typeof VARIANTS)[number] = "release",
): { left: WasmPacketCore; right: WasmPacketCore; pair: Link } {
  const left = newCore(variant);
  const right = newCore(variant);
  return { left, right, pair: link(left, right, (length) => random.bytes(length)) };
}

/** What arrives, bare: the receiver has no flows, so every packet stays in a slot. */
function sendThrough(left: WasmPacketCore, right: WasmPacketCore, frames: readonly Frame[]): Uint8Array[] {
  return decapsulate(right, encapsulate(left, frames).trains)
    .slow.filter((slow) => slow.reason === abi.SLOW_PEER_PACKET)
    .map((slow) => slow.packet);
}
