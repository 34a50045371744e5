import assert from "node:assert/strict";
import { test } from "node:test";
import { ip as address } from "../../../host/core/address.ts";
import {
  destinationIdentity,
  flowKeyOf,
  parseIpPacket,
  sourceIdentity,
} from "../../../host/core/packet/ip-packet.ts";
import { echo, icmp, ip, SYN, TCP, tcp, UDP, u16, udp } from "./packets.ts";

const V4 = { from: address("100.64.0.1"), to: address("10.0.0.7") };
const V6 = { from: address("fd00:2021:1111::1"), to: address("2001:db8::7") };

test("reads addresses, ports and offsets of UDP and TCP in both families", () => {
  for (const ends of [V4, V6]) {
    const header = ends === V4 ? 20 : 40;
    const datagram = parseIpPacket(udp(ends, 4000, 53));
    assert.deepEqual(
      { ...datagram, bytes: undefined },
      {
        bytes: undefined,
        version: ends === V4 ? 4 : 6,
        source: ends.from,
        destination: ends.to,
        protocol: UDP,
        kind: "udp",
        sourcePort: 4000,
        destinationPort: 53,
        tcpFlags: 0,
        transportOffset: header,
        payloadOffset: header + 8,
        length: header + 12,
      },
    );
    const segment = parseIpPacket(tcp(ends, 4000, 443));
    assert.equal(segment?.kind, "tcp");
    assert.equal(segment?.tcpFlags, SYN);
    assert.equal(segment?.payloadOffset, header + 32);
  }
});

test("accepts 1280 bytes and refuses 1281 bytes and IPv4 fragments (tunnel-core 24.1)", () => {
  assert.notEqual(parseIpPacket(ip(V4, 99, Array(1260).fill(0))), undefined);
  assert.equal(parseIpPacket(ip(V4, 99, Array(1261).fill(0))), undefined);
  assert.equal(parseIpPacket(withBytes(udp(V4, 1, 2), 6, 0x20, 0)), undefined, "more fragments");
  assert.equal(parseIpPacket(withBytes(udp(V4, 1, 2), 6, 0, 1)), undefined, "offset");
  assert.notEqual(parseIpPacket(withBytes(udp(V4, 1, 2), 6, 0x40, 0)), undefined, "don't fragment");
});

test("refuses ICMPv4 in IPv6 and ICMPv6 in IPv4 (tunnel-core 24.2)", () => {
  assert.equal(parseIpPacket(ip(V6, 1, [8, 0, 0, 0, 0, 1, 0, 1])), undefined);
  assert.equal(parseIpPacket(ip(V4, 58, [128, 0, 0, 0, 0, 1, 0, 1])), undefined);
});

test("refuses packets whose length fields disagree with the byte count", () => {
  const longer = (bytes: Uint8Array) => Uint8Array.from([...bytes, 0]);
  assert.equal(parseIpPacket(longer(udp(V4, 1, 2))), undefined);
  assert.equal(parseIpPacket(longer(udp(V6, 1, 2))), undefined);
  assert.equal(parseIpPacket(withBytes(udp(V4, 1, 2), 24, 0, 11)), undefined, "UDP length");
});

test("refuses incomplete headers", () => {
  assert.equal(parseIpPacket(new Uint8Array(0)), undefined);
  assert.equal(parseIpPacket(withBytes(udp(V4, 1, 2), 0, 0x44)), undefined, "header length below 5");
  assert.equal(parseIpPacket(withBytes(udp(V4, 1, 2), 0, 0x55)), undefined, "version 5");
  assert.equal(parseIpPacket(ip(V4, TCP, Array(19).fill(0x50))), undefined, "TCP cut");
  assert.equal(parseIpPacket(withBytes(tcp(V4, 1, 2), 32, 0x40)), undefined, "TCP data offset below 5");
  assert.equal(
    parseIpPacket(withBytes(tcp(V4, 1, 2), 32, 0x90)),
    undefined,
    "TCP data offset beyond the end",
  );
  assert.equal(parseIpPacket(ip(V4, 1, [8, 0, 0, 0, 0, 1, 0])), undefined, "ICMP cut");
});

test("walks IPv6 extension headers and accepts only atomic fragments", () => {
  const datagram = [...u16(1), ...u16(2), ...u16(8), 0, 0];
  const hopByHop = [44, 1, ...Array(14).fill(0)];
  const fragment = (low: number) => [60, 0, 0, low, 0, 0, 0, 1];
  const options = [UDP, 0, 0, 0, 0, 0, 0, 0];

  const atomic = parseIpPacket(ip(V6, 0, [...hopByHop, ...fragment(0), ...options, ...datagram]));
  assert.equal(atomic?.kind, "udp");
  assert.equal(atomic?.transportOffset, 40 + 16 + 8 + 8);
  assert.equal(parseIpPacket(ip(V6, 0, [...hopByHop, ...fragment(1), ...options, ...datagram])), undefined);
  assert.equal(parseIpPacket(ip(V6, 0, [...hopByHop, ...fragment(8), ...options, ...datagram])), undefined);
  assert.equal(parseIpPacket(ip(V6, 60, [UDP, 9, 0, 0])), undefined, "runs over the end");
});

test("tells echo from other ICMP and from opaque protocols", () => {
  const request = parseIpPacket(echo(V4, 7));
  assert.ok(request);
  assert.deepEqual(sourceIdentity(request), { kind: "echo", port: 7 });
  assert.deepEqual(destinationIdentity(request), { kind: "echo", port: 7 });

  const odd = parseIpPacket(icmp(V6, [128, 1, 0, 0, 0, 7, 0, 1]));
  assert.ok(odd);
  assert.deepEqual(destinationIdentity(odd), { kind: "icmp" }, "echo with a code is no echo");

  const opaque = parseIpPacket(ip(V4, 47, [1, 2, 3]));
  assert.ok(opaque);
  assert.deepEqual(sourceIdentity(opaque), { kind: "other", protocol: 47 });
});

test("keys flows by ports, and echo flows by identifier and zero", () => {
  const segment = parseIpPacket(tcp(V4, 4000, 443));
  const request = parseIpPacket(echo(V4, 7));
  assert.ok(segment && request);

  const ends = { source: V4.from, destination: V4.to };
  assert.deepEqual(flowKeyOf(segment, 3), {
    from: 3,
    ...ends,
    protocol: 6,
    sourcePort: 4000,
    destinationPort: 443,
  });
  assert.deepEqual(flowKeyOf(request, "tun"), {
    from: "tun",
    ...ends,
    protocol: 1,
    sourcePort: 7,
    destinationPort: 0,
  });
});

test("never throws on random bytes", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (let run = 0; run < 20_000; run++) {
    const bytes = udp(run % 2 === 0 ? V4 : V6, 1, 2, "x".repeat(Math.floor(random() * 40)));
    for (let i = 0; i < 3; i++) bytes[Math.floor(random() * 48)] = Math.floor(random() * 256);
    const cut = bytes.subarray(0, Math.floor(random() * (bytes.length + 1)));
    assert.doesNotThrow(() => parseIpPacket(cut), `SEED=${seed}`);
    const packet = parseIpPacket(cut);
    assert.ok(packet === undefined || packet.payloadOffset <= packet.length, `SEED=${seed}`);
  }
});

function withBytes(bytes: Uint8Array, offset: number, ...values: number[]): Uint8Array {
  bytes.set(values, offset);
  return bytes;
}
