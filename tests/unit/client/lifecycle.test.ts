import assert from "node:assert/strict";
import { test } from "node:test";
import { cidrText, ip } from "../../../host/core/address.ts";
import { isControlFrame } from "../../../host/core/packet/control-frame.ts";
import { tcp, udp } from "../packet/packets.ts";
import {
  CLIENT_V4,
  CLIENT_V6,
  cidrResource,
  clientInterface,
  dnsResource,
  GATEWAY,
  grant,
  internetResource,
  OTHER_SITE,
  PROXIES_V4,
  resourceId,
  rule,
  SITE,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const NETWORK = cidrResource(1, "10.0.0.0/8");
const toServer = { from: CLIENT_V4, to: ip("10.0.0.7") };
const ALWAYS_ROUTED = [
  "100.64.0.0/11",
  "fd00:2021:1111::/107",
  "100.96.0.0/11",
  "fd00:2021:1111:8000::/107",
  "100.100.111.0/24",
  "fd00:2021:1111:8000:100:100:111:0/120",
];

function connected(...others: Parameters<Rig["init"]>[0]): Rig {
  const rig = new Rig().init([NETWORK, ...others]);
  rig.tun(udp(toServer, 1, 9));
  rig.portal(grant(1)).establish(GATEWAY);
  rig.received(GATEWAY);
  return rig.clear();
}

const routes = (rig: Rig) => rig.config().routes.map(cidrText);

test("the last resource of a gateway goes: Goodbye, closed, site unknown (tunnel-core 24.42)", () => {
  const rig = connected(cidrResource(2, "172.16.0.0/12"));
  assert.equal(rig.views()[0]?.status, "online");
  rig.portal({ kind: "resource-deleted", resource: resourceId(1) });

  const last = rig.received(GATEWAY).at(-1)!;
  assert.equal(last.length, 48);
  assert.ok(isControlFrame(last));
  assert.equal(last[40], 2);
  assert.ok(rig.connectivity.calls.includes(`close ${GATEWAY.id}`));
  assert.deepEqual(
    rig.views().map(({ id, status }) => ({ id, status })),
    [{ id: resourceId(2), status: "unknown" }],
  );
});

test("one of two resources of a gateway goes: the connection and the other one stay (tunnel-core 6.3)", () => {
  const rig = connected(cidrResource(2, "172.16.0.0/12"));
  const other = udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9);
  const stale = udp({ from: toServer.to, to: CLIENT_V4 }, 9, 1);
  rig.tun(other);
  rig.portal(grant(2));
  assert.equal(rig.tun(udp(toServer, 1, 9)), "forward");
  assert.equal(rig.fromGateway(GATEWAY, stale), "forward");
  rig.received(GATEWAY);
  rig.portal({ kind: "resource-deleted", resource: resourceId(1) });

  assert.deepEqual(rig.tun(udp(toServer, 1, 9)), { drop: "unknown-resource" });
  rig.tun(other);
  assert.deepEqual(rig.received(GATEWAY), [other]);
  assert.deepEqual(rig.fromGateway(GATEWAY, stale), { drop: "not-allowed" });
});

test("an init with the same resources changes nothing, and traffic does not notice (tunnel-core 24.43)", () => {
  const dns = dnsResource(2, "*.example.com");
  const rig = connected(dns);
  rig.ask("db.example.com", "A");
  const toName = tcp({ from: CLIENT_V4, to: PROXIES_V4[0]! }, 5000, 5432);
  rig.tun(toName);
  rig.portal(grant(2)).domainStatus(GATEWAY, { resource: dns.id, domain: "db.example.com" });
  assert.equal(rig.tun(udp(toServer, 1, 9)), "forward");
  rig.received(GATEWAY);
  const { length } = rig.connectivity.calls;

  rig.clear().init([dns, NETWORK]);
  assert.deepEqual(rig.events, []);
  assert.deepEqual(rig.connectivity.calls.slice(length), ["relays - +"]);
  assert.equal(rig.tun(udp(toServer, 1, 9)), undefined, "the flow is still known");
  rig.tun(toName);
  assert.equal(rig.received(GATEWAY).length, 2);
});

test("a resource that is only renamed keeps its access; a new filter takes it away (tunnel-core 6.2)", () => {
  const rig = connected();
  rig.portal({
    kind: "resource-created-or-updated",
    resource: cidrResource(1, "10.0.0.0/8", { name: "renamed" }),
  });
  assert.equal(rig.views()[0]?.name, "renamed");
  rig.tun(udp(toServer, 1, 9));
  assert.equal(rig.received(GATEWAY).length, 1);

  rig.portal({
    kind: "resource-created-or-updated",
    resource: cidrResource(1, "10.0.0.0/8", { filters: [rule("tcp", 80)] }),
  });
  assert.ok(rig.connectivity.calls.includes(`close ${GATEWAY.id}`));
  rig.clear().tun(udp(toServer, 1, 9));
  assert.deepEqual([...rig.toTun[0]!.slice(20, 22)], [3, 13]);
});

