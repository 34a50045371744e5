import assert from "node:assert/strict";
import { test } from "node:test";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import { bigPacket, Conversation, endpoints, superVirtio } from "./offload-traffic.ts";
import {
  assertSamePackets,
  decapsulate,
  encapsulate,
  keyOf,
  type Link,
  link,
  NOW,
  newCore,
  sealAll,
} from "./pipeline-driver.ts";
import { TCP, UDP } from "./twins/checksum.ts";
import { coalesceSlowly, type Frame, PLAIN, splitSlowly, tcpPacket } from "./twins/offload.ts";
import { ipv4, ipv6, packet } from "./twins/packets.ts";
import { Seeded } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);
const message = `SEED=${SEED}`;
const A = {
  source: ipv4("10.0.0.1"),
  destination: ipv4("100.64.0.1"),
  sourcePort: 443,
  destinationPort: 50000,
};

for (const variant of VARIANTS) {
  test(`merges interleaved flows as the slow twin does, ${variant} build (acceptance H-13)`, () => {
    const random = new Seeded(SEED);
    for (let round = 0; round < (variant === "debug" ? 2 : 10); round++) {
      const conversations = Array.from({ length: 1 + random.below(10) }, () => {
        return new Conversation(endpoints(random), random);
      });
      const packets = Array.from({ length: 250 }, () => random.pick(conversations).next(random));
      assertSameFrames(receive(packets, random, variant), coalesceSlowly(packets));
    }
  });
}

test("a super-packet comes out as it went in, byte for byte (acceptance H-12)", () => {
  const random = new Seeded(SEED);
  const left = newCore();
  const right = newCore();
  right.batch.setCoalesce(true);
  const pair = link(left, right, (length) => random.bytes(length));
  for (let round = 0; round < 60; round++) {
    const ends = endpoints(random);
    const whole = bigPacket(random, ends, 601 + random.below(40000), false);
    // What cannot be merged comes back as plain packets, which other tests look at.
    if (ends.protocol === TCP) whole[(ends.isIpv4 ? 20 : 40) + 13] = 0x10;
    const virtio = { ...superVirtio(ends, 600, random), headerLength: 0 };
    left.addFlow(keyOf(whole, "tun"), pair.left, undefined, NOW);
    right.addFlow(keyOf(whole, pair.right), pair.right, undefined, NOW);

    const output = decapsulate(right, encapsulate(left, [{ virtio, packet: whole }]).trains);

    // UDP frames have at most 128 pieces.
    const pieces = splitSlowly(whole, 600);
    assertSameFrames(output.frames, coalesceSlowly(pieces));
    assert.equal(output.frames.length, 1, message);
    const again = output.frames[0]!;
    assertSamePackets(splitSlowly(again.packet, again.virtio.gsoSize), pieces, message);
  }
});

test("writes the header of a merged TCP frame as the device wants it (platform §6.2)", () => {
  const frames = receive([segment(100, 500), segment(600, 500), segment(1100, 200)], new Seeded(1));
  assert.equal(frames.length, 1);
  assert.deepEqual(frames[0]?.virtio, {
    flags: 1,
    gsoType: 1,
    headerLength: 40,
    gsoSize: 500,
    csumStart: 20,
    csumOffset: 16,
  });
  assert.equal(frames[0]?.packet.length, 40 + 1200);
});

test("writes the header of a merged UDP frame as the device wants it (platform §6.2)", () => {
  const parts = { source: ipv6(0xfd00, 1), destination: ipv6(0xfd00, 2), protocol: UDP, sourcePort: 1 };
  const frames = receive(
    [500, 500, 1].map((size) => packet({ ...parts, payload: new Uint8Array(size) })),
    new Seeded(1),
  );
  assert.equal(frames.length, 1);
  assert.deepEqual(frames[0]?.virtio, {
    flags: 1,
    gsoType: 5,
    headerLength: 48,
    gsoSize: 500,
    csumStart: 40,
    csumOffset: 6,
  });
  assert.equal(new DataView(frames[0]!.packet.buffer).getUint16(44), 8 + 1001);
});

