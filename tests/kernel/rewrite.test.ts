import assert from "node:assert/strict";
import { test } from "node:test";
import { KIND_ECHO, KIND_TCP, KIND_UDP, MAX_PACKET_BYTES } from "../../assembly/abi.ts";
import { ARGUMENT_AT, loadNet, type Net, PACKET_AT } from "./net-kernels.ts";
import { checksumAt, ICMP, ICMPV6, ipChecksumHolds, l4Sum, TCP, UDP } from "./twins/checksum.ts";
import { flowTemplate, headers, type Rewrite, rewritten } from "./twins/flow.ts";
import { extension, ipv4, ipv6, packet, randomPacket } from "./twins/packets.ts";
import { type Seeded, withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const GUARD_BYTES = 64;
const NOT_ECT = 0;
const ECT1 = 1;
const ECT0 = 2;
const CE = 3;

for (const variant of VARIANTS) {
  const net = loadNet(variant);

  test(`${variant}: right checksums stay right after any sequence of mutators`, () => {
    withSeed((random) => {
      for (let round = 0; round < 400; round++) {
        let bytes = randomPacket(random);
        for (let step = 0; step < 5; step++) bytes = mutate(net, bytes, random);
        const { l4, protocol } = headers(bytes);
        assert.ok(ipChecksumHolds(bytes));
        assert.equal(l4Sum(bytes, l4, protocol), 0xffff);
      }
    });
  });

  test(`${variant}: a wrong checksum stays equally wrong`, () => {
    withSeed((random) => {
      for (let round = 0; round < 400; round++) {
        const right = randomPacket(random);
        const { l4, protocol, version } = headers(right);
        const at = l4 + checksumAt(protocol);
        const wrong = Uint8Array.from(right);
        wrong.set(random.bytes(2), at);
        if (protocol === UDP && wrong[at] === 0 && wrong[at + 1] === 0) continue;
        if (version === 4) wrong.set(random.bytes(2), 10);
        const rewrite = randomRewrite(right, random);
        const before = [l4Sum(wrong, l4, protocol), headerError(wrong)];
        const after = apply(net, wrong, rewrite);
        assert.deepEqual([l4Sum(after, l4, protocol), headerError(after)].map(normal), before.map(normal));
      }
    });
  });

  test(`${variant}: rewrites the named address and port, checksums, and not a byte more`, () => {
    withSeed((random) => {
      for (let round = 0; round < 400; round++) {
        const before = randomPacket(random);
        const rewrite = randomRewrite(before, random);
        const { l4, protocol, version } = headers(before);
        const expected = rewritten(before, rewrite);
        const after = apply(net, before, rewrite);
        const checksums = [l4 + checksumAt(protocol), ...(version === 4 ? [10] : [])];
        for (const at of checksums) expected.set(after.subarray(at, at + 2), at);
        assert.deepEqual(after, expected);
      }
    });
  });

  test(`${variant}: an absent UDP checksum stays 0 and the IP header checksum is valid (tunnel-core 24.3)`, () => {
    const bytes = packet({ source: ipv4("10.0.0.1"), destination: ipv4("100.96.0.1"), protocol: UDP });
    bytes.set([0, 0], 26);
    const after = apply(net, bytes, { direction: "outgoing", address: ipv4("10.9.8.7"), port: 9 });
    assert.deepEqual([...after.subarray(26, 28)], [0, 0]);
    assert.deepEqual(after.subarray(16, 20), ipv4("10.9.8.7"));
    assert.ok(ipChecksumHolds(after));
  });

  test(`${variant}: an echo rewrite touches the ICMPv4 checksum for the identifier only`, () => {
    const echo = { source: ipv4("10.0.0.1"), destination: ipv4("10.0.0.2"), protocol: ICMP, sourcePort: 7 };
    const before = packet({ ...echo, payload: Uint8Array.of(1, 2, 3) });
    const after = apply(net, before, { direction: "outgoing", address: ipv4("1.1.1.1"), port: 7 });
    assert.deepEqual(after.subarray(20), before.subarray(20));
    const renamed = apply(net, before, { direction: "outgoing", address: ipv4("1.1.1.1"), port: 8 });
    assert.equal(l4Sum(renamed, 20, ICMP), 0xffff);
  });

  test(`${variant}: an all-zero ICMPv4 echo reply keeps a checksum that verifies`, () => {
    const zero = { source: ipv4("10.0.0.1"), destination: ipv4("10.0.0.2"), protocol: ICMP, icmpType: 0 };
    const named = packet({ ...zero, sourcePort: 9 });
    const after = apply(net, named, { direction: "incoming", address: ipv4("1.1.1.1"), port: 0 });
    assert.equal(l4Sum(after, 20, ICMP), 0xffff);
    const back = apply(net, after, { direction: "incoming", address: ipv4("10.0.0.1"), port: 9 });
    assert.equal(l4Sum(back, 20, ICMP), 0xffff);
  });

  test(`${variant}: leaves the transport checksum alone when the caller finishes it later`, () => {
    withSeed((random) => {
      for (let round = 0; round < 100; round++) {
        const before = randomPacket(random);
        const rewrite = randomRewrite(before, random);
        const { l4, protocol, version } = headers(before);
        const after = apply(net, before, rewrite, 0);
        const at = l4 + checksumAt(protocol);
        assert.deepEqual(after.subarray(at, at + 2), before.subarray(at, at + 2));
        assert.ok(ipChecksumHolds(after));
        net.finishL4(PACKET_AT, version, PACKET_AT + l4, protocol, before.length - l4);
        assert.equal(l4Sum(net.take(PACKET_AT, before.length), l4, protocol), 0xffff);
      }
    });
  });

  test(`${variant}: rewrites behind IPv6 extension headers`, () => {
    withSeed((random) => {
      for (const protocol of [TCP, UDP, ICMPV6]) {
        const options = Uint8Array.of(...extension(44, 16), ...extension(protocol, 8));
        const l4 = 40 + options.length;
        const bytes = packet({
          source: random.bytes(16),
          destination: random.bytes(16),
          protocol,
          sourcePort: 4000,
          options,
          firstHeader: 60,
          payload: random.bytes(33),
        });
        const address = random.bytes(16);
        // The template wants the ports where a packet without extension headers has them.
        const plain = Uint8Array.of(...bytes.subarray(0, 40), ...bytes.subarray(l4));
        plain[6] = protocol;
        const rewrite = { direction: "outgoing", address, port: 4001 } as const;
        const flow = net.flowAdd(
          net.put(flowTemplate(plain, { scope: 1, peer: 1, now: 1, rewrite }), ARGUMENT_AT),
        );
        net.put(bytes);
        assert.equal(net.parse(PACKET_AT, bytes.length, MAX_PACKET_BYTES), 0);
        assert.equal(net.parsedL4.value, l4);
        assert.equal(net.flowFind(PACKET_AT, 1), flow);
        net.applyRewrite(PACKET_AT, flow, PACKET_AT + l4, net.parsedKind.value, 6, 1);
        const after = net.take(PACKET_AT, bytes.length);
        assert.deepEqual(after.subarray(24, 40), address);
        assert.deepEqual(after.subarray(40, l4), options);
        assert.equal(l4Sum(after, l4, protocol), 0xffff);
      }
    });
  });

  test(`${variant}: a flow without rewrite leaves the packet as it is`, () => {
    const bytes = packet({ source: ipv6(1, 1), destination: ipv6(1, 2), protocol: TCP });
    const flow = net.flowAdd(net.put(flowTemplate(bytes, { scope: 1, peer: 1, now: 1 }), ARGUMENT_AT));
    net.put(bytes);
    net.applyRewrite(PACKET_AT, flow, PACKET_AT + 40, KIND_TCP, 6, 1);
    assert.deepEqual(net.take(PACKET_AT, bytes.length), bytes);
  });

  test(`${variant}: merges ECN by the table and keeps the IPv4 header checksum valid (tunnel-core 24.4)`, () => {
    for (const base of [
      { source: ipv4("10.0.0.1"), destination: ipv4("10.0.0.2") },
      { source: ipv6(0xfd00, 1), destination: ipv6(0xfd00, 2) },
    ]) {
      for (let trafficClass = 0; trafficClass < 256; trafficClass++) {
        for (const outer of [NOT_ECT, ECT1, ECT0, CE]) {
          const inner = trafficClass & 3;
          const isMarked = outer === CE && (inner === ECT0 || inner === ECT1);
          const parts = { ...base, protocol: UDP, payload: Uint8Array.of(1) };
          const before = packet({ ...parts, trafficClass });
          const expected = packet({ ...parts, trafficClass: isMarked ? trafficClass | CE : trafficClass });
          net.mergeEcn(net.put(before), outer);
          assert.deepEqual(net.take(PACKET_AT, before.length), expected, `${trafficClass} ${outer}`);
        }
      }
    }
  });
}

/** Either a rewrite through a flow, or an ECN merge; bytes around the packet must survive. */
function mutate(net: Net, bytes: Uint8Array, random: Seeded): Uint8Array {
  if (random.chance(0.7)) return apply(net, bytes, randomRewrite(bytes, random));
  net.mergeEcn(net.put(bytes), random.below(4));
  return net.take(PACKET_AT, bytes.length);
}

function apply(net: Net, bytes: Uint8Array, rewrite: Rewrite, updateL4 = 1): Uint8Array {
  const template = flowTemplate(bytes, { scope: 1, peer: 1, now: 1, rewrite });
  const flow = net.flowAdd(net.put(template, ARGUMENT_AT));
  const guard = new Uint8Array(GUARD_BYTES).fill(0xa5);
  net.put(guard, PACKET_AT - GUARD_BYTES);
  net.put(guard, PACKET_AT + bytes.length);
  net.put(bytes);
  assert.equal(net.parse(PACKET_AT, bytes.length, MAX_PACKET_BYTES), 0);
  assert.equal(net.flowFind(PACKET_AT, 1), flow);
  const { version, l4, protocol } = headers(bytes);
  const kind = protocol === TCP ? KIND_TCP : protocol === UDP ? KIND_UDP : KIND_ECHO;
  assert.ok([TCP, UDP, ICMP, ICMPV6].includes(protocol));
  net.applyRewrite(PACKET_AT, flow, PACKET_AT + l4, kind, version, updateL4);
  assert.deepEqual(net.take(PACKET_AT - GUARD_BYTES, GUARD_BYTES), guard);
  assert.deepEqual(net.take(PACKET_AT + bytes.length, GUARD_BYTES), guard);
  return net.take(PACKET_AT, bytes.length);
}

function randomRewrite(bytes: Uint8Array, random: Seeded): Rewrite {
  const address = random.bytes(bytes[0]! >> 4 === 4 ? 4 : 16);
  // Zeros and ones are where one's complement arithmetic goes wrong.
  if (random.chance(0.2)) address.fill(random.pick([0, 0xff]));
  const port = random.chance(0.3) ? random.pick([0, 0xffff]) : random.below(0x10000);
  return { direction: random.pick(["outgoing", "incoming"]), address, port };
}

function headerError(bytes: Uint8Array): number {
  if (bytes[0]! >> 4 !== 4) return 0xffff;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let total = 0;
  for (let at = 0; at < (bytes[0]! & 15) * 4; at += 2) total += view.getUint16(at);
  return total % 0xffff;
}

/** 0 and 0xffff are one number in one's complement arithmetic. */
function normal(value: number): number {
  return value % 0xffff;
}
