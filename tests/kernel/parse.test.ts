import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DROP_FRAGMENT,
  DROP_MALFORMED,
  DROP_NONE,
  DROP_OVERSIZED,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
  KIND_TCP,
  KIND_UDP,
  MAX_PACKET_BYTES,
  MEMORY_BYTES,
} from "../../assembly/abi.ts";
import { loadNet, type Net, PACKET_AT } from "./net-kernels.ts";
import { ICMP, ICMPV6, swap16, TCP, UDP } from "./twins/checksum.ts";
import { extension, ipv4, ipv6, type PacketParts, packet, randomPacket } from "./twins/packets.ts";
import { type Parsed, parseSlowly } from "./twins/parse.ts";
import { type Seeded, withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

const V4 = { source: ipv4("100.64.0.1"), destination: ipv4("100.96.0.1") };
const V6 = { source: ipv6(0xfd00, 1), destination: ipv6(0xfd00, 2) };
const PORTS = { sourcePort: 4660, destinationPort: 443 };

for (const variant of VARIANTS) {
  const net = loadNet(variant);
  const parsed = (bytes: Uint8Array, maxLength = MAX_PACKET_BYTES) => parse(net, bytes, maxLength, false);
  const parsedPadded = (bytes: Uint8Array) => parse(net, bytes, MAX_PACKET_BYTES, true);

  test(`${variant}: rejects 1281 bytes, and accepts 1280 (tunnel-core 24.1)`, () => {
    const udp = (payload: number) => packet({ ...V4, protocol: UDP, payload: new Uint8Array(payload) });
    assert.equal(parsed(udp(1281 - 28)), DROP_OVERSIZED);
    assert.equal(asParsed(parsed(udp(1280 - 28))).length, 1280);
    assert.equal(asParsed(parsed(udp(60000), 65535)).length, 60028);
  });

  test(`${variant}: rejects IPv4 fragments, and accepts a set DF bit (tunnel-core 24.1)`, () => {
    const withFlags = (flags: number) => with16(packet({ ...V4, protocol: UDP }), 6, flags);
    for (const flags of [0x2000, 0x0001, 0x1fff, 0x3000, 0x6000]) {
      assert.equal(parsed(withFlags(flags)), DROP_FRAGMENT);
    }
    for (const flags of [0, 0x4000, 0x8000]) asParsed(parsed(withFlags(flags)));
  });

  test(`${variant}: rejects ICMPv4 in IPv6 and ICMPv6 in IPv4 (tunnel-core 24.2)`, () => {
    assert.equal(parsed(packet({ ...V6, protocol: ICMP })), DROP_MALFORMED);
    assert.equal(parsed(packet({ ...V4, protocol: ICMPV6 })), DROP_MALFORMED);
    const behindOptions = { options: extension(ICMP, 8), firstHeader: 60 };
    assert.equal(parsed(packet({ ...V6, protocol: ICMP, ...behindOptions })), DROP_MALFORMED);
  });

  test(`${variant}: knows versions 4 and 6 only`, () => {
    for (let version = 0; version < 16; version++) {
      const bytes = packet({ ...V4, protocol: UDP, payload: new Uint8Array(40) });
      bytes[0] = (version << 4) | 5;
      if (version !== 4) assert.equal(parsed(bytes), DROP_MALFORMED);
    }
    assert.equal(parsed(new Uint8Array(0)), DROP_MALFORMED);
  });

  test(`${variant}: wants an IPv4 header of 20 bytes or more, inside the packet`, () => {
    const bytes = packet({ ...V4, protocol: 99, payload: new Uint8Array(4) });
    for (const [ihl, result] of [
      [4, DROP_MALFORMED],
      [6, DROP_NONE],
      [7, DROP_MALFORMED],
    ] as const) {
      bytes[0] = 0x40 | ihl;
      assert.equal(net.parse(net.put(bytes), bytes.length, 1280), result, `IHL ${ihl}`);
    }
  });

  test(`${variant}: wants length fields to equal the byte count, or with padding not to exceed it`, () => {
    for (const base of [packet({ ...V4, protocol: UDP }), packet({ ...V6, protocol: UDP })]) {
      const longer = Uint8Array.of(...base, 0, 0, 0);
      assert.equal(parsed(longer), DROP_MALFORMED);
      assert.equal(asParsed(parsedPadded(longer)).length, base.length);
      assert.equal(parsed(base.subarray(0, -1)), DROP_MALFORMED);
      assert.equal(parsedPadded(base.subarray(0, -1)), DROP_MALFORMED);
    }
  });

  test(`${variant}: counts the limit of padded packets without their padding`, () => {
    const bytes = packet({ ...V4, protocol: UDP, payload: new Uint8Array(1280 - 28) });
    assert.equal(asParsed(parsedPadded(Uint8Array.of(...bytes, ...new Uint8Array(16)))).length, 1280);
    const larger = packet({ ...V6, protocol: UDP, payload: new Uint8Array(1281 - 48) });
    assert.equal(parsedPadded(larger), DROP_OVERSIZED);
  });

  test(`${variant}: wants the UDP length to equal the IP payload, also in super-packets`, () => {
    for (const base of [V4, V6]) {
      const bytes = packet({ ...base, protocol: UDP, payload: new Uint8Array(30000) });
      const l4 = base === V4 ? 20 : 40;
      asParsed(parsed(bytes, 65535));
      for (const length of [0, 7, 8, 30007, 30009]) {
        assert.equal(parsed(with16(bytes, l4 + 4, length), 65535), DROP_MALFORMED);
      }
    }
    assert.equal(parsed(truncated(packet({ ...V4, protocol: UDP }), 27)), DROP_MALFORMED);
  });

  test(`${variant}: wants a complete TCP header with a data offset inside the packet`, () => {
    const bytes = packet({ ...V4, protocol: TCP, ...PORTS, payload: new Uint8Array(8) });
    for (let offset = 0; offset < 16; offset++) {
      bytes[32] = offset << 4;
      const result = parsed(bytes);
      if (offset >= 5 && offset <= 7) assert.equal(asParsed(result).payload, 20 + offset * 4);
      else assert.equal(result, DROP_MALFORMED, `data offset ${offset}`);
    }
    assert.equal(parsed(truncated(packet({ ...V4, protocol: TCP }), 39)), DROP_MALFORMED);
  });

  test(`${variant}: tells UDP and TCP by their ports`, () => {
    for (const base of [V4, V6]) {
      for (const [protocol, kind] of [
        [UDP, KIND_UDP],
        [TCP, KIND_TCP],
      ] as const) {
        const result = asParsed(parsed(packet({ ...base, ...PORTS, protocol, tcpFlags: 0x12 })));
        assert.deepEqual(
          [result.kind, result.sourcePort, result.destinationPort, result.tcpFlags],
          [kind, 4660, 443, protocol === TCP ? 0x12 : 0],
        );
      }
    }
  });

  test(`${variant}: wants 8 bytes of ICMP header`, () => {
    assert.equal(parsed(truncated(packet({ ...V4, protocol: ICMP }), 27)), DROP_MALFORMED);
    assert.equal(parsed(truncated(packet({ ...V6, protocol: ICMPV6 }), 47)), DROP_MALFORMED);
  });

  test(`${variant}: tells echoes with code 0 from other ICMP`, () => {
    for (const [base, protocol, echoes] of [
      [V4, ICMP, [0, 8]],
      [V6, ICMPV6, [128, 129]],
    ] as const) {
      for (let icmpType = 0; icmpType < 256; icmpType++) {
        const bytes = packet({ ...base, protocol, icmpType, sourcePort: 7 });
        const isEcho = (echoes as readonly number[]).includes(icmpType);
        const { kind, sourcePort, destinationPort } = asParsed(parsed(bytes));
        assert.deepEqual(
          [kind, sourcePort, destinationPort],
          isEcho ? [KIND_ECHO, 7, 0] : [KIND_ICMP, 0, 0],
          `type ${icmpType}`,
        );
        bytes[bytes.length - 7] = 1;
        assert.equal(asParsed(parsed(bytes)).kind, KIND_ICMP, `type ${icmpType} code 1`);
      }
    }
  });

  test(`${variant}: accepts other protocols as opaque`, () => {
    for (const base of [V4, V6]) {
      for (const protocol of [2, 4, 41, 47, 50, 59, 132, 135, 255]) {
        const { kind, protocol: found } = asParsed(parsed(packet({ ...base, protocol })));
        assert.deepEqual([kind, found], [KIND_OTHER, protocol]);
      }
    }
  });

  test(`${variant}: walks IPv6 extension headers to the transport header`, () => {
    const options = Uint8Array.of(
      ...extension(43, 16), // hop-by-hop
      ...extension(60, 8), // routing
      ...extension(51, 24), // destination options
      ...Uint8Array.of(44, 1, ...new Uint8Array(10)), // authentication header, (1 + 2) × 4 bytes
      ...extension(TCP, 8), // atomic fragment
    );
    const bytes = packet({ ...V6, protocol: TCP, ...PORTS, options, firstHeader: 0 });
    const { l4, kind, protocol, sourcePort } = asParsed(parsed(bytes));
    assert.deepEqual([l4, kind, protocol, sourcePort], [40 + options.length, KIND_TCP, TCP, 4660]);
  });

  test(`${variant}: rejects extension headers that leave the packet or stand in the wrong place`, () => {
    const tooLong = packet({ ...V6, protocol: UDP, options: extension(UDP, 8), firstHeader: 60 });
    tooLong[41] = 3;
    assert.equal(parsed(tooLong), DROP_MALFORMED);
    assert.equal(parsed(packet({ ...V6, protocol: 60, payload: new Uint8Array(7) })), DROP_MALFORMED);
    const lateHopByHop = Uint8Array.of(...extension(0, 8), ...extension(UDP, 8));
    assert.equal(
      parsed(packet({ ...V6, protocol: UDP, options: lateHopByHop, firstHeader: 60 })),
      DROP_MALFORMED,
    );
  });

  test(`${variant}: accepts atomic IPv6 fragments only`, () => {
    const bytes = packet({ ...V6, protocol: UDP, options: extension(UDP, 8), firstHeader: 44 });
    for (const field of [0, 2, 4, 6]) asParsed(parsed(with16(bytes, 42, field)));
    for (const field of [1, 8, 9, 0xfff8]) assert.equal(parsed(with16(bytes, 42, field)), DROP_FRAGMENT);
  });

  test(`${variant}: recognises control frames by next header and unspecified addresses`, () => {
    const none = { source: new Uint8Array(16), destination: new Uint8Array(16) };
    const isControl = (parts: PacketParts) => {
      assert.equal(asParsed(parsed(packet(parts))).kind, KIND_OTHER);
      return net.isControlFrame(PACKET_AT) !== 0;
    };
    const frame = { ...none, protocol: 255, payload: new Uint8Array(8) };
    assert.equal(isControl(frame), true);
    assert.equal(isControl({ ...frame, payload: new Uint8Array(7) }), false);
    assert.equal(isControl({ ...frame, protocol: 254 }), false);
    assert.equal(isControl({ ...frame, source: ipv6(0, 1) }), false);
    assert.equal(isControl({ ...frame, destination: ipv6(0x100, 0) }), false);
    assert.equal(isControl({ ...frame, ...V4 }), false);
  });

  test(`${variant}: reports the ECN codepoint`, () => {
    for (const base of [V4, V6]) {
      for (let trafficClass = 0; trafficClass < 256; trafficClass++) {
        assert.equal(
          asParsed(parsed(packet({ ...base, protocol: UDP, trafficClass }))).ecn,
          trafficClass & 3,
        );
      }
    }
  });

  const rounds = variant === "debug" ? 20_000 : 200_000;
  test(`${variant}: ${rounds} random and mutated packets parse like the slow twin, without a trap`, () => {
    withSeed((random) => {
      let accepted = 0;
      let base = randomPacket(random);
      for (let round = 0; round < rounds; round++) {
        if (round % 64 === 0) base = random.chance(0.5) ? randomPacket(random) : withExtensions(random);
        const bytes = mutated(base, random);
        const isPadded = random.chance(0.5);
        // Garbage around the packet must not matter.
        if (round % 16 === 0) net.put(random.bytes(64), PACKET_AT + bytes.length);
        // At the end of memory a read behind the packet would trap.
        const at = round % 2 === 0 ? PACKET_AT : MEMORY_BYTES - bytes.length;
        const result = parse(net, bytes, MAX_PACKET_BYTES, isPadded, at);
        const expected = parseSlowly(bytes, MAX_PACKET_BYTES, isPadded);
        if (typeof expected !== "number") accepted++;
        assert.deepEqual(result, expected, Buffer.from(bytes).toString("hex"));
      }
      assert.ok(accepted > rounds / 20, `only ${accepted} accepted`);
    });
  });
}

function parse(
  net: Net,
  bytes: Uint8Array,
  maxLength: number,
  isPadded: boolean,
  at = PACKET_AT,
): Parsed | number {
  net.put(bytes, at);
  const result = isPadded
    ? net.parsePadded(at, bytes.length, maxLength)
    : net.parse(at, bytes.length, maxLength);
  if (result !== DROP_NONE) return result;
  const ports = net.parsedPorts.value;
  return {
    version: net.parsedVersion.value,
    protocol: net.parsedProtocol.value,
    l4: net.parsedL4.value,
    length: net.parsedLength.value,
    ecn: net.parsedEcn.value,
    kind: net.parsedKind.value,
    sourcePort: swap16(ports & 0xffff),
    destinationPort: swap16(ports >>> 16),
    tcpFlags: net.parsedTcpFlags.value,
    payload: net.parsedPayload.value,
  };
}

function asParsed(result: Parsed | number): Parsed {
  if (typeof result === "number") assert.fail(`refused with ${result}`);
  return result;
}

function with16(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  new DataView(copy.buffer).setUint16(at, value);
  return copy;
}

/** Cuts the packet and corrects its IP length field. */
function truncated(bytes: Uint8Array, length: number): Uint8Array {
  const isIpv4 = bytes[0]! >> 4 === 4;
  return with16(bytes.slice(0, length), isIpv4 ? 2 : 4, isIpv4 ? length : length - 40);
}

function withExtensions(random: Seeded): Uint8Array {
  const kinds = Array.from({ length: 1 + random.below(4) }, () => random.pick([0, 43, 44, 51, 60]));
  const protocol = random.pick([TCP, UDP, ICMPV6, 59]);
  const options = kinds.flatMap((kind, i) => {
    const next = kinds[i + 1] ?? protocol;
    return kind === 51 ? [next, 4, ...random.bytes(22)] : [...extension(next, kind === 44 ? 8 : 16)];
  });
  return packet({ ...V6, protocol, options: Uint8Array.from(options), firstHeader: kinds[0]! });
}

function mutated(base: Uint8Array, random: Seeded): Uint8Array {
  const choice = random.below(8);
  if (choice === 0) return base;
  if (choice === 1) return random.bytes(random.below(120));
  const cut = random.chance(0.2) ? random.below(base.length + 1) : base.length;
  const bytes = Uint8Array.of(
    ...base.subarray(0, cut),
    ...random.bytes(random.chance(0.2) ? random.below(9) : 0),
  );
  const flips = random.below(4);
  for (let i = 0; i < flips && bytes.length > 0; i++) {
    // Mostly header bytes: that is where the decisions are.
    const at = random.below(random.chance(0.8) ? Math.min(bytes.length, 64) : bytes.length);
    bytes[at] = random.chance(0.5) ? bytes[at]! ^ (1 << random.below(8)) : random.below(256);
  }
  return bytes;
}
