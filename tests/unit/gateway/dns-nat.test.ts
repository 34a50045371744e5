import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { MAX_RESOLUTIONS, MAX_WAITING_ANNOUNCEMENTS } from "../../../host/core/gateway/resolutions.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { ACK, checksumsHold, echo, ip as rawIp, tcp, UDP, u16, udp } from "../packet/packets.ts";
import { GatewayBench, icmpOf, PROHIBITED_V4, UNREACHABLE_V4, UNREACHABLE_V6 } from "./bench.ts";
import {
  ALICE,
  BOB,
  cidrResource,
  dnsResource,
  PROXIES,
  PROXIES_V4,
  PROXIES_V6,
  PROXY,
  resourceId,
  rule,
} from "./fixtures.ts";

const NAME = "db.example.com";
const RESOURCE = dnsResource(1, "*.example.com");
const FIRST = ip("10.0.0.1");
const SECOND = ip("10.0.0.2");
const TO_PROXY = { from: ALICE.ipv4, to: PROXY };

test("a name outside the resource's pattern is inactive and gets no translation (tunnel-core 24.44)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, dnsResource(1, "*.foo.com"));

  const id = bench.announce(ALICE, resourceId(1), "a.bar.com", PROXIES).resolve();
  const answer = bench.resolved(id, [FIRST]);

  assert.deepEqual(answer.statuses(ALICE), [{ domain: "a.bar.com", resource: resourceId(1), active: false }]);
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
});

test("an unauthorized resource is inactive at once, without a resolution (tunnel-core 24.45)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);

  const answer = bench.announce(ALICE, resourceId(99), NAME, PROXIES);

  assert.deepEqual(answer.statuses(ALICE), [{ domain: NAME, resource: resourceId(99), active: false }]);
  assert.equal(answer.resolve(), -1);
});

test("spreads proxies over the real addresses and answers for the missing family (tunnel-core 24.46)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, [...PROXIES].reverse(), [SECOND, FIRST, SECOND]);

  const targets = PROXIES_V4.map((proxy) => {
    const [packet] = bench.fromClient(ALICE, udp({ from: ALICE.ipv4, to: proxy }, 1, 53)).tun;
    return packet && parseIpPacket(packet)?.destination;
  });
  assert.deepEqual(targets, [FIRST, SECOND, FIRST, SECOND]);

  for (const proxy of PROXIES_V6) {
    const outcome = bench.fromClient(ALICE, udp({ from: ALICE.ipv6, to: proxy }, 1, 53));
    assert.deepEqual(outcome.to(ALICE).map(icmpOf), [UNREACHABLE_V6]);
    assert.deepEqual(outcome.tun, []);
  }
});

test("both families map at once, each to its own addresses", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES, [FIRST, ip("2001:db8::1")]);

  const [v6] = bench.fromClient(ALICE, tcp({ from: ALICE.ipv6, to: PROXIES_V6[2]! }, 1, 53)).tun;
  assert.ok(v6);
  assert.equal(parseIpPacket(v6)?.destination, "2001:db8::1");
  assert.ok(checksumsHold(v6));
});

test("open flows keep their address when the records change, new ones go to the new one (tunnel-core 24.47)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);
  const target = (sourcePort: number) => {
    const [packet] = bench.fromClient(ALICE, udp(TO_PROXY, sourcePort, 53)).tun;
    assert.ok(packet && checksumsHold(packet));
    return parseIpPacket(packet)?.destination;
  };
  assert.equal(target(1), FIRST);

  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [SECOND]);

  assert.equal(target(1), FIRST, "the open flow");
  assert.equal(target(2), SECOND, "a new source port, at once");
  assert.equal(target(1), FIRST, "still");
  const replies = bench.fromSite(udp({ from: FIRST, to: ALICE.ipv4 }, 53, 1)).to(ALICE);
  assert.deepEqual(
    replies.map((packet) => parseIpPacket(packet)?.source),
    [PROXY],
    "its replies pass",
  );

  bench.advance(120_000);
  assert.equal(target(1), SECOND, "once its entry has ended");
});

test("an open flow to a family that lost its records is unreachable", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES, [FIRST, ip("2001:db8::1")]);
  assert.equal(bench.fromClient(ALICE, tcp(TO_PROXY, 1, 443)).tun.length, 1);

  bench.setUp(ALICE, RESOURCE, NAME, PROXIES, [ip("2001:db8::1")]);

  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_PROXY, 1, 443))
      .to(ALICE)
      .map(icmpOf),
    [UNREACHABLE_V4],
  );
});

