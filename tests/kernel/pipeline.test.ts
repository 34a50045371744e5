import assert from "node:assert/strict";
import { test } from "node:test";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import * as abi from "../../assembly/abi.ts";
import { ip } from "../../host/core/address.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import { bigPacket, endpoints } from "./offload-traffic.ts";
import {
  assertSamePackets,
  datagramsOf,
  decapsulate,
  encapsulate,
  encapsulateRaw,
  keyOf,
  type Link,
  link,
  NOW,
  newCore,
  PATH,
  sealAll,
  single,
} from "./pipeline-driver.ts";
import { ICMP, ipChecksumHolds, l4Sum, TCP, UDP } from "./twins/checksum.ts";
import { encodeFrame, type Frame, GSO_UDP, PLAIN, splitSlowly } from "./twins/offload.ts";
import { ipv4, packet } from "./twins/packets.ts";
import { Seeded } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000);
const message = `SEED=${SEED}`;
const CLIENT = {
  source: ipv4("100.64.0.1"),
  destination: ipv4("100.96.0.5"),
  sourcePort: 40000,
  destinationPort: 443,
};
const REPLY = {
  source: ipv4("10.1.2.3"),
  destination: ipv4("100.64.0.1"),
  sourcePort: 443,
  destinationPort: 40000,
};

for (const variant of VARIANTS) {
  test(`carries packets of known flows in both directions, ${variant} build`, () => {
    const random = new Seeded(SEED);
    const { left, right, pair } = tunnel(random, variant);
    for (const [from, to, out, into] of [
      [left, right, pair.left, pair.right],
      [right, left, pair.right, pair.left],
    ] as const) {
      const packets = Array.from({ length: 60 }, () =>
        bigPacket(random, endpoints(random), random.below(1100)),
      );
      for (const each of packets) {
        from.addFlow(keyOf(each, "tun"), out, undefined, NOW);
        to.addFlow(keyOf(each, into), into, undefined, NOW);
      }
      const sent = encapsulate(from, packets.map(plain));
      assert.equal(sent.slow.length, 0, message);
      const received = decapsulate(
        to,
        sent.trains.map((train) => ({ ...train, ecn: 0 })),
      );
      assertSamePackets(
        received.frames.map((frame) => frame.packet),
        packets,
        message,
      );
      assert.deepEqual(kinds(received.slow), from === left ? [abi.SLOW_KEYPAIR_CONFIRMED] : [], message);
    }
  });

  test(`a data message is what the WireGuard paper says, ${variant} build`, () => {
    const random = new Seeded(SEED);
    const { left, pair } = tunnel(random, variant);
    const inner = packet({ ...CLIENT, protocol: UDP, payload: random.bytes(333) });
    const [first, second] = datagramsOf(sealAll(left, pair.left, [inner, inner]));
    for (const [counter, datagram] of [first, second].entries()) {
      const view = new DataView(datagram!.buffer);
      assert.equal(view.getUint32(0, true), 4);
      assert.equal(view.getUint32(4, true), pair.rightIndex);
      assert.equal(view.getBigUint64(8, true), BigInt(counter));
      const nonce = new Uint8Array(12);
      nonce[4] = counter;
      assert.deepEqual(chacha20poly1305(pair.toRight, nonce).decrypt(datagram!.subarray(16)), inner, message);
    }
  });
}

test("translates to the resource and back, with right checksums (tunnel-core §14)", () => {
  const random = new Seeded(SEED);
  for (const protocol of [TCP, UDP, ICMP]) {
    const { left: client, right: gateway, pair } = tunnel(random);
    const kind = protocol === TCP ? "tcp" : protocol === UDP ? "udp" : "echo";
    const out = packet({ ...CLIENT, protocol, payload: random.bytes(77) });
    const nat = gateway.natOutgoing(
      pair.right,
      { kind, port: 40000, ip: ip("100.96.0.5") },
      ip("10.1.2.3"),
      NOW,
    )!;
    gateway.addFlow(
      keyOf(out, pair.right),
      pair.right,
      {
        direction: "outgoing",
        address: nat.outside.ip,
        port: nat.outside.port,
        natEntry: nat.entry,
      },
      NOW,
    );
    client.addFlow(keyOf(out, "tun"), pair.left, undefined, NOW);

    const delivered = decapsulate(gateway, encapsulate(client, [plain(out)]).trains).frames[0]!.packet;

    assert.deepEqual(delivered.subarray(16, 20), ipv4("10.1.2.3"));
    assertSound(delivered, protocol);

    const back = packet({
      ...REPLY,
      protocol,
      icmpType: 0,
      sourcePort: protocol === ICMP ? 40000 : 443,
      payload: random.bytes(55),
    });
    gateway.addFlow(
      keyOf(back, "tun"),
      pair.right,
      {
        direction: "incoming",
        address: ip("100.96.0.5"),
        port: 40000,
        natEntry: nat.entry,
      },
      NOW,
    );
    const [answer] = decapsulate(client, encapsulate(gateway, [plain(back)]).trains).slow;

    assert.equal(answer?.reason, abi.SLOW_PEER_PACKET);
    assert.deepEqual(answer.packet.subarray(12, 16), ipv4("100.96.0.5"));
    assertSound(answer.packet, protocol);
  }
});

