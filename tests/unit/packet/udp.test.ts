import assert from "node:assert/strict";
import { test } from "node:test";
import { ip as address } from "../../../host/core/address.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { udpPacket } from "../../../host/core/packet/udp.ts";
import { checksumsHold } from "./packets.ts";

const V4 = {
  source: { ip: address("100.100.111.1"), port: 53 },
  destination: { ip: address("100.64.0.1"), port: 4000 },
};
const V6 = {
  source: { ip: address("fd00:2021:1111:8000:100:100:111:0"), port: 53 },
  destination: { ip: address("fd00:2021:1111::1"), port: 4000 },
};

test("builds packets with right checksums and hop limit 64 for every payload length", () => {
  for (const ends of [V4, V6]) {
    for (let length = 0; length < 64; length++) {
      const payload = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 0xff);
      const bytes = udpPacket({ ...ends, payload });
      assert.ok(bytes);
      assert.ok(checksumsHold(bytes), `${length} bytes`);
      const packet = parseIpPacket(bytes);
      assert.ok(packet);
      assert.equal(packet.sourcePort, 53);
      assert.equal(packet.destinationPort, 4000);
      assert.equal(bytes[packet.version === 4 ? 8 : 7], 64);
      assert.deepEqual(bytes.subarray(packet.payloadOffset), payload);
    }
  }
});

test("sends a computed checksum of zero as all ones", () => {
  const bytes = udpPacket({ ...V4, payload: new Uint8Array(2) });
  assert.ok(bytes);
  const missing = bytes[26]! * 256 + bytes[27]!;

  const zero = udpPacket({ ...V4, payload: Uint8Array.of(missing >> 8, missing & 0xff) });
  assert.deepEqual(zero?.subarray(26, 28), Uint8Array.of(0xff, 0xff));
});

test("refuses what does not fit and what mixes families", () => {
  assert.equal(udpPacket({ ...V4, payload: new Uint8Array(1252) })?.length, 1280);
  assert.equal(udpPacket({ ...V4, payload: new Uint8Array(1253) }), undefined);
  assert.equal(udpPacket({ ...V6, payload: new Uint8Array(1233) }), undefined);
  assert.equal(
    udpPacket({ source: V4.source, destination: V6.destination, payload: new Uint8Array(1) }),
    undefined,
  );
});