test("after a roam the name keeps its proxy IP and the same gateway is asked for first (tunnel-core 24.68)", () => {
  const rig = new Rig().init([dnsResource(1, "*.example.com")]);
  rig.ask("db.example.com", "A");
  const ends = { from: CLIENT_V4, to: PROXIES_V4[0]! };
  rig.tun(tcp(ends, 5000, 5432));
  rig.portal(grant(1)).establish(GATEWAY);
  rig.domainStatus(GATEWAY, { resource: resourceId(1), domain: "db.example.com" });
  rig.received(GATEWAY);

  rig.clear().command({ kind: "reset", privateKey: new Uint8Array(32).fill(9) });
  assert.equal(rig.connectivity.calls.at(-1), "reset");
  assert.equal(rig.views()[0]?.status, "unknown");
  assert.deepEqual(rig.received(GATEWAY), [], "no Goodbye");

  const data = tcp(ends, 5000, 5432, { flags: 0x18, sequence: 100 });
  rig.advance(3000).tun(data);
  assert.deepEqual(rig.requests()[0]?.connectedGateways, [GATEWAY.id]);
  rig.portal(grant(1, GATEWAY, 2)).establish(GATEWAY);
  rig.domainStatus(GATEWAY, { resource: resourceId(1), domain: "db.example.com" });
  assert.deepEqual(rig.received(GATEWAY).at(-1), data);
  assert.deepEqual(rig.ask("db.example.com", "A")?.data, PROXIES_V4);
});

test("a reset keeps what waits for a grant, and its throttle (tunnel-core 18.1)", () => {
  const rig = new Rig().init([NETWORK]);
  const packet = udp(toServer, 1, 9);
  rig.tun(packet);
  rig.clear().command({ kind: "reset", privateKey: new Uint8Array(32) });
  rig.advance(1000).tun(packet);
  assert.deepEqual(rig.requests(), []);
  rig.advance(1000).tun(packet);
  assert.equal(rig.requests().length, 1);
  rig.portal(grant(1)).establish(GATEWAY);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
});

test("a reset forgets what the host was asked (tunnel-core 18.1)", () => {
  const rig = new Rig().init([]);
  rig.ask("www.example.org", "A");
  const { id } = rig.hostQueries()[0]!;
  rig.command({ kind: "reset", privateKey: new Uint8Array(32) }).clear();
  rig.command({ kind: "host-dns-result", id, result: { kind: "failed" } });
  assert.deepEqual(rig.toTun, []);
});

test("a shutdown says goodbye on every connection (tunnel-core 18.3)", () => {
  const rig = connected();
  rig.command({ kind: "shutdown" });
  assert.deepEqual(
    rig.received(GATEWAY).map((packet) => packet[40]),
    [2],
  );
});

test("a Goodbye, or a failed connection, ends access: the next packet asks again (tunnel-core 6.5)", () => {
  for (const end of ["goodbye", "failed"] as const) {
    const rig = connected();
    if (end === "goodbye") rig.goodbye(GATEWAY);
    else {
      rig.connectivity.script({ kind: "failed", node: GATEWAY.id, reason: "timeout" });
      rig.advance(0);
    }
    assert.equal(rig.views()[0]?.status, "unknown");
    assert.equal(rig.tun(udp(toServer, 1, 9)), "consumed");
    assert.equal(rig.requests().length, 1);
  }
});

test("the TUN configuration has the fixed routes, the networks, and the default routes on demand (tunnel-core 6.6)", () => {
  const rig = new Rig().init([NETWORK, cidrResource(2, "10.0.0.0/8"), internetResource(3)]);
  assert.equal(rig.config().ipv4, CLIENT_V4);
  assert.equal(rig.config().ipv6, CLIENT_V6);
  assert.deepEqual(routes(rig), [...ALWAYS_ROUTED, "10.0.0.0/8"]);

  rig.command({ kind: "internet-resource", active: true });
  assert.deepEqual(routes(rig), [...ALWAYS_ROUTED, "10.0.0.0/8", "0.0.0.0/0", "::/0"]);
  rig.portal({ kind: "resource-deleted", resource: resourceId(3) });
  assert.deepEqual(routes(rig), [...ALWAYS_ROUTED, "10.0.0.0/8"]);
});

