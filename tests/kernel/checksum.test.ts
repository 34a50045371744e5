import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MEMORY_BYTES } from "../../assembly/abi.ts";
import { loadNet, PACKET_AT } from "./net-kernels.ts";
import { checksumAt, ICMP, ICMPV6, swap16, TCP, UDP, wordSum } from "./twins/checksum.ts";
import { ipv4, ipv6, packet, randomPacket } from "./twins/packets.ts";
import { withSeed } from "./twins/seeded.ts";
import { VARIANTS } from "./variants.ts";

interface Vectors {
  readonly sums: readonly { readonly bytes: string; readonly sum: string; readonly note: string }[];
}
interface Updates {
  readonly updates: readonly {
    readonly checksum: string;
    readonly before: string;
    readonly after: string;
    readonly result: string;
    readonly note: string;
  }[];
}

const read = (name: string): string =>
  readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8");
const { sums } = JSON.parse(read("rfc1071")) as Vectors;
const { updates } = JSON.parse(read("rfc1624")) as Updates;
const hex = (text: string): number => Number.parseInt(text, 16);

for (const variant of VARIANTS) {
  const net = loadNet(variant);

  test(`${variant}: sums agree with the RFC 1071 vectors`, () => {
    for (const { bytes, sum, note } of sums) {
      const input = Buffer.from(bytes, "hex");
      assert.equal(swap16(net.sum(net.put(input), input.length, 0)), hex(sum), note);
      assert.equal(wordSum(input), hex(sum), `twin: ${note}`);
    }
  });

  test(`${variant}: incremental updates agree with the RFC 1624 vectors`, () => {
    for (const { checksum, before, after, result, note } of updates) {
      const delta = net.delta16(swap16(hex(before)), swap16(hex(after)));
      assert.equal(swap16(net.updated(swap16(hex(checksum)), delta)), hex(result), note);
    }
  });

  test(`${variant}: sums agree with the slow twin at every length up to 2048 and every alignment`, () => {
    withSeed((random) => {
      for (const fill of [random.bytes(2064), new Uint8Array(2064).fill(0xff)]) {
        for (let length = 0; length <= 2048; length++) {
          const at = net.put(fill, PACKET_AT + (length & 15));
          const initial = random.below(0x10000);
          const expected = wordSum(fill.subarray(0, length), swap16(initial));
          assert.equal(swap16(net.sum(at, length, initial)), expected, `length ${length}`);
        }
      }
    });
  });

  test(`${variant}: sums and full checksums read nothing behind the packet`, () => {
    withSeed((random) => {
      for (let length = 0; length <= 200; length++) {
        const bytes = random.bytes(length);
        const at = net.put(bytes, MEMORY_BYTES - length);
        assert.equal(swap16(net.sum(at, length, 0)), wordSum(bytes));
      }
      for (let round = 0; round < 200; round++) {
        const expected = randomPacket(random);
        const { version, l4, protocol } = shape(expected);
        const at = net.put(expected, MEMORY_BYTES - expected.length);
        net.finishL4(at, version, at + l4, protocol, expected.length - l4);
        assert.deepEqual(net.take(at, expected.length), expected);
      }
    });
  });

  test(`${variant}: the sum of 64 KiB of ones does not overflow`, () => {
    const ones = new Uint8Array(65535).fill(0xff);
    assert.equal(swap16(net.sum(net.put(ones), ones.length, 0xffff)), wordSum(ones, 0xffff));
  });

  test(`${variant}: full checksums replace whatever the field held`, () => {
    withSeed((random) => {
      for (let round = 0; round < 500; round++) {
        const expected = randomPacket(random);
        const { version, l4, protocol } = shape(expected);
        const spoiled = Uint8Array.from(expected);
        spoiled.set(random.bytes(2), l4 + checksumAt(protocol));
        if (version === 4) spoiled.set(random.bytes(2), 10);

        const at = net.put(spoiled);
        net.finishL4(at, version, at + l4, protocol, spoiled.length - l4);
        if (version === 4) net.ipv4HeaderChecksum(at, l4);
        assert.deepEqual(net.take(at, spoiled.length), expected);
      }
    });
  });

  test(`${variant}: a computed UDP checksum of 0 is written as 0xffff`, () => {
    for (const [source, destination] of [
      [ipv4("10.0.0.1"), ipv4("10.0.0.2")],
      [ipv6(0xfd00, 1), ipv6(0xfd00, 2)],
    ] as const) {
      const parts = { source, destination, protocol: UDP, sourcePort: 7, destinationPort: 9 };
      const { l4 } = shape(packet({ ...parts, payload: new Uint8Array(2) }));
      const plain = packet({ ...parts, payload: new Uint8Array(2) });
      // A payload equal to the checksum makes the sum 0xffff.
      const spoiling = packet({ ...parts, payload: plain.slice(l4 + 6, l4 + 8) });
      const at = net.put(spoiling);
      net.finishL4(at, source.length === 4 ? 4 : 6, at + l4, UDP, spoiling.length - l4);
      assert.deepEqual([...net.take(at + l4 + 6, 2)], [0xff, 0xff]);
    }
  });

  test(`${variant}: protocols without a known checksum are left alone`, () => {
    const opaque = packet({ source: ipv4("1.2.3.4"), destination: ipv4("5.6.7.8"), protocol: 47 });
    const at = net.put(opaque);
    net.finishL4(at, 4, at + 20, 47, 0);
    assert.deepEqual(net.take(at, opaque.length), opaque);
  });

  test(`${variant}: an absent UDP checksum stays absent, and none becomes absent`, () => {
    net.view.setUint16(PACKET_AT, 0);
    net.updateField(PACKET_AT, 0x1234, 1);
    assert.equal(net.view.getUint16(PACKET_AT), 0);

    for (let checksum = 1; checksum <= 0xffff; checksum += 13) {
      net.view.setUint16(PACKET_AT, checksum, true);
      // The delta that leads to 0, in both representations.
      net.updateField(PACKET_AT, checksum, 1);
      assert.equal(net.view.getUint16(PACKET_AT), 0xffff);
    }
  });

  test(`${variant}: byte-wise deltas equal the deltas of their words`, () => {
    withSeed((random) => {
      for (let round = 0; round < 200; round++) {
        const [before, after] = [random.bytes(16), random.bytes(16)];
        const at = net.put(before);
        net.put(after, at + 16);
        const delta = swap16(net.deltaBytes(at, at + 16, 16));
        const inverse = before.map((byte) => ~byte & 0xff);
        assert.equal(delta % 0xffff, wordSum(after, wordSum(inverse)) % 0xffff);
      }
    });
  });
}

function shape(bytes: Uint8Array): { version: number; l4: number; protocol: number } {
  const version = bytes[0]! >> 4;
  const protocol = version === 4 ? bytes[9]! : bytes[6]!;
  assert.ok([ICMP, TCP, UDP, ICMPV6].includes(protocol));
  return { version, protocol, l4: version === 4 ? (bytes[0]! & 15) * 4 : 40 };
}
