import assert from "node:assert/strict";
import { test } from "node:test";
import { ip as address } from "../../../host/core/address.ts";
import { PacketBuffer } from "../../../host/core/packet/packet-buffer.ts";
import { ACK, SYN, tcp, udp } from "./packets.ts";

const ENDS = { from: address("100.64.0.1"), to: address("100.96.0.1") };

test("keeps the newest packets in order when it overflows", () => {
  const buffer = new PacketBuffer(3);
  const packets = [1, 2, 3, 4, 5].map((port) => udp(ENDS, port, 53));

  const results = packets.map((packet) => buffer.push(packet));

  assert.deepEqual(results, ["added", "added", "added", "overflowed", "overflowed"]);
  assert.deepEqual(buffer.drain(), packets.slice(2));
  assert.equal(buffer.size, 0);
});

test("ignores a packet that it holds already", () => {
  const buffer = new PacketBuffer(3);
  assert.equal(buffer.push(udp(ENDS, 1, 53)), "added");
  assert.equal(buffer.push(udp(ENDS, 1, 53)), "duplicate");
  assert.equal(buffer.size, 1);
});

test("a retransmitted SYN replaces the held one in place", () => {
  const buffer = new PacketBuffer(3);
  const newer = tcp(ENDS, 1, 443, { timestamp: 200 });
  const other = udp(ENDS, 9, 53);
  buffer.push(tcp(ENDS, 1, 443, { timestamp: 100 }));
  buffer.push(other);

  assert.equal(buffer.push(newer), "replaced");
  assert.deepEqual(buffer.drain(), [newer, other]);
});

test("SYNs with another sequence number or port, and SYN-ACKs, are packets of their own", () => {
  const buffer = new PacketBuffer(9);
  const packets = [
    tcp(ENDS, 1, 443),
    tcp(ENDS, 1, 443, { sequence: 2 }),
    tcp(ENDS, 2, 443),
    tcp(ENDS, 1, 443, { flags: SYN | ACK }),
    tcp(ENDS, 1, 443, { flags: SYN | ACK, timestamp: 2 }),
  ];
  assert.deepEqual(
    packets.map((packet) => buffer.push(packet)),
    Array(5).fill("added"),
  );
});

test("keeps copies, and appends without looking for duplicates", () => {
  const buffer = new PacketBuffer(3);
  const packet = udp(ENDS, 1, 53);
  const expected = packet.slice();
  buffer.push(packet);
  packet.fill(0);

  buffer.append([expected.slice(), expected.slice(), expected.slice()]);

  assert.deepEqual(buffer.drain(), [expected, expected, expected]);
});
