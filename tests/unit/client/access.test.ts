import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { icmpError, tcp, udp } from "../packet/packets.ts";
import {
  CLIENT_V4,
  cidrResource,
  GATEWAY,
  grant,
  internetResource,
  OTHER_GATEWAY,
  OTHER_SITE,
  resourceId,
  rule,
  SITE,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const NETWORK = cidrResource(1, "10.0.0.0/8");
const SERVER = ip("10.0.0.7");
const toServer = { from: CLIENT_V4, to: SERVER };

test("requests go out at 0 and 3 s for packets at 0, 1 and 3 s, and all three are held (tunnel-core 24.29)", () => {
  const rig = new Rig().init([NETWORK]).clear();
  const packets = [1, 2, 3].map((port) => udp(toServer, port, 9));

  assert.equal(rig.tun(packets[0]!), "consumed");
  assert.equal(rig.requests().length, 1);
  rig.advance(1000).tun(packets[1]!);
  assert.equal(rig.requests().length, 1);
  rig.advance(2000).tun(packets[2]!);
  assert.equal(rig.requests().length, 2);

  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), packets);
});

test("two resources of one site are asked for independently (tunnel-core 24.29)", () => {
  const rig = new Rig().init([NETWORK, cidrResource(2, "172.16.0.0/12")]).clear();
  rig.tun(udp(toServer, 1, 9));
  rig.tun(udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9));

  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(1), resourceId(2)],
  );
});

test("of two SYNs that differ in their timestamps only the newer one is sent (tunnel-core 24.30)", () => {
  const rig = new Rig().init([NETWORK]);
  rig.tun(tcp(toServer, 5000, 443, { timestamp: 1 }));
  rig.tun(tcp(toServer, 5000, 443, { timestamp: 2 }));

  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), [tcp(toServer, 5000, 443, { timestamp: 2 })]);
});

test("of 200 packets that wait for a grant the last 128 are sent, in order (tunnel-core 24.31)", () => {
  const rig = new Rig().init([NETWORK]);
  const packets = Array.from({ length: 200 }, (_, i) => udp(toServer, 1000 + i, 9));
  for (const packet of packets) rig.tun(packet);

  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), packets.slice(-128));
});

test("a grant that nothing asked for makes no connection (tunnel-core 24.32)", () => {
  const rig = new Rig().init([NETWORK]);
  rig.portal(grant(1)).portal(grant(99));
  assert.deepEqual(
    rig.connectivity.calls.filter((call) => call.startsWith("upsert")),
    [],
  );
});

test("a refusal as offline marks all sites for 300 s and drops what waited (tunnel-core 24.33)", () => {
  const rig = new Rig().init([cidrResource(1, "10.0.0.0/8", { sites: [SITE, OTHER_SITE] })]);
  rig.tun(udp(toServer, 1, 9));
  rig.portal({
    kind: "authorization-failed",
    resource: resourceId(1),
    reason: "offline",
    violatedProperties: [],
  });

  assert.equal(rig.views()[0]?.status, "offline");
  assert.equal(rig.client.pollTimeout()?.at, rig.now + 300_000);
  rig.portal(grant(1));
  assert.equal(rig.connectivity.peerOf(GATEWAY.id), undefined);

  rig.advance(299_999);
  assert.equal(rig.views()[0]?.status, "offline");
  rig.advance(1);
  assert.equal(rig.views()[0]?.status, "unknown");
  assert.equal(rig.client.pollTimeout(), undefined);
});

test("a refusal as offline takes the connected gateway away too (tunnel-core 7.4)", () => {
  const rig = connected();
  rig.portal({
    kind: "authorization-failed",
    resource: resourceId(1),
    reason: "offline",
    violatedProperties: [],
  });

  assert.ok(rig.connectivity.calls.includes(`remove ${GATEWAY.id}`));
  rig.clear().tun(udp(toServer, 1, 9));
  assert.equal(rig.requests().length, 1);
});

test("other refusals keep what waited, and traffic asks again after 2 s (tunnel-core 7.4)", () => {
  const rig = new Rig().init([NETWORK]);
  const packet = udp(toServer, 1, 9);
  rig.tun(packet);
  rig.portal({
    kind: "authorization-failed",
    resource: resourceId(1),
    reason: "forbidden",
    violatedProperties: ["remote_ip_location_region"],
  });
  rig.clear().advance(1999).tun(packet);
  assert.equal(rig.requests().length, 0);
  rig.advance(1).tun(packet);
  assert.equal(rig.requests().length, 1);

  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
});

test("packets from elsewhere, to ourselves, or to a group are dropped without a request (tunnel-core 24.39)", () => {
  const rig = new Rig()
    .init([NETWORK, internetResource(2)])
    .command({ kind: "internet-resource", active: true });
  rig.clear();
  const cases = [
    { packet: udp({ from: ip("192.168.1.2"), to: SERVER }, 1, 9), drop: "not-tunnel-source" },
    {
      packet: udp({ from: ip("fd00:2021:1111::9"), to: ip("2001:db8::1") }, 1, 9),
      drop: "not-tunnel-source",
    },
    { packet: udp({ from: CLIENT_V4, to: CLIENT_V4 }, 1, 9), drop: "packet-to-self" },
    { packet: udp({ from: CLIENT_V4, to: ip("224.0.0.251") }, 1, 9), drop: "multicast" },
    { packet: udp({ from: ip("fe80::1"), to: ip("ff02::2") }, 1, 9), drop: "multicast" },
  ];
  for (const { packet, drop } of cases) {
    assert.deepEqual(rig.tun(packet), { drop });
    assert.deepEqual(rig.requests(), []);
  }
});

