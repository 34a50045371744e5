import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip } from "../../../host/core/address.ts";
import { echo, icmp, icmpError, ip as ipPacket, tcp, udp } from "../packet/packets.ts";
import {
  CLIENT_V4,
  CLIENT_V6,
  cidrResource,
  dnsResource,
  GATEWAY,
  grant,
  internetResource,
  OTHER_GATEWAY,
  PROXIES_V4,
  resourceId,
  rule,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const SERVER = ip("10.0.0.7");
const to = (address: IpAddress) => ({ from: address.includes(":") ? CLIENT_V6 : CLIENT_V4, to: address });

/** A client that reaches resource 1, 10.0.0.0/8, through the gateway. */
function connected(...others: Parameters<Rig["init"]>[0]): Rig {
  const rig = new Rig().init([cidrResource(1, "10.0.0.0/8"), ...others]);
  rig.tun(udp(to(SERVER), 1, 9));
  rig.portal(grant(1)).establish(GATEWAY);
  rig.received(GATEWAY);
  return rig.clear();
}

test("nothing is sent before the portal configured us (tunnel-core 8.1 check 3)", () => {
  const rig = new Rig();
  assert.deepEqual(rig.tun(udp(to(SERVER), 1, 9)), { drop: "unconfigured" });
  assert.deepEqual(rig.tun(udp({ from: CLIENT_V4, to: ip("224.0.0.1") }, 1, 9)), { drop: "multicast" });
});

test("only TCP, UDP and echo can reach a gateway (tunnel-core 8.1 check 7)", () => {
  const rig = connected();
  const unsupported = [
    ipPacket(to(SERVER), 47, [0, 0, 8, 0]),
    icmp(to(SERVER), [13, 0, 0, 0, 0, 0, 0, 0]),
    icmpError(to(SERVER), { type: 3, code: 3 }, udp({ from: SERVER, to: CLIENT_V4 }, 9, 1), 28),
  ];
  for (const packet of unsupported) {
    assert.deepEqual(rig.tun(packet), { drop: "unsupported-protocol" });
  }
  const supported = [tcp(to(SERVER), 5000, 80), udp(to(SERVER), 5000, 80), echo(to(SERVER), 5000)];
  for (const packet of supported) assert.equal(rig.tun(packet), "forward");
  assert.deepEqual(rig.received(GATEWAY), supported);
});

test("a known flow does not ask the machine again, a change of policy makes it ask once", () => {
  const rig = connected();
  const packet = udp(to(SERVER), 5000, 80);
  assert.equal(rig.tun(packet), "forward");
  assert.equal(rig.tun(packet), undefined);
  rig.portal({ kind: "resource-created-or-updated", resource: cidrResource(2, "192.168.0.0/16") });
  assert.equal(rig.tun(packet), "forward");
  assert.equal(rig.tun(packet), undefined);
  assert.equal(rig.received(GATEWAY).length, 4);
});

test("a gateway's own tunnel addresses are reached without policy, both ways (tunnel-core 8.1 check 8)", () => {
  const rig = connected();
  for (const address of [GATEWAY.ipv4, GATEWAY.ipv6]) {
    const packet = tcp(to(address), 5000, 53535);
    assert.equal(rig.tun(packet), "forward");
    assert.deepEqual(rig.received(GATEWAY), [packet]);
    const own = address.includes(":") ? CLIENT_V6 : CLIENT_V4;
    assert.equal(
      rig.fromGateway(GATEWAY, tcp({ from: address, to: own }, 53535, 5000, { flags: 0x12 })),
      "forward",
    );
  }
  assert.deepEqual(rig.requests(), []);
});

test("what no resource covers is dropped (tunnel-core 8.1 check 12)", () => {
  const rig = connected();
  assert.deepEqual(rig.tun(udp(to(ip("192.0.2.1")), 1, 9)), { drop: "unknown-resource" });
});

test("the internet resource takes the rest once switched on, but never tunnel addresses or proxy IPs (tunnel-core 8.3)", () => {
  const rig = connected(internetResource(2));
  const packet = udp(to(ip("192.0.2.1")), 1, 9);
  assert.deepEqual(rig.tun(packet), { drop: "unknown-resource" });

  rig.command({ kind: "internet-resource", active: true });
  for (const address of [ip("100.64.0.9"), ip("fd00:2021:1111::9"), ip("100.96.0.77")]) {
    assert.deepEqual(rig.tun(udp(to(address), 1, 9)), { drop: "unknown-resource" });
  }
  rig.tun(packet);
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(2)],
  );
  rig.portal(grant(2));
  assert.deepEqual(rig.received(GATEWAY), [packet]);
  const reply = udp({ from: ip("192.0.2.1"), to: CLIENT_V4 }, 9, 1);
  assert.equal(rig.fromGateway(GATEWAY, reply), "forward");

  rig.command({ kind: "internet-resource", active: false });
  assert.deepEqual(rig.tun(packet), { drop: "unknown-resource" });
  assert.deepEqual(rig.fromGateway(GATEWAY, reply), { drop: "not-allowed" });
});

