import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip } from "../../../host/core/address.ts";
import { parseIcmpError } from "../../../host/core/packet/icmp-error.ts";
import { type IpPacket, parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { ACK, checksumsHold, echo, FIN, icmpError, RST, SYN, tcp, udp } from "../packet/packets.ts";
import { GatewayBench } from "./bench.ts";
import { ALICE, cidrResource, dnsResource, PROXIES_V4, PROXY, resourceId, rule } from "./fixtures.ts";

const NAME = "db.example.com";
const REAL = ip("10.0.0.7");
const OTHER_PROXY = PROXIES_V4[1]!;
const TO_PROXY = { from: ALICE.ipv4, to: PROXY };
const FROM_REAL = { from: REAL, to: ALICE.ipv4 };

test("two proxies of one address get different ports, and replies find their way (tunnel-core 24.58)", () => {
  const bench = readyWith(REAL);
  const first = send(bench, udp(TO_PROXY, 4000, 53));
  const second = send(bench, udp({ from: ALICE.ipv4, to: OTHER_PROXY }, 4000, 53));

  assert.deepEqual([first.sourcePort, second.sourcePort], [4000, 4001]);
  assert.deepEqual([first.destination, second.destination], [REAL, REAL]);
  for (const [port, proxy] of [
    [4000, PROXY],
    [4001, OTHER_PROXY],
  ] as const) {
    const reply = receive(bench, udp(FROM_REAL, 53, port));
    assert.equal(reply?.source, proxy);
    assert.equal(reply?.destinationPort, 4000);
  }
});

test("a confirmed UDP entry ends after 120 s, and late replies are no CIDR traffic (tunnel-core 24.59)", () => {
  for (const [idleMs, passes] of [
    [119_000, true],
    [120_000, false],
  ] as const) {
    const bench = readyWith(REAL);
    bench.grant(ALICE, cidrResource(2, "10.0.0.0/8"));
    send(bench, udp(TO_PROXY, 4000, 53));
    assert.equal(receive(bench, udp(FROM_REAL, 53, 4000))?.source, PROXY);

    bench.advance(idleMs);
    const late = bench.fromSite(udp(FROM_REAL, 53, 4000));
    assert.equal(late.to(ALICE).length, passes ? 1 : 0, `${idleMs} ms`);
    assert.deepEqual(late.drops, passes ? [] : ["nat-expired"]);
  }
});

test("TCP entries end 60 s unconfirmed and 7440 s confirmed (tunnel-core 24.60)", () => {
  for (const [isConfirmed, aliveMs, gapMs] of [
    [false, 59_000, 1000],
    [true, 7_439_000, 1000],
  ] as const) {
    const bench = readyWith(REAL);
    send(bench, tcp(TO_PROXY, 4000, 443));
    if (isConfirmed) receive(bench, tcp(FROM_REAL, 443, 4000, { flags: SYN | ACK }));

    bench.advance(aliveMs);
    assert.equal(bench.core.natCount(), 1);
    bench.advance(gapMs);
    assert.equal(bench.core.natCount(), 0);
    assert.notEqual(bench.nextTimeout()?.reason, "NAT sweep", "an empty table needs no timer");
  }
});

test("FIN in both directions ends an entry after 5 s, RST with the next tick (tunnel-core 24.61)", () => {
  const finished = readyWith(REAL);
  send(finished, tcp(TO_PROXY, 4000, 443, { flags: FIN | ACK }));
  receive(finished, tcp(FROM_REAL, 443, 4000, { flags: FIN | ACK }));
  finished.advance(4000);
  assert.equal(finished.core.natCount(), 1);
  finished.advance(1000);
  assert.equal(finished.core.natCount(), 0);

  for (const direction of ["outgoing", "incoming"]) {
    const bench = readyWith(REAL);
    send(bench, tcp(TO_PROXY, 4000, 443));
    if (direction === "outgoing") send(bench, tcp(TO_PROXY, 4000, 443, { flags: RST }));
    else assert.ok(receive(bench, tcp(FROM_REAL, 443, 4000, { flags: RST })), "the RST itself passes");
    assert.equal(bench.core.natCount(), 1);
    bench.advance(1000);
    assert.equal(bench.core.natCount(), 0, direction);
  }
});

test("an ICMP error from the site reaches the client in its own terms, whatever the filters (tunnel-core 24.62)", () => {
  const bench = readyWith(REAL, [rule("udp", 53)]);
  send(bench, udp(TO_PROXY, 4000, 53));
  const outside = send(bench, udp({ from: ALICE.ipv4, to: OTHER_PROXY }, 4000, 53));
  assert.equal(outside.sourcePort, 4001);

  const failed = udp({ from: ALICE.ipv4, to: REAL }, 4001, 53);
  const error = icmpError({ from: ip("10.0.0.254"), to: ALICE.ipv4 }, { type: 11, code: 0 }, failed);
  const [received] = bench.fromSite(error).to(ALICE);

  assert.ok(received && checksumsHold(received));
  assert.equal(parseIpPacket(received)?.source, OTHER_PROXY);
  const parsed = parseIcmpError(received);
  assert.ok(typeof parsed === "object");
  assert.deepEqual([parsed.type, parsed.code], [11, 0]);
  const { source, destination, sourcePort, destinationPort } = parsed.failed;
  assert.deepEqual(
    { source, destination, sourcePort, destinationPort },
    { source: ALICE.ipv4, destination: OTHER_PROXY, sourcePort: 4000, destinationPort: 53 },
  );
});

test("an ICMP error about an expired entry is dropped, about other traffic it passes as it is", () => {
  const bench = readyWith(REAL);
  send(bench, udp(TO_PROXY, 4000, 53));
  bench.advance(120_000);
  const router = { from: ip("10.0.0.254"), to: ALICE.ipv4 };

  const about = (port: number) =>
    icmpError(router, { type: 3, code: 1 }, udp({ from: ALICE.ipv4, to: REAL }, port, 53));
  assert.deepEqual(bench.fromSite(about(4000)).drops, ["nat-expired"]);
  assert.deepEqual(bench.fromSite(about(9)).to(ALICE), [about(9)]);

  const spoofed = icmpError(
    { ...router, from: ip("100.64.0.9") },
    { type: 3, code: 1 },
    udp(TO_PROXY, 9, 53),
  );
  assert.deepEqual(bench.fromSite(spoofed).drops, ["not-allowed"]);
});

test("an echo identifier that is taken moves to the next one and comes back (tunnel-core 24.63)", () => {
  const bench = readyWith(REAL);
  assert.equal(send(bench, echo(TO_PROXY, 7)).sourcePort, 7);
  assert.equal(send(bench, echo({ from: ALICE.ipv4, to: OTHER_PROXY }, 7)).sourcePort, 8);

  const reply = receive(bench, echo(FROM_REAL, 8, "reply"));
  assert.equal(reply?.sourcePort, 7);
  assert.equal(reply?.source, OTHER_PROXY);
});

test("replies keep a UDP entry alive", () => {
  const bench = readyWith(REAL);
  send(bench, udp(TO_PROXY, 4000, 53));
  for (let i = 0; i < 5; i++) {
    assert.ok(receive(bench, udp(FROM_REAL, 53, 4000)));
    bench.advance(100_000);
  }
  assert.equal(bench.core.natCount(), 1);
});

test("filters also judge replies, by the port they come from", () => {
  const bench = readyWith(REAL, [rule("udp", 53)]);
  send(bench, udp(TO_PROXY, 4000, 53));

  assert.deepEqual(bench.fromSite(udp(FROM_REAL, 54, 4000)).drops, ["not-allowed"]);
  assert.ok(receive(bench, udp(FROM_REAL, 53, 4000)));

  bench.grant(ALICE, cidrResource(2, "192.0.2.0/24"));
  bench.portal({ kind: "reject-access", client: ALICE.id, resource: resourceId(1) });
  assert.deepEqual(bench.fromSite(udp(FROM_REAL, 53, 4000)).drops, ["not-allowed"], "revoked");
});

function readyWith(real: IpAddress, filters: Parameters<typeof dnsResource>[2] = []): GatewayBench {
  const bench = GatewayBench.ready();
  const resource = dnsResource(1, NAME, filters);
  bench.grant(ALICE, resource);
  bench.setUp(ALICE, resource, NAME, PROXIES_V4, [real]);
  return bench;
}

function send(bench: GatewayBench, packet: Uint8Array): IpPacket {
  const [sent] = bench.fromClient(ALICE, packet).tun;
  assert.ok(sent, "did not reach the site");
  assert.ok(checksumsHold(sent));
  const parsed = parseIpPacket(sent);
  assert.ok(parsed);
  return parsed;
}

function receive(bench: GatewayBench, packet: Uint8Array): IpPacket | undefined {
  const [received] = bench.fromSite(packet).to(ALICE);
  assert.ok(received === undefined || checksumsHold(received));
  return received && parseIpPacket(received);
}
