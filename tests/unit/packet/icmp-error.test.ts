import assert from "node:assert/strict";
import { test } from "node:test";
import { ip as address } from "../../../host/core/address.ts";
import {
  netUnreachable,
  parseIcmpError,
  prohibited,
  translateIcmpError,
} from "../../../host/core/packet/icmp-error.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { checksumsHold, echo, icmp, icmpError, ip, tcp, UDP, u16, udp } from "./packets.ts";

const CLIENT_V4 = address("100.64.0.1");
const CLIENT_V6 = address("fd00:2021:1111::1");
const REAL_V4 = address("10.0.0.7");
const REAL_V6 = address("2001:db8::7");
const ROUTER_V4 = address("10.0.0.254");
const ROUTER_V6 = address("2001:db8::fe");
const PROXY_V4 = address("100.96.0.1");
const PROXY_V6 = address("fd00:2021:1111:8000::");
const V4 = { from: CLIENT_V4, to: REAL_V4 };
const V6 = { from: CLIENT_V6, to: REAL_V6 };

test("NET-UNREACHABLE about a 1280-byte IPv6 packet fits and parses back to its ports (tunnel-core 24.9)", () => {
  const original = udp(V6, 4000, 5000, "x".repeat(1280 - 48));
  const error = netUnreachable(original);
  assert.ok(error);

  assert.equal(original.length, 1280);
  assert.ok(error.length <= 1280);
  assert.deepEqual([...error.subarray(40, 42)], [1, 3]);
  assert.equal(error[7], 20);
  assert.ok(checksumsHold(error));
  const parsed = parseIcmpError(error);
  assert.ok(typeof parsed === "object");
  assert.equal(parsed.failed.kind, "udp");
  assert.equal(parsed.failed.sourcePort, 4000);
  assert.equal(parsed.failed.destinationPort, 5000);
});

test("PROHIBITED about a UDP packet with a 24-byte header quotes exactly 32 bytes (tunnel-core 24.10)", () => {
  const datagram = [...u16(4000), ...u16(53), ...u16(20), 0, 0, ...Array(12).fill(0x61)];
  const original = ip(V4, UDP, datagram, 6, [1, 1, 1, 0]);
  const error = prohibited(original);
  assert.ok(error);

  assert.deepEqual([...error.subarray(20, 22)], [3, 13]);
  assert.deepEqual(error.subarray(28), original.subarray(0, 32));
  assert.equal(error[8], 20);
  assert.ok(checksumsHold(error));
});

test("originated errors swap the addresses and use the code of each family", () => {
  for (const [build, v4Code, v6Code] of [
    [prohibited, 13, 1],
    [netUnreachable, 0, 3],
  ] as const) {
    const v4 = build(tcp(V4, 1, 2));
    const v6 = build(tcp(V6, 1, 2));
    assert.ok(v4 && v6);
    assert.deepEqual([v4[20], v4[21], v6[40], v6[41]], [3, v4Code, 1, v6Code]);
    assert.equal(parseIpPacket(v4)?.source, REAL_V4);
    assert.equal(parseIpPacket(v6)?.destination, CLIENT_V6);
    assert.deepEqual([...v4.subarray(24, 28)], [0, 0, 0, 0]);
  }
  assert.equal(prohibited(Uint8Array.of(0x45, 0, 0, 1)), undefined);
});

test("recognises each error type and reads the MTU where there is one", () => {
  const cases = [
    { ends: { from: ROUTER_V4, to: CLIENT_V4 }, failed: udp(V4, 1, 2), error: { type: 3, code: 1 }, mtu: 0 },
    {
      ends: { from: ROUTER_V4, to: CLIENT_V4 },
      failed: udp(V4, 1, 2),
      error: { type: 3, code: 4, mtu: 1200 },
      mtu: 1200,
    },
    { ends: { from: ROUTER_V4, to: CLIENT_V4 }, failed: tcp(V4, 1, 2), error: { type: 11, code: 0 }, mtu: 0 },
    { ends: { from: ROUTER_V6, to: CLIENT_V6 }, failed: tcp(V6, 1, 2), error: { type: 1, code: 4 }, mtu: 0 },
    {
      ends: { from: ROUTER_V6, to: CLIENT_V6 },
      failed: udp(V6, 1, 2),
      error: { type: 2, code: 0, mtu: 70_000 },
      mtu: 70_000,
    },
    { ends: { from: ROUTER_V6, to: CLIENT_V6 }, failed: echo(V6, 9), error: { type: 3, code: 0 }, mtu: 0 },
  ];
  for (const { ends, failed, error, mtu } of cases) {
    const parsed = parseIcmpError(icmpError(ends, error, failed));
    assert.ok(typeof parsed === "object", JSON.stringify(error));
    assert.deepEqual({ type: parsed.type, code: parsed.code, mtu: parsed.mtu }, { ...error, mtu });
  }
});