test("proxies announced for another name start the client over (tunnel-core 24.48)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, dnsResource(1, "foo.com"));
  bench.grant(ALICE, dnsResource(2, "baz.com"));
  bench.grant(ALICE, dnsResource(3, "other.com"));
  bench.grant(BOB, dnsResource(1, "foo.com"));
  const others = PROXIES_V4.map((_, i) => ip(`100.96.1.${i + 1}`));
  bench.setUp(ALICE, dnsResource(1, "foo.com"), "foo.com", PROXIES_V4, [FIRST]);
  bench.setUp(ALICE, dnsResource(3, "other.com"), "other.com", others, [FIRST]);
  bench.setUp(BOB, dnsResource(1, "foo.com"), "foo.com", PROXIES_V4, [FIRST]);
  assert.equal(bench.fromClient(ALICE, udp(TO_PROXY, 1, 53)).tun.length, 1);
  assert.equal(bench.fromClient(BOB, udp({ from: BOB.ipv4, to: PROXY }, 1, 53)).tun.length, 1);

  bench.setUp(ALICE, dnsResource(2, "baz.com"), "baz.com", PROXIES_V4, [SECOND]);

  assert.equal(bench.core.natCount(), 1, "only the other client's entry is left");
  const [packet] = bench.fromClient(ALICE, udp(TO_PROXY, 1, 53)).tun;
  assert.equal(packet && parseIpPacket(packet)?.destination, SECOND);
  const toOther = bench.fromClient(ALICE, udp({ from: ALICE.ipv4, to: others[0]! }, 1, 53));
  assert.deepEqual(toOther.to(ALICE).map(icmpOf), [PROHIBITED_V4], "other names must be announced again");
});

test("two resources with one name and proxies each admit by their own filters (tunnel-core 24.49)", () => {
  const bench = GatewayBench.ready();
  const udp80 = dnsResource(1, "example.com", [rule("udp", 80)]);
  const tcp443 = dnsResource(2, "*.com", [rule("tcp", 443)]);
  bench.grant(ALICE, udp80);
  bench.grant(ALICE, tcp443);
  bench.setUp(ALICE, udp80, "example.com", PROXIES_V4, [FIRST]);
  bench.setUp(ALICE, tcp443, "example.com", PROXIES_V4, [FIRST]);

  assert.equal(bench.fromClient(ALICE, udp(TO_PROXY, 1, 80)).tun.length, 1);
  assert.equal(bench.fromClient(ALICE, tcp(TO_PROXY, 1, 443)).tun.length, 1);
  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_PROXY, 1, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );

  bench.portal({ kind: "reject-access", client: ALICE.id, resource: udp80.id });
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  assert.equal(bench.fromClient(ALICE, tcp(TO_PROXY, 1, 443)).tun.length, 1);
});

test("translations come back with a revoked resource, as far as its pattern still matches", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(9, "192.0.2.0/24"));
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);
  bench.portal({ kind: "reject-access", client: ALICE.id, resource: RESOURCE.id });
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );

  bench.grant(ALICE, RESOURCE);
  assert.equal(bench.fromClient(ALICE, udp(TO_PROXY, 1, 53)).tun.length, 1);

  bench.portal({ kind: "reject-access", client: ALICE.id, resource: RESOURCE.id });
  bench.grant(ALICE, dnsResource(1, "*.example.net"));
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
});

test("a resolution that takes 10 s is inactive, and a late result changes nothing (tunnel-core 24.56)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  const id = bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve();

  assert.deepEqual(bench.advance(9999).statuses(ALICE), []);
  assert.deepEqual(bench.advance(1).statuses(ALICE), [
    { domain: NAME, resource: RESOURCE.id, active: false },
  ]);

  assert.deepEqual(bench.resolved(id, [FIRST]).statuses(ALICE), []);
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
});

test("timeout and failure of the host's resolver are inactive and leave the old translation", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);

  for (const kind of ["timeout", "failed"] as const) {
    const id = bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve();
    const answer = bench.command({ kind: "resolved", id, result: { kind } });
    assert.deepEqual(
      answer.statuses(ALICE).map(({ active }) => active),
      [false],
    );
  }
  assert.equal(bench.fromClient(ALICE, udp(TO_PROXY, 1, 53)).tun.length, 1);
});

test("a name without addresses is active, and its proxies are unreachable", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  const answer = bench.setUp(ALICE, RESOURCE, NAME, PROXIES, []);

  assert.deepEqual(
    answer.statuses(ALICE).map(({ active }) => active),
    [true],
  );
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [UNREACHABLE_V4],
  );
});

test("resolves a name once for announcements in a burst, and answers each", () => {
  const bench = GatewayBench.ready();
  const other = dnsResource(2, NAME);
  bench.grant(ALICE, RESOURCE);
  bench.grant(ALICE, other);
  bench.grant(BOB, RESOURCE);

  const id = bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve();
  assert.equal(bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve(), -1);
  assert.equal(bench.announce(ALICE, other.id, "DB.example.com.", PROXIES_V4).resolve(), -1);
  assert.notEqual(bench.announce(BOB, RESOURCE.id, NAME, PROXIES_V4).resolve(), -1, "another client's own");

  const answer = bench.resolved(id, [FIRST]);
  assert.deepEqual(
    answer.statuses(ALICE).map(({ resource, active }) => [resource, active]),
    [
      [RESOURCE.id, true],
      [RESOURCE.id, true],
      [other.id, true],
    ],
  );
  assert.deepEqual(answer.statuses(BOB), []);
});