test("the TUN configuration is reported when it changes and only then (tunnel-core 6.6)", () => {
  const rig = new Rig().init([NETWORK]).clear();
  const configs = () => rig.events.filter((event) => event.kind === "tun-config").length;
  rig.portal({ kind: "config-changed", interface: clientInterface });
  assert.equal(configs(), 0);
  rig.portal({ kind: "config-changed", interface: { ...clientInterface, searchDomain: "example.com" } });
  assert.equal(configs(), 1);
  assert.equal(rig.config().searchDomain, "example.com");
});

test("a switch that is thrown before the resource exists takes effect when it comes (tunnel-core 6.1)", () => {
  const rig = new Rig().init([]).command({ kind: "internet-resource", active: true });
  assert.deepEqual(routes(rig), ALWAYS_ROUTED);
  rig.portal({ kind: "resource-created-or-updated", resource: internetResource(1) });
  assert.deepEqual(routes(rig), [...ALWAYS_ROUTED, "0.0.0.0/0", "::/0"]);
});

test("a resource is online while one of its sites is (tunnel-core 6.7)", () => {
  const rig = connected(
    cidrResource(2, "172.16.0.0/12", { sites: [SITE, OTHER_SITE] }),
    cidrResource(3, "192.168.0.0/16", { sites: [OTHER_SITE] }),
    cidrResource(4, "198.18.0.0/15", { sites: [] }),
  );
  assert.deepEqual(
    rig.views().map(({ status }) => status),
    ["online", "online", "unknown", "unknown"],
  );
});

test("candidates travel both ways between portal and connection", () => {
  const rig = new Rig().init([NETWORK]);
  rig.tun(udp(toServer, 1, 9));
  rig.clear().portal(grant(1));
  assert.deepEqual(
    rig.events.filter((event) => event.kind === "portal"),
    [
      {
        kind: "portal",
        message: { kind: "ice-candidates", gateway: GATEWAY.id, candidates: ["candidate of the client"] },
      },
    ],
  );
  rig.portal({ kind: "ice-candidates", gateway: GATEWAY.id, candidates: ["x"] });
  rig.portal({ kind: "invalidate-ice-candidates", gateway: GATEWAY.id, candidates: ["y"] });
  assert.deepEqual(rig.connectivity.calls.slice(-2), [`add ${GATEWAY.id} x`, `withdraw ${GATEWAY.id} y`]);
  rig.connectivity.script({ kind: "candidates-removed", node: GATEWAY.id, candidates: ["z"] });
  rig.clear().advance(0);
  assert.deepEqual(rig.events, [
    {
      kind: "portal",
      message: { kind: "invalidate-ice-candidates", gateway: GATEWAY.id, candidates: ["z"] },
    },
  ]);
});

test("a resource whose pattern is broken is listed but reaches nothing (tunnel-core 6.2)", () => {
  const rig = new Rig().init([dnsResource(1, "a**.example.com")]);
  assert.equal(rig.views().length, 1);
  assert.ok(rig.events.some((event) => event.kind === "note" && event.severity === "warn"));
  assert.equal(rig.ask("ab.example.com", "A"), undefined);
});

test("no name and no address is logged above debug", () => {
  const rig = connected(dnsResource(2, "*.example.com"));
  rig.ask("db.example.com", "A");
  rig.tun(udp({ from: CLIENT_V4, to: PROXIES_V4[0]! }, 1, 9));
  rig.portal(grant(2)).goodbye(GATEWAY);
  for (const event of rig.events) {
    if (event.kind !== "note" || event.severity === "debug" || event.severity === "trace") continue;
    assert.doesNotMatch(JSON.stringify(event), /example\.com|100\.\d+\.\d+\.\d+|10\.0\.0/);
  }
});

test("filters that changed twenty thousand times leave room for more in the packet core", () => {
  const rig = new Rig().init([]);
  for (let port = 1; port <= 20_000; port++) {
    const resource = cidrResource(1, "10.0.0.0/8", { filters: [rule("tcp", port)] });
    rig.client.handleCommand(
      { kind: "portal", message: { kind: "resource-created-or-updated", resource } },
      rig.now,
    );
  }
  rig.clear().tun(tcp(toServer, 5000, 20_000));
  assert.equal(rig.requests().length, 1);
});

test("ten thousand resources are taken in and looked up quickly enough", () => {
  const resources = Array.from({ length: 10_000 }, (_, i) =>
    cidrResource(i + 1, `10.${i >> 8}.${i & 255}.0/24`, { filters: [rule("tcp", 443)] }),
  );
  const startedAt = performance.now();
  const rig = new Rig().init(resources).clear();
  for (let i = 0; i < 100; i++) rig.tun(tcp({ from: CLIENT_V4, to: ip(`10.0.${i}.1`) }, 5000, 443));
  assert.equal(rig.requests().length, 100);
  assert.ok(performance.now() - startedAt < 10_000);
});