test("names win over networks, and networks over the internet resource (tunnel-core 8.3)", () => {
  const rig = new Rig().init([
    dnsResource(1, "example.com", { filters: [rule("tcp", 443)] }),
    cidrResource(2, "100.96.0.0/24"),
    internetResource(3),
  ]);
  rig.command({ kind: "internet-resource", active: true });
  rig.ask("example.com", "A");
  rig.clear();

  rig.tun(tcp(to(PROXIES_V4[0]!), 5000, 80));
  assert.deepEqual([...rig.toTun[0]!.slice(20, 22)], [3, 13], "the name's filter decides");
  rig.tun(tcp(to(ip("100.96.0.200")), 5000, 80));
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(2)],
  );
});

test("packets from a gateway are accepted only from what it was granted for (tunnel-core 9.4)", () => {
  const rig = connected(cidrResource(2, "172.16.0.0/12"));
  const reply = udp({ from: SERVER, to: CLIENT_V4 }, 9, 1);
  assert.equal(rig.fromGateway(GATEWAY, reply), "forward");
  assert.equal(rig.fromGateway(GATEWAY, reply), undefined, "the flow is known now");
  assert.deepEqual(rig.toTun, [reply, reply]);

  for (const from of [ip("172.16.0.1"), ip("192.0.2.1"), OTHER_GATEWAY.ipv4, CLIENT_V4]) {
    assert.deepEqual(rig.fromGateway(GATEWAY, udp({ from, to: CLIENT_V4 }, 9, 1)), { drop: "not-allowed" });
  }
});

test("an ICMP error from a router outside the resource is dropped (tunnel-core 9.4)", () => {
  const rig = connected();
  const packet = icmpError(
    { from: ip("192.0.2.1"), to: CLIENT_V4 },
    { type: 11, code: 0 },
    udp(to(SERVER), 1, 9),
    28,
  );
  assert.deepEqual(rig.fromGateway(GATEWAY, packet), { drop: "not-allowed" });
});

test("an unknown control frame is ignored, and the connection stays up (tunnel-core 24.7)", () => {
  const rig = connected();
  const frame = ipPacket({ from: ip("::"), to: ip("::") }, 255, [200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
  assert.deepEqual(rig.fromGateway(GATEWAY, frame), { drop: "unknown-control-frame" });
  assert.deepEqual(rig.toTun, []);

  rig.tun(udp(to(SERVER), 1, 9));
  assert.equal(rig.received(GATEWAY).length, 1);
});

test("a control frame read from TUN goes nowhere (tunnel-core 4.1)", () => {
  const rig = connected();
  const frame = ipPacket({ from: ip("::"), to: ip("::") }, 255, [2, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual(rig.tun(frame), { drop: "not-tunnel-source" });
});

test("bytes that are no packet are dropped, whoever sends them", () => {
  const rig = connected();
  const peer = rig.connectivity.peerOf(GATEWAY.id)!;
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  for (let i = 0; i < 500; i++) {
    const bytes = Uint8Array.from({ length: i % 90 }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
    assert.doesNotThrow(() => rig.client.handleTunPacket(bytes, rig.now), `SEED=${seed}`);
    assert.doesNotThrow(() => rig.client.handlePeerPacket(peer, bytes, rig.now), `SEED=${seed}`);
  }
  assert.deepEqual(rig.client.handleTunPacket(new Uint8Array(0), rig.now), { drop: "malformed" });
  assert.deepEqual(rig.client.handlePeerPacket(peer, new Uint8Array(1281), rig.now), { drop: "malformed" });
  assert.deepEqual(rig.client.handlePeerPacket(999, udp(to(SERVER), 1, 9), rig.now), { drop: "not-a-peer" });
});