test("rewrites a super-packet once, before it is split", () => {
  const random = new Seeded(SEED);
  const { left: gateway, right: client, pair } = tunnel(random);
  const whole = packet({ ...REPLY, protocol: UDP, payload: random.bytes(5000) });
  const nat = gateway.natOutgoing(
    pair.left,
    { kind: "udp", port: 41000, ip: ip("100.96.0.5") },
    ip("10.1.2.3"),
    NOW,
  )!;
  const rewrite = {
    direction: "incoming",
    address: ip("100.96.0.5"),
    port: 41000,
    natEntry: nat.entry,
  } as const;
  gateway.addFlow(keyOf(whole, "tun"), pair.left, rewrite, NOW);
  const sent = encapsulate(gateway, [
    { virtio: { ...PLAIN, gsoType: GSO_UDP, gsoSize: 1000 }, packet: whole },
  ]);
  const received = decapsulate(client, sent.trains).slow.filter(
    (slow) => slow.reason === abi.SLOW_PEER_PACKET,
  );
  const expected = packet({
    ...REPLY,
    source: ipv4("100.96.0.5"),
    destinationPort: 41000,
    protocol: UDP,
    payload: whole.subarray(28),
  });
  assertSamePackets(
    received.map((slow) => slow.packet),
    splitSlowly(expected, 1000),
    message,
  );
});

test("a packet without a flow, an ICMP error and a control frame take the slow path; what follows stays behind", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const unknown = packet({ ...CLIENT, protocol: TCP, payload: random.bytes(9) });
  const unreachable = packet({ ...CLIENT, protocol: ICMP, icmpType: 3, payload: random.bytes(40) });
  const control = Uint8Array.from({ length: 48 }, (_, i) =>
    i === 0 ? 0x60 : i === 5 ? 8 : i === 6 ? 255 : 0,
  );
  const packets = [unknown, unreachable, control, unknown];

  const slowOut = encapsulate(left, packets.map(plain)).slow;
  assert.deepEqual(
    slowOut.map((slow) => slow.packet),
    packets,
  );
  assert.deepEqual(
    slowOut.map((slow) => [slow.reason, slow.source]),
    packets.map((_, i) => [abi.SLOW_TUN_PACKET, i]),
  );

  const slowIn = decapsulate(right, sealAll(left, pair.left, packets)).slow.slice(1);
  assert.deepEqual(
    slowIn.map((slow) => slow.packet),
    packets,
  );
  assert.deepEqual(
    slowIn.map((slow) => [slow.reason, slow.peer]),
    packets.map(() => [abi.SLOW_PEER_PACKET, pair.right]),
  );
});

test("reinject sends and delivers what a machine installed a flow for", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const first = packet({ ...CLIENT, protocol: TCP, payload: random.bytes(9) });
  const results: number[] = [];
  const sent = encapsulate(left, [plain(first), plain(first)], NOW, (core, i) => {
    if (i === 0) results.push(core.reinject(i, NOW));
    core.addFlow(keyOf(first, "tun"), pair.left, undefined, NOW);
    results.push(core.reinject(i, NOW));
  });
  assert.deepEqual(results, [abi.PACKET_MISS, abi.PACKET_QUEUED, abi.PACKET_QUEUED]);

  const received = decapsulate(right, sent.trains, NOW, (core, i) => {
    if (core.slowReason(i) !== abi.SLOW_PEER_PACKET) return;
    core.addFlow(keyOf(first, pair.right), pair.right, undefined, NOW);
    assert.equal(core.reinject(i, NOW), abi.PACKET_QUEUED);
  });
  assert.deepEqual(
    received.frames.map((frame) => frame.packet),
    [first, first],
  );
});