test("bounds the resolutions in flight and the announcements that wait for one", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  const id = bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve();
  for (let i = 0; i < MAX_WAITING_ANNOUNCEMENTS + 5; i++)
    bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4);
  assert.equal(bench.resolved(id, [FIRST]).statuses(ALICE).length, MAX_WAITING_ANNOUNCEMENTS);

  const started = Array.from({ length: MAX_RESOLUTIONS + 5 }, (_, i) =>
    bench.announce(ALICE, RESOURCE.id, `n${i}.example.com`, []).resolve(),
  ).filter((resolution) => resolution !== -1);
  assert.equal(started.length, MAX_RESOLUTIONS);
});

test("a client that left is not answered", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  const id = bench.announce(ALICE, RESOURCE.id, NAME, PROXIES_V4).resolve();
  bench.portal({ kind: "reject-access", client: ALICE.id, resource: RESOURCE.id });
  assert.equal(bench.nextTimeout(), undefined, "nobody waits any longer");
  bench.grant(ALICE, RESOURCE);

  assert.deepEqual(bench.resolved(id, [FIRST]).statuses(ALICE), []);
  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_PROXY, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
});

test("an absent UDP checksum stays absent across the NAT (tunnel-core 24.3)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);

  const bare = rawIp(TO_PROXY, UDP, [...u16(1), ...u16(53), ...u16(10), 0, 0, 1, 2]);
  const [packet] = bench.fromClient(ALICE, bare).tun;
  assert.ok(packet);
  assert.deepEqual([...packet.subarray(26, 28)], [0, 0]);
  assert.equal(parseIpPacket(packet)?.destination, FIRST);
  assert.ok(checksumsHold(packet));
});

test("a packet without identity cannot cross the NAT and is dropped in silence", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);

  const outcome = bench.fromClient(ALICE, rawIp(TO_PROXY, 47, [1, 2, 3, 4]));
  assert.deepEqual(outcome.drops, ["unsupported-protocol"]);
  assert.deepEqual(outcome.to(ALICE), []);
});

test("a reply that the NAT knows beats a CIDR flow with the same addresses and ports", () => {
  const toReal = { from: ALICE.ipv4, to: FIRST };
  const fromReal = { from: FIRST, to: ALICE.ipv4 };
  for (const [direct, translated, reply] of [
    [udp(toReal, 7, 53), udp(TO_PROXY, 7, 53), udp(fromReal, 53, 7)],
    [echo(toReal, 7), echo(TO_PROXY, 7), echo(fromReal, 7, "reply")],
  ] as const) {
    const bench = GatewayBench.ready();
    bench.grant(ALICE, RESOURCE);
    bench.grant(ALICE, cidrResource(2, "10.0.0.0/8"));
    bench.setUp(ALICE, RESOURCE, NAME, PROXIES_V4, [FIRST]);
    bench.fromClient(ALICE, direct);
    assert.deepEqual(bench.fromSite(reply).to(ALICE), [reply]);

    bench.fromClient(ALICE, translated);

    const [received] = bench.fromSite(reply).to(ALICE);
    assert.equal(received && parseIpPacket(received)?.source, PROXY);
  }
});

test("TCP, UDP and echo cross the NAT and come back with right checksums", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, RESOURCE);
  bench.setUp(ALICE, RESOURCE, NAME, PROXIES, [FIRST, ip("2001:db8::1")]);
  for (const [from, proxy, real] of [
    [ALICE.ipv4, PROXY, FIRST],
    [ALICE.ipv6, PROXIES_V6[0]!, ip("2001:db8::1")],
  ] as const) {
    for (const [out, back] of [
      [tcp({ from, to: proxy }, 7, 443), tcp({ from: real, to: from }, 443, 7, { flags: ACK })],
      [udp({ from, to: proxy }, 7, 443), udp({ from: real, to: from }, 443, 7)],
      [echo({ from, to: proxy }, 7), echo({ from: real, to: from }, 7, "reply")],
    ] as const) {
      for (const round of ["first", "second"]) {
        const [request] = bench.fromClient(ALICE, out).tun;
        const [response] = bench.fromSite(back).to(ALICE);
        assert.ok(request && response, round);
        assert.ok(checksumsHold(request) && checksumsHold(response), round);
        assert.equal(parseIpPacket(request)?.destination, real);
        assert.equal(parseIpPacket(response)?.source, proxy);
      }
    }
  }
});