test("a lone packet is a plain frame", () => {
  const only = segment(1, 100);
  assert.deepEqual(receive([only], new Seeded(1)), [{ virtio: PLAIN, packet: only }]);
});

test("an out-of-order segment starts a new run (acceptance H-13)", () => {
  const frames = receive(
    [segment(0, 10), segment(10, 10), segment(30, 10), segment(40, 10), segment(20, 10)],
    new Seeded(1),
  );
  assert.deepEqual(sizes(frames), [20, 20, 10]);
});

test("PSH and a short segment close the run, and PSH shows on the merged frame (acceptance H-13)", () => {
  const frames = receive(
    [segment(0, 10), segment(10, 10, { tcpFlags: 24 }), segment(20, 10), segment(30, 9), segment(39, 10)],
    new Seeded(1),
  );
  assert.deepEqual(sizes(frames), [20, 19, 10]);
  assert.deepEqual(
    frames.map((frame) => frame.packet[33]),
    [24, 16, 16],
  );
});

test("packets that cannot be merged keep their place in their flow (acceptance H-13)", () => {
  const packets = [
    segment(0, 10),
    segment(10, 10),
    segment(20, 0),
    segment(20, 10),
    segment(30, 10, { tcpFlags: 17 }),
    segment(41, 10),
  ];
  const frames = receive(packets, new Seeded(1));
  assert.deepEqual(sizes(frames), [20, 0, 10, 10, 10]);
  assert.deepEqual(
    frames.map((frame) => new DataView(frame.packet.buffer).getUint32(24)),
    [0, 20, 20, 30, 41],
  );
});

for (const [what, second] of [
  ["another acknowledgement", segment(10, 10, {}, { acknowledgement: 1 })],
  ["another window", segment(10, 10, {}, { window: 1 })],
  ["other options", segment(10, 10, {}, { tcpOptions: new Uint8Array(4) })],
  ["another traffic class", segment(10, 10, { trafficClass: 0x10 })],
  ["a congestion mark", segment(10, 10, { trafficClass: 3 })],
  ["a longer payload", segment(10, 11)],
  ["SYN", segment(10, 10, { tcpFlags: 18 })],
  ["RST", segment(10, 10, { tcpFlags: 20 })],
  ["URG", segment(10, 10, { tcpFlags: 48 })],
  ["ECE", segment(10, 10, { tcpFlags: 0x50 })],
  ["CWR", segment(10, 10, { tcpFlags: 0x90 })],
  ["IP options", segment(10, 10, { options: Uint8Array.of(1, 1, 1, 1) })],
  ["another TTL", changed(segment(10, 10), 8, 63)],
  ["another don't-fragment bit", changed(segment(10, 10), 6, 0x40)],
  ["a wrong checksum", changed(segment(10, 10), 45, 1, false)],
] as const) {
  test(`a segment with ${what} does not join`, () => {
    const frames = receive([segment(0, 10), second], new Seeded(1));
    assert.deepEqual(
      frames,
      [segment(0, 10), second].map((each) => ({ virtio: PLAIN, packet: each })),
    );
  });
}

test("a UDP run ends at 128 pieces", () => {
  const parts = { ...A, protocol: UDP, payload: new Uint8Array(20) };
  const frames = receive(
    Array.from({ length: 130 }, () => packet(parts)),
    new Seeded(1),
  );
  assert.deepEqual(
    frames.map((frame) => frame.packet.length - 28),
    [128 * 20, 2 * 20],
  );
});

test("a UDP packet without a checksum stays as it is", () => {
  const bare = packet({ ...A, protocol: UDP, payload: new Uint8Array(20) });
  bare[26] = 0;
  bare[27] = 0;
  assert.deepEqual(
    receive([bare, bare], new Seeded(1)),
    [bare, bare].map((each) => ({ virtio: PLAIN, packet: each })),
  );
});