test("reinject of a packet whose peer has no keypair turns its descriptor into one for that peer", () => {
  const core = newCore();
  core.addPeer();
  const peer = core.addPeer()!;
  const first = packet({ ...CLIENT, protocol: TCP, payload: new Uint8Array(9) });
  encapsulate(core, [plain(first)], NOW, () => {
    core.addFlow(keyOf(first, "tun"), peer, undefined, NOW);
    assert.equal(core.reinject(0, NOW), abi.PACKET_NO_KEYPAIR);
    assert.deepEqual([core.slowReason(0), core.slowPeer(0)], [abi.SLOW_NO_KEYPAIR, peer]);
    assert.deepEqual(core.slowPacket(0), first);
  });
});

test("without keypair or path a known flow's packets go to the slow path as they came, not yet rewritten", () => {
  const random = new Seeded(SEED);
  const { left, pair } = tunnel(random);
  const whole = packet({ ...REPLY, protocol: UDP, payload: random.bytes(3000) });
  const nat = left.natOutgoing(
    pair.left,
    { kind: "udp", port: 1, ip: ip("100.96.0.5") },
    ip("10.1.2.3"),
    NOW,
  )!;
  left.addFlow(
    keyOf(whole, "tun"),
    pair.left,
    { direction: "incoming", address: ip("100.96.0.5"), port: 1, natEntry: nat.entry },
    NOW,
  );
  const frame = { virtio: { ...PLAIN, gsoType: GSO_UDP, gsoSize: 1000 }, packet: whole };
  const attempt = () => {
    const { slow, trains } = encapsulate(left, [frame]);
    assert.deepEqual(trains, []);
    assert.deepEqual(
      slow.map((each) => [each.reason, each.peer]),
      Array(3).fill([abi.SLOW_NO_KEYPAIR, pair.left]),
    );
    assertSamePackets(
      slow.map((each) => each.packet),
      splitSlowly(whole, 1000),
      message,
    );
  };
  left.setPath(pair.left, undefined);
  attempt();
  left.setPath(pair.left, PATH);
  left.selectKeypair(pair.left, undefined);
  attempt();
  left.selectKeypair(pair.left, pair.leftIndex);
  assert.equal(encapsulate(left, [frame]).slow.length, 0);
  left.removeKeypair(pair.left, pair.leftIndex);
  attempt();
});

test("invalidated flows miss; other peers' flows stay", () => {
  const core = newCore();
  const other = newCore();
  const random = new Seeded(SEED);
  const a = link(core, other, (length) => random.bytes(length));
  const b = link(core, other, (length) => random.bytes(length));
  const toA = packet({ ...CLIENT, protocol: TCP });
  const toB = packet({ ...CLIENT, protocol: UDP });
  const misses = () => encapsulate(core, [plain(toA), plain(toB)]).slow.map((slow) => slow.source);
  const install = () => {
    core.addFlow(keyOf(toA, "tun"), a.left, undefined, NOW);
    core.addFlow(keyOf(toB, "tun"), b.left, undefined, NOW);
  };
  install();
  assert.deepEqual(misses(), []);
  core.invalidatePeer(a.left);
  assert.deepEqual(misses(), [0]);
  install();
  core.invalidateAll();
  assert.deepEqual(misses(), [0, 1]);
});

test("a known flow that is not translated any more misses", () => {
  const { left, pair } = tunnel(new Seeded(SEED));
  const reply = packet({ ...REPLY, protocol: UDP });
  const nat = left.natOutgoing(
    pair.left,
    { kind: "udp", port: 1, ip: ip("100.96.0.5") },
    ip("10.1.2.3"),
    NOW,
  )!;
  left.addFlow(
    keyOf(reply, "tun"),
    pair.left,
    { direction: "incoming", address: ip("100.96.0.5"), port: 1, natEntry: nat.entry },
    NOW,
  );
  assert.equal(encapsulate(left, [plain(reply)]).slow.length, 0);
  left.natReset(pair.left);
  assert.equal(encapsulate(left, [plain(reply)]).slow.length, 1);
});