test("a filter's refusal is answered PROHIBITED and asks for nothing (tunnel-core 24.40)", () => {
  const rig = new Rig().init([cidrResource(1, "10.0.0.0/8", { filters: [rule("tcp", 443)] })]).clear();
  const packet = udp(toServer, 5353, 53);
  assert.equal(rig.tun(packet), "consumed");

  assert.deepEqual(rig.requests(), []);
  assert.equal(rig.toTun.length, 1);
  const refusal = rig.toTun[0]!;
  assert.deepEqual([...refusal.slice(20, 22)], [3, 13]);
  assert.deepEqual(refusal.slice(12, 20), Uint8Array.from([10, 0, 0, 7, 100, 64, 0, 1]));
  assert.deepEqual(refusal.slice(28), packet.slice(0, 28));

  assert.equal(rig.tun(tcp(toServer, 5000, 443)), "consumed");
  assert.equal(rig.requests().length, 1);
});

test("of overlapping networks the narrower one takes what its filter permits (tunnel-core 24.41)", () => {
  const rig = new Rig()
    .init([NETWORK, cidrResource(2, "10.20.0.0/16", { filters: [rule("tcp", 22)] })])
    .clear();
  const ends = { from: CLIENT_V4, to: ip("10.20.0.1") };
  rig.tun(tcp(ends, 5000, 80));
  rig.tun(tcp(ends, 5000, 22));

  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(1), resourceId(2)],
  );
});

test("the portal hears of the current gateway first, then of live ones, then of the rest (tunnel-core 7.2)", () => {
  const rig = new Rig().init([NETWORK, cidrResource(2, "172.16.0.0/12"), cidrResource(3, "192.168.0.0/16")]);
  const third = { ...OTHER_GATEWAY, id: "6a7e0000-0000-4000-8000-000000000000" as typeof GATEWAY.id };
  const hints = () => rig.requests().at(-1)?.connectedGateways;

  rig.tun(udp(toServer, 1, 9));
  assert.deepEqual(hints(), []);
  rig.portal(grant(1, OTHER_GATEWAY)).establish(OTHER_GATEWAY);
  rig.tun(udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9));
  assert.deepEqual(hints(), [OTHER_GATEWAY.id]);
  rig.portal(grant(2, { ...third, ipv4: ip("100.64.0.9"), ipv6: ip("fd00:2021:1111::9") })).establish(third);
  rig.connectivity.script({ kind: "failed", node: third.id, reason: "test" });
  rig.advance(0).tun(udp({ from: CLIENT_V4, to: ip("192.168.0.1") }, 1, 9));
  assert.deepEqual(hints(), [OTHER_GATEWAY.id, third.id]);
});

test("a refusal by a connected gateway asks again at most every 2 s, and access stays (tunnel-core 7.5)", () => {
  const rig = connected();
  const lost = udp(toServer, 6000, 9);
  const refusal = icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 13 }, lost, 28);

  rig.clear().fromGateway(GATEWAY, refusal);
  assert.deepEqual(rig.toTun, [refusal]);
  assert.equal(rig.requests().length, 1);
  rig.portal(grant(1)).fromGateway(GATEWAY, refusal);
  assert.equal(rig.requests().length, 1);
  assert.deepEqual(rig.connectivity.calls.filter((call) => call.startsWith("upsert")).length, 2);
  rig.advance(2000).fromGateway(GATEWAY, refusal);
  assert.equal(rig.requests().length, 2);
  rig.tun(lost);
  assert.deepEqual(rig.received(GATEWAY), [lost]);
});

test("other ICMP errors reach the device and ask for nothing (tunnel-core 7.5)", () => {
  const rig = connected();
  const lost = udp(toServer, 6000, 9);
  for (const error of [
    { type: 3, code: 1 },
    { type: 3, code: 0 },
    { type: 11, code: 0 },
  ]) {
    const packet = icmpError({ from: SERVER, to: CLIENT_V4 }, error, lost, 28);
    rig.clear().fromGateway(GATEWAY, packet);
    assert.deepEqual(rig.toTun, [packet]);
    assert.deepEqual(rig.requests(), []);
  }
});

test("without relays a grant is not used, the portal hears of it, and traffic asks again (tunnel-core 7.3)", () => {
  const rig = new Rig().init([NETWORK]);
  const packet = udp(toServer, 1, 9);
  rig.tun(packet);
  rig.connectivity.hasRelays = false;
  rig.clear().portal(grant(1));
  assert.ok(rig.events.some((event) => event.kind === "portal" && event.message.kind === "no-relays"));

  rig.connectivity.hasRelays = true;
  rig.advance(2000).tun(packet);
  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
});