test("without coalescing every packet is a frame of its own", () => {
  const packets = [segment(0, 10), segment(10, 10)];
  const frames = receive(packets, new Seeded(1), "release", false);
  assert.deepEqual(
    frames,
    packets.map((each) => ({ virtio: PLAIN, packet: each })),
  );
});

test("with more flows than lanes, and more bytes than the region holds, flows keep their order and content", () => {
  const random = new Seeded(SEED);
  const conversations = Array.from({ length: 60 }, () => {
    return new Conversation(endpoints(random, true, TCP), random, 900);
  });
  const packets = Array.from({ length: 1500 }, () => random.pick(conversations).next(random, 0.02));
  const frames = receive(packets, random);
  const perFlow = (all: readonly Uint8Array[]) =>
    Map.groupBy(all, (each) => `${each.subarray(12, 20).join()} ${each.subarray(20, 24).join()}`);
  const got = perFlow(
    frames.flatMap((frame) => (frame.virtio.gsoType === 0 ? [frame.packet] : pieces(frame))),
  );
  for (const [flow, expected] of perFlow(packets)) {
    // A merged run loses the ids of all its packets but the first.
    assertSamePackets((got.get(flow) ?? []).map(withoutId), expected.map(withoutId), message);
  }
  assert.ok(frames.length < packets.length, message);
});

/** Through the tunnel in one batch: padded to one length, so that all datagrams fit into trains. */
function receive(
  packets: readonly Uint8Array[],
  random: Seeded,
  variant: (typeof VARIANTS)[number] = "release",
  coalesce = true,
): Frame[] {
  const { left, right, pair } = tunnel(random, variant);
  right.batch.setCoalesce(coalesce);
  for (const each of packets) right.addFlow(keyOf(each, pair.right), pair.right, undefined, NOW);
  const trains = sealAll(left, pair.left, packets.map(padded));
  return decapsulate(right, trains).frames;
}

function tunnel(
  random: Seeded,
  variant: (typeof VARIANTS)[number],
): { left: WasmPacketCore; right: WasmPacketCore; pair: Link } {
  const left = newCore(variant);
  const right = newCore(variant);
  return { left, right, pair: link(left, right, (length) => random.bytes(length)) };
}

function padded(bytes: Uint8Array): Uint8Array {
  const longer = new Uint8Array(1280);
  longer.set(bytes);
  return longer;
}

function segment(
  sequence: number,
  size: number,
  ip: Partial<Parameters<typeof tcpPacket>[0]> = {},
  tcp: Partial<Parameters<typeof tcpPacket>[1]> = {},
): Uint8Array {
  return tcpPacket({ ...A, payload: new Uint8Array(size).fill(sequence), ...ip }, { sequence, ...tcp });
}

/** One byte changed; with the header checksum right again unless told otherwise. */
function changed(bytes: Uint8Array, at: number, value: number, isFixed = true): Uint8Array {
  const before = bytes[at]!;
  bytes[at] = value;
  const view = new DataView(bytes.buffer);
  if (!isFixed) return bytes;
  const difference = (value - before) * (at % 2 === 0 ? 256 : 1);
  const sum = view.getUint16(10) - difference;
  view.setUint16(10, sum < 0 ? sum + 0xffff : sum > 0xffff ? sum - 0xffff : sum);
  return bytes;
}

function sizes(frames: readonly Frame[]): number[] {
  return frames.map((frame) => frame.packet.length - 40);
}

function pieces(frame: Frame): Uint8Array[] {
  return splitSlowly(frame.packet, frame.virtio.gsoSize);
}

function withoutId(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy.fill(0, 4, 6);
  copy.fill(0, 10, 12);
  return copy;
}

function assertSameFrames(actual: readonly Frame[], expected: readonly Frame[]): void {
  assertSamePackets(
    actual.map((frame) => frame.packet),
    expected.map((frame) => frame.packet),
    message,
  );
  assert.deepEqual(
    actual.map((frame) => frame.virtio),
    expected.map((frame) => frame.virtio),
    message,
  );
}