test("outer datagrams carry the inner ECN; CE reaches capable packets only (tunnel-core 24.4)", () => {
  const random = new Seeded(SEED);
  for (const isIpv4 of [true, false]) {
    for (const inner of [0, 1, 2, 3]) {
      for (const outer of [0, 1, 2, 3]) {
        const { left, right, pair } = tunnel(random);
        const ends = {
          ...endpoints(random, isIpv4, UDP),
          trafficClass: 0x28 | inner,
          payload: random.bytes(10),
        };
        const sent = packet(ends);
        left.addFlow(keyOf(sent, "tun"), pair.left, undefined, NOW);
        right.addFlow(keyOf(sent, pair.right), pair.right, undefined, NOW);

        const { trains } = encapsulate(left, [plain(sent)]);
        const [frame] = decapsulate(
          right,
          trains.map((train) => ({ ...train, ecn: outer })),
        ).frames;

        assert.equal(trains[0]?.ecn, inner);
        const isMarked = outer === 3 && (inner === 1 || inner === 2);
        assert.deepEqual(
          frame?.packet,
          packet({ ...ends, trafficClass: 0x28 | (isMarked ? 3 : inner) }),
          message,
        );
      }
    }
  }
});

test("trains hold one path, one ECN codepoint and one length; a shorter datagram closes them", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const other = link(left, right, (length) => random.bytes(length));
  left.setPath(other.left, 77);
  const shape = (peer: number, size: number, ecn = 0) => {
    const each = packet({
      ...CLIENT,
      protocol: UDP,
      trafficClass: ecn,
      sourcePort: peer,
      payload: new Uint8Array(size),
    });
    left.addFlow(keyOf(each, "tun"), peer, undefined, NOW);
    return plain(each);
  };
  const { trains } = encapsulate(left, [
    shape(pair.left, 100),
    shape(pair.left, 100),
    shape(pair.left, 50),
    shape(pair.left, 50),
    shape(pair.left, 60),
    shape(pair.left, 60, 1),
    shape(other.left, 60, 1),
    shape(pair.left, 60, 1),
  ]);
  assert.deepEqual(
    trains.map((train) => [train.path, train.ecn, train.segmentLength - 60, train.bytes.length]),
    [
      [PATH, 0, 100, 160 + 160 + 110],
      [PATH, 0, 50, 110],
      [PATH, 0, 60, 120],
      [PATH, 1, 60, 120],
      [77, 1, 60, 120],
      [PATH, 1, 60, 120],
    ],
  );
});

test("a train stops at 64 datagrams and at 65,507 bytes", () => {
  const { left, pair } = tunnel(new Seeded(SEED));
  for (const [size, expected] of [
    [20, [64, 36]],
    [1280, [49, 49, 2]],
  ] as const) {
    const trains = sealAll(
      left,
      pair.left,
      Array.from({ length: 100 }, () => new Uint8Array(size).fill(0x45, 0, 1)),
    );
    assert.deepEqual(
      trains.map((train) => train.bytes.length / train.segmentLength),
      expected,
    );
  }
});

test("a relayed path sends ChannelData, and ChannelData with a live message is opened (connectivity §6.7)", () => {
  const { left, right, pair } = tunnel(new Seeded(SEED));
  const inner = packet({ ...CLIENT, protocol: UDP, payload: new Uint8Array(1252) });
  right.addFlow(keyOf(inner, pair.right), pair.right, undefined, NOW);
  left.setPath(pair.left, PATH, 0x4001);
  const trains = sealAll(left, pair.left, [inner, inner]);
  assert.equal(trains[0]?.segmentLength, abi.MAX_DATAGRAM_BYTES);
  assert.deepEqual(trains[0].bytes.subarray(0, 5), Uint8Array.of(0x40, 1, 0x05, 0x20, 4));
  assert.equal(decapsulate(right, trains).frames.length, 2);

  const stranger = datagramsOf(sealAll(left, pair.left, [inner]))[0]!;
  stranger[8] = 0;
  assert.deepEqual(
    decapsulate(right, [single(stranger)]).slow.map((slow) => slow.packet),
    [stranger],
  );
  stranger[3] = 0xff;
  assert.deepEqual(kinds(decapsulate(right, [single(stranger)]).slow), [abi.SLOW_DATAGRAM]);
});