test("packets wait for the connection, are decided anew when it comes up, and keep their order (tunnel-core 8.4)", () => {
  const rig = new Rig().init([NETWORK, cidrResource(2, "172.16.0.0/12")]);
  const elsewhere = udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9);
  rig.tun(udp(toServer, 1, 9));
  rig.portal(grant(1));
  rig.tun(elsewhere);
  rig.portal(grant(2));
  rig.tun(udp(toServer, 2, 9));
  assert.deepEqual(rig.received(GATEWAY), []);

  rig.portal({ kind: "resource-deleted", resource: resourceId(2) });
  rig.establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), [udp(toServer, 1, 9), udp(toServer, 2, 9)]);
});

test("a packet of a known flow that finds no keypair is held until there is one", () => {
  const rig = connected();
  const peer = rig.connectivity.peerOf(GATEWAY.id)!;
  rig.tun(udp(toServer, 1, 9));
  rig.received(GATEWAY);

  rig.core.selectKeypair(peer, undefined);
  rig.tun(udp(toServer, 1, 9, "held"));
  assert.deepEqual(rig.received(GATEWAY), []);
  assert.ok(rig.connectivity.calls.includes(`no keypair ${peer}`));
  rig.advance(100);
  assert.deepEqual(rig.received(GATEWAY), []);

  rig.giveKeypair(GATEWAY).advance(100);
  assert.deepEqual(rig.received(GATEWAY), [udp(toServer, 1, 9, "held")]);
});

test("new packets queue up behind those that wait for a keypair (tunnel-core 8.4)", () => {
  const rig = connected();
  const peer = rig.connectivity.peerOf(GATEWAY.id)!;
  rig.tun(udp(toServer, 1, 9));
  rig.received(GATEWAY);
  rig.core.selectKeypair(peer, undefined);
  rig.tun(udp(toServer, 1, 9, "first"));

  rig.giveKeypair(GATEWAY);
  rig.tun(udp(toServer, 2, 9, "second"));
  assert.deepEqual(rig.received(GATEWAY), []);
  rig.advance(10);
  assert.deepEqual(rig.received(GATEWAY), [udp(toServer, 1, 9, "first"), udp(toServer, 2, 9, "second")]);
});

test("flows move with their resource although the old gateway stays for another one (tunnel-core 7.3)", () => {
  const rig = connected();
  rig.portal({ kind: "resource-created-or-updated", resource: cidrResource(2, "172.16.0.0/12") });
  rig.tun(udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9));
  rig.portal(grant(2));
  const lost = udp(toServer, 6000, 9);
  assert.equal(rig.tun(lost), "forward");
  rig.received(GATEWAY);

  rig.fromGateway(GATEWAY, icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 13 }, lost, 28));
  rig.portal(grant(1, OTHER_GATEWAY)).establish(OTHER_GATEWAY);
  rig.tun(lost);
  assert.deepEqual(rig.received(OTHER_GATEWAY), [lost]);
  assert.deepEqual(rig.received(GATEWAY), []);
});

test("a refusal of a packet that was not ours asks for nothing (tunnel-core 7.5)", () => {
  const rig = connected();
  const foreign = udp({ from: ip("100.64.0.9"), to: SERVER }, 6000, 9);
  rig.fromGateway(GATEWAY, icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 13 }, foreign, 28));
  const elsewhere = udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 6000, 9);
  rig.fromGateway(GATEWAY, icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 13 }, elsewhere, 28));
  assert.deepEqual(rig.requests(), []);
});

test("a later grant moves a resource to another gateway and closes the one left empty (tunnel-core 7.3)", () => {
  const rig = connected();
  const lost = udp(toServer, 6000, 9);
  rig.fromGateway(GATEWAY, icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 13 }, lost, 28));
  rig.portal(grant(1, OTHER_GATEWAY)).establish(OTHER_GATEWAY);

  assert.ok(rig.connectivity.calls.includes(`close ${GATEWAY.id}`));
  rig.tun(lost);
  assert.deepEqual(rig.received(OTHER_GATEWAY), [lost]);
});

test("a gateway with new tunnel addresses starts from nothing (tunnel-core 6.1)", () => {
  const rig = connected();
  const moved = { ...GATEWAY, ipv4: ip("100.64.0.77"), ipv6: ip("fd00:2021:1111::77") };
  rig.init([NETWORK, cidrResource(2, "172.16.0.0/12")]);
  rig.tun(udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9));
  rig.portal(grant(2, moved, 2)).establish(moved);

  rig.clear();
  assert.deepEqual(rig.tun(udp({ from: CLIENT_V4, to: GATEWAY.ipv4 }, 1, 9)), { drop: "unknown-resource" });
  rig.tun(udp(toServer, 1, 9));
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(1)],
  );
});

/** A client that reaches resource 1 through the gateway. */
function connected(): Rig {
  const rig = new Rig().init([NETWORK]);
  rig.tun(udp(toServer, 1, 9));
  rig.portal(grant(1)).establish(GATEWAY);
  rig.received(GATEWAY);
  return rig.clear();
}