test("needs four transport bytes of a port protocol and all eight of an echo request", () => {
  const ends = { from: ROUTER_V4, to: CLIENT_V4 };
  const unreachable = { type: 3, code: 1 };
  assert.equal(typeof parseIcmpError(icmpError(ends, unreachable, tcp(V4, 1, 2), 24)), "object");
  assert.equal(parseIcmpError(icmpError(ends, unreachable, tcp(V4, 1, 2), 23)), "unusable");
  assert.equal(typeof parseIcmpError(icmpError(ends, unreachable, echo(V4, 1), 28)), "object");
  assert.equal(parseIcmpError(icmpError(ends, unreachable, echo(V4, 1), 27)), "unusable");
  assert.equal(parseIcmpError(icmpError(ends, unreachable, echo(V4, 1, "reply"))), "unusable");
  assert.equal(parseIcmpError(icmpError(ends, unreachable, ip(V4, 47, [1, 2, 3, 4]))), "unusable");
  assert.equal(parseIcmpError(icmpError(ends, unreachable, udp(V6, 1, 2))), "unusable", "wrong family");
});

test("other ICMP is unusable, echo and other protocols are no errors", () => {
  assert.equal(parseIcmpError(icmp(V4, [13, 0, 0, 0, 0, 0, 0, 0])), "unusable");
  assert.equal(parseIcmpError(echo(V4, 1)), "none");
  assert.equal(parseIcmpError(tcp(V4, 1, 2)), "none");
  assert.equal(parseIcmpError(Uint8Array.of(1, 2, 3)), "none");
});

test("translation quotes the packet as the client sent it and keeps type, code and MTU", () => {
  const cases = [
    {
      real: V4,
      proxy: PROXY_V4,
      client: CLIENT_V4,
      router: ROUTER_V4,
      error: { type: 3, code: 4, mtu: 1100 },
    },
    {
      real: V6,
      proxy: PROXY_V6,
      client: CLIENT_V6,
      router: ROUTER_V6,
      error: { type: 2, code: 0, mtu: 1100 },
    },
  ];
  for (const { real, proxy, client, router, error } of cases) {
    for (const failed of [udp(real, 4001, 53), tcp(real, 4001, 53), echo(real, 4001)]) {
      const parsed = parseIcmpError(icmpError({ from: router, to: client }, error, failed));
      assert.ok(typeof parsed === "object");
      const translated = translateIcmpError(parsed, { proxyIp: proxy, insidePort: 4000, client });
      assert.ok(translated);

      assert.ok(checksumsHold(translated));
      const header = parseIpPacket(translated);
      assert.equal(header?.source, proxy);
      assert.equal(header?.destination, client);
      const seen = parseIcmpError(translated);
      assert.ok(typeof seen === "object");
      assert.deepEqual({ type: seen.type, code: seen.code, mtu: seen.mtu }, error);
      assert.equal(seen.failed.source, client);
      assert.equal(seen.failed.destination, proxy);
      assert.equal(seen.failed.sourcePort, 4000);
    }
  }
});

test("translation refuses to change the family", () => {
  const parsed = parseIcmpError(
    icmpError({ from: ROUTER_V4, to: CLIENT_V4 }, { type: 3, code: 1 }, udp(V4, 1, 2)),
  );
  assert.ok(typeof parsed === "object");
  assert.equal(
    translateIcmpError(parsed, { proxyIp: PROXY_V6, insidePort: 1, client: CLIENT_V6 }),
    undefined,
  );
});