test("encapsulate continues after BATCH_MORE at each limit: trains, bytes, slots", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  // A train each, because no two neighbours have the same ECN.
  const alternating = Array.from({ length: 256 }, (_, i) =>
    packet({ ...CLIENT, protocol: UDP, trafficClass: i & 1, payload: random.bytes(8) }),
  );
  left.addFlow(keyOf(alternating[0]!, "tun"), pair.left, undefined, NOW);
  const supers = Array.from({ length: 16 }, () =>
    packet({ ...CLIENT, protocol: UDP, payload: random.bytes(60000) }),
  );
  const cases: readonly (readonly Frame[])[] = [
    alternating.map(plain),
    supers.map((whole) => ({ virtio: { ...PLAIN, gsoType: GSO_UDP, gsoSize: 300 }, packet: whole })),
  ];
  // With these, more than TRAIN_CAPACITY.
  for (let i = 0; i < 300; i++) assert.ok(left.seal(pair.left, alternating[i & 1]!, NOW));
  const counts = cases.map((frames) => {
    const output = encapsulate(left, frames);
    const expected = frames.flatMap((frame) =>
      frame.virtio.gsoType === 0 ? [frame.packet] : splitSlowly(frame.packet, 300),
    );
    const received = decapsulate(right, output.trains).slow.filter(
      (slow) => slow.reason === abi.SLOW_PEER_PACKET,
    );
    const packets = received.map((slow) => slow.packet);
    assertSamePackets(packets.slice(packets.length - expected.length), expected, message);
    return output.more;
  });
  assert.ok(
    counts.every((more) => more > 0),
    `${counts}`,
  );

  left.invalidateAll();
  const missed = encapsulate(
    left,
    supers
      .slice(0, 4)
      .map((whole) => ({ virtio: { ...PLAIN, gsoType: GSO_UDP, gsoSize: 300 }, packet: whole })),
  );
  assert.equal(missed.more, 3);
  assertSamePackets(
    missed.slow.map((slow) => slow.packet),
    supers.slice(0, 4).flatMap((whole) => splitSlowly(whole, 300)),
    message,
  );
});

test("decapsulate continues after BATCH_MORE at each limit: slots, frames, bytes", () => {
  const random = new Seeded(SEED);
  for (const [size, hasFlow] of [
    [10, false],
    [10, true],
    [1200, true],
  ] as const) {
    const { left, right, pair } = tunnel(random);
    const packets = Array.from({ length: 1500 }, () =>
      packet({ ...CLIENT, protocol: UDP, payload: random.bytes(size) }),
    );
    if (hasFlow) right.addFlow(keyOf(packets[0]!, pair.right), pair.right, undefined, NOW);

    const output = decapsulate(right, sealAll(left, pair.left, packets));

    const received = hasFlow
      ? output.frames
      : output.slow.filter((slow) => slow.reason === abi.SLOW_PEER_PACKET);
    assertSamePackets(
      received.map((each) => each.packet),
      packets,
      message,
    );
    assert.ok(output.more > 0);
    assert.deepEqual(right.drops(), {});
  }
});

test("frames of any length are taken from where they lie, one behind the other", () => {
  const random = new Seeded(SEED);
  const { left, right, pair } = tunnel(random);
  const packets = Array.from({ length: 100 }, (_, i) =>
    packet({ ...CLIENT, protocol: UDP, payload: random.bytes(i) }),
  );
  left.addFlow(keyOf(packets[0]!, "tun"), pair.left, undefined, NOW);
  const output = encapsulateRaw(
    left,
    packets.map((each) => encodeFrame(plain(each))),
  );
  const received = decapsulate(right, output.trains).slow.slice(1);
  assertSamePackets(
    received.map((slow) => slow.packet),
    packets,
    message,
  );
});

function tunnel(
  random: Seeded,
  variant: (typeof VARIANTS)[number] = "release",
): { left: WasmPacketCore; right: WasmPacketCore; pair: Link } {
  const left = newCore(variant);
  const right = newCore(variant);
  return { left, right, pair: link(left, right, (length) => random.bytes(length)) };
}

function plain(bytes: Uint8Array): Frame {
  return { virtio: PLAIN, packet: bytes };
}

function kinds(slow: readonly { readonly reason: number }[]): number[] {
  return slow.map((each) => each.reason);
}

function assertSound(bytes: Uint8Array, protocol: number): void {
  assert.ok(ipChecksumHolds(bytes), message);
  assert.equal(l4Sum(bytes, 20, protocol), 0xffff, message);
}
