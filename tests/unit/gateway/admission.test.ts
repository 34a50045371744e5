import assert from "node:assert/strict";
import { test } from "node:test";
import { FILTER_RULE_CAPACITY, PEER_CAPACITY } from "../../../assembly/abi.ts";
import { hostOf, IPV4_TUNNEL, IPV6_TUNNEL, ip } from "../../../host/core/address.ts";
import type { ClientId } from "../../../host/core/id.ts";
import { encodeGoodbye } from "../../../host/core/packet/control-frame.ts";
import { ACK, tcp, udp } from "../packet/packets.ts";
import { GatewayBench, icmpOf, PROHIBITED_V4, START_UNIX_S } from "./bench.ts";
import {
  ALICE,
  BOB,
  cidrResource,
  dnsResource,
  GATEWAY_V4,
  GATEWAY_V6,
  internetResource,
  PROXIES,
  PROXY,
  resourceId,
  rule,
  type TestClient,
} from "./fixtures.ts";

const SERVER = ip("10.1.2.3");
const TO_SERVER = { from: ALICE.ipv4, to: SERVER };

test("the first init configures the TUN device with both tunnel ranges, an equal one does not again", () => {
  const bench = GatewayBench.create();
  bench.init();
  bench.init();

  assert.deepEqual(
    bench.takeEvents().filter((event) => event.kind === "tun-config"),
    [
      {
        kind: "tun-config",
        config: { ipv4: GATEWAY_V4, ipv6: GATEWAY_V6, routes: [IPV4_TUNNEL, IPV6_TUNNEL] },
      },
    ],
  );
});

test("acknowledges a client before it sends candidates", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"), { ref: "ref-1" });

  assert.deepEqual(bench.takePortalMessages(), [
    { kind: "authorization-created", ref: "ref-1" },
    { kind: "ice-candidates", clients: [ALICE.id], candidates: [`candidate of ${ALICE.id}`] },
  ]);
  assert.deepEqual(bench.connectivity.calls.at(-1), `upsert ${ALICE.id} controlled`);
});

test("without relays it does not acknowledge but asks for some, and keeps no state", () => {
  const bench = GatewayBench.ready();
  bench.connectivity.hasRelays = false;
  for (let i = 0; i <= PEER_CAPACITY; i++) {
    bench.grant(numberedClient(i), cidrResource(1, "10.0.0.0/8"));
    assert.deepEqual(bench.takePortalMessages(), [{ kind: "no-relays" }], `client ${i}`);
  }
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ALICE.ipv4 }, 53, 1)).drops, ["not-a-peer"]);
});

test("does not acknowledge before the portal has configured it", () => {
  const bench = GatewayBench.create();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  assert.deepEqual(bench.takePortalMessages(), []);
});

test("hands candidates in both directions and passes relay changes on", () => {
  const bench = GatewayBench.ready();
  bench.portal({ kind: "ice-candidates", client: ALICE.id, candidates: ["x"] });
  bench.portal({ kind: "invalidate-ice-candidates", client: ALICE.id, candidates: ["y"] });
  bench.portal({ kind: "relays-presence", disconnected: [], connected: [] });
  assert.deepEqual(bench.connectivity.calls.slice(-3), [
    `add ${ALICE.id} x`,
    `remove ${ALICE.id} y`,
    "relays - +",
  ]);
});

test("forwards CIDR traffic unchanged in both directions, within its filters", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8", [rule("tcp", 443)]));

  const request = tcp(TO_SERVER, 5000, 443);
  const reply = tcp({ from: SERVER, to: ALICE.ipv4 }, 443, 5000, { flags: ACK });
  assert.deepEqual(bench.fromClient(ALICE, request).tun, [request]);
  assert.deepEqual(bench.fromClient(ALICE, request).tun, [request], "now by the packet core alone");
  assert.deepEqual(bench.fromSite(reply).to(ALICE), [reply]);
  assert.deepEqual(bench.fromSite(reply).to(ALICE), [reply]);

  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 5000, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  const refused = bench.fromSite(tcp({ from: SERVER, to: ALICE.ipv4 }, 80, 5000));
  assert.deepEqual(refused.drops, ["not-allowed"]);
  assert.deepEqual(refused.to(ALICE), [], "towards the site it refuses in silence");
});

test("new filters apply to open flows at once", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  assert.equal(bench.fromClient(ALICE, tcp(TO_SERVER, 5000, 80)).tun.length, 1);

  bench.portal({ kind: "resource-updated", resource: cidrResource(1, "10.0.0.0/8", [rule("tcp", 443)]) });

  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 5000, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  assert.equal(bench.fromClient(ALICE, tcp(TO_SERVER, 5000, 443)).tun.length, 1);
});

test("a known resource keeps its address when it is granted again, and takes filters and expiry", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"), { expiresAt: START_UNIX_S + 10 });
  bench.grant(ALICE, cidrResource(1, "192.168.0.0/16", [rule("udp", 53)]), { expiresAt: START_UNIX_S + 20 });

  bench.advance(15_000);
  assert.equal(bench.fromClient(ALICE, udp(TO_SERVER, 5000, 53)).tun.length, 1);
  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 5000, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  const other = udp({ from: ALICE.ipv4, to: ip("192.168.1.1") }, 5000, 53);
  assert.deepEqual(bench.fromClient(ALICE, other).to(ALICE).map(icmpOf), [PROHIBITED_V4]);

  bench.advance(5000);
  assert.equal(bench.connectivity.calls.at(-1), `close ${ALICE.id}`);
});

test("two grants on one network end on their own, the last one with Goodbye (tunnel-core 24.52)", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8", [rule("tcp", 20, 100)]), { expiresAt: START_UNIX_S + 60 });
  bench.grant(ALICE, cidrResource(2, "10.0.0.0/8", [rule("udp", 20, 100)]), {
    expiresAt: START_UNIX_S + 120,
  });
  const overTcp = tcp(TO_SERVER, 5000, 80);
  const overUdp = udp(TO_SERVER, 5000, 80);

  bench.advance(59_999);
  assert.deepEqual(bench.fromClient(ALICE, overTcp).tun, [overTcp]);
  assert.deepEqual(bench.fromClient(ALICE, overUdp).tun, [overUdp]);

  assert.equal(bench.nextTimeout()?.reason, "authorization ends");
  bench.advance(1);
  assert.deepEqual(bench.fromClient(ALICE, overTcp).to(ALICE).map(icmpOf), [PROHIBITED_V4]);
  assert.deepEqual(bench.fromClient(ALICE, overUdp).tun, [overUdp]);

  const end = bench.advance(60_000);
  assert.deepEqual(end.to(ALICE), [encodeGoodbye()]);
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ALICE.ipv4 }, 80, 5000)).drops, ["not-a-peer"]);
});

test("a grant that is over when it arrives is acknowledged and evicted with the next tick", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"), { ref: "late", expiresAt: START_UNIX_S - 5 });

  assert.deepEqual(bench.takePortalMessages()[0], { kind: "authorization-created", ref: "late" });
  bench.advance(0);
  assert.equal(bench.connectivity.calls.at(-1), `close ${ALICE.id}`);
});

test("an init that does not list a client takes all its resources (tunnel-core 24.55)", () => {
  const bench = GatewayBench.ready();
  const resource = cidrResource(1, "10.0.0.0/8");
  bench.grant(ALICE, resource);
  bench.grant(BOB, resource);

  bench.init([{ client: BOB.id, resource: resource.id, expiresAt: START_UNIX_S + 30 }]);

  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 1, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  assert.deepEqual(bench.advance(0).to(ALICE), [encodeGoodbye()]);
  assert.equal(bench.connectivity.calls.at(-1), `close ${ALICE.id}`);

  assert.equal(bench.fromClient(BOB, tcp({ from: BOB.ipv4, to: SERVER }, 1, 80)).tun.length, 1);
  assert.deepEqual(bench.advance(30_000).to(BOB), [encodeGoodbye()], "the listed expiry counts");
});

test("revoking the last resource says Goodbye, revoking another one does not", () => {
  const bench = GatewayBench.ready();
  const [first, second] = [cidrResource(1, "10.0.0.0/8"), cidrResource(2, "172.16.0.0/12")];
  bench.grant(ALICE, first);
  bench.grant(ALICE, second);

  assert.deepEqual(
    bench.portal({ kind: "reject-access", client: ALICE.id, resource: first.id }).to(ALICE),
    [],
  );
  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 1, 80))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  const end = bench.portal({ kind: "reject-access", client: ALICE.id, resource: second.id });
  assert.deepEqual(end.to(ALICE), [encodeGoodbye()]);
});

test("Goodbye from a client ends its state without a reply", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));

  assert.deepEqual(bench.fromClient(ALICE, encodeGoodbye()).to(ALICE), []);
  assert.equal(bench.connectivity.calls.at(-1), `remove ${ALICE.id}`);
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ALICE.ipv4 }, 53, 1)).drops, ["not-a-peer"]);
});

test("shutdown says Goodbye to every client", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  bench.grant(BOB, cidrResource(1, "10.0.0.0/8"));

  const end = bench.command({ kind: "shutdown" });
  assert.deepEqual(end.to(ALICE), [encodeGoodbye()]);
  assert.deepEqual(end.to(BOB), [encodeGoodbye()]);
});

test("a lost connection keeps grants, translations and NAT entries for the next one (tunnel-core 24.57)", () => {
  const bench = GatewayBench.ready();
  const resource = dnsResource(1, "db.example.com");
  bench.grant(ALICE, resource);
  bench.setUp(ALICE, resource, "db.example.com", PROXIES, [ip("10.0.0.7")]);
  const packet = tcp({ from: ALICE.ipv4, to: PROXY }, 5000, 5432, { flags: ACK });
  const before = bench.fromClient(ALICE, packet).tun;
  assert.equal(before.length, 1);

  bench.connectivity.fail(ALICE.id);
  const reply = tcp({ from: ip("10.0.0.7"), to: ALICE.ipv4 }, 5432, 5000, { flags: ACK });
  assert.deepEqual(bench.fromSite(reply).to(ALICE), [], "dropped, not kept, while there is no connection");
  assert.match(bench.connectivity.calls.at(-1) ?? "", /^no keypair/);

  bench.grant(ALICE, resource, { publicKey: new Uint8Array(32).fill(9) });
  assert.deepEqual(bench.fromClient(ALICE, packet).tun, before);
  assert.equal(bench.core.natCount(), 1);
  assert.equal(bench.fromSite(reply).to(ALICE).length, 1);
});

test("new TUN addresses of a client replace the old ones", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  const moved = { ...ALICE, ipv4: ip("100.64.0.77") };
  bench.grant(moved, cidrResource(1, "10.0.0.0/8"));

  assert.deepEqual(
    bench
      .fromClient(ALICE, udp(TO_SERVER, 1, 53))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );
  assert.equal(bench.fromClient(ALICE, udp({ from: moved.ipv4, to: SERVER }, 1, 53)).tun.length, 1);
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ALICE.ipv4 }, 53, 1)).drops, ["not-a-peer"]);
  assert.equal(bench.fromSite(udp({ from: SERVER, to: moved.ipv4 }, 53, 1)).to(ALICE).length, 1);
});

test("a resource whose filters do not fit stays closed, and the operator hears of it", () => {
  const bench = GatewayBench.ready();
  const rules = Array.from({ length: FILTER_RULE_CAPACITY + 1 }, (_, i) => rule("tcp", i & 0xffff));
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8", rules));

  const notes = bench.takeEvents().filter((event) => event.kind === "note");
  assert.deepEqual(
    notes.map(({ severity }) => severity),
    ["warn"],
  );
  assert.deepEqual(
    bench
      .fromClient(ALICE, tcp(TO_SERVER, 1, 7))
      .to(ALICE)
      .map(icmpOf),
    [PROHIBITED_V4],
  );

  bench.portal({ kind: "resource-updated", resource: cidrResource(1, "10.0.0.0/8", [rule("tcp", 7)]) });
  assert.equal(bench.fromClient(ALICE, tcp(TO_SERVER, 1, 7)).tun.length, 1);
});

test("clients beyond the packet core's slots are not acknowledged, and slots of gone ones are used again", () => {
  const bench = GatewayBench.ready();
  bench.connectivity.connectsAtOnce = false;
  const resource = cidrResource(1, "10.0.0.0/8");
  for (let i = 0; i < PEER_CAPACITY; i++) bench.grant(numberedClient(i), resource);
  bench.takeEvents();

  bench.grant(ALICE, resource);
  assert.deepEqual(bench.takePortalMessages(), []);

  bench.portal({ kind: "reject-access", client: numberedClient(7).id, resource: resource.id });
  bench.grant(ALICE, resource, { ref: "second try" });
  assert.deepEqual(bench.takePortalMessages()[0], { kind: "authorization-created", ref: "second try" });
});

test("filters of revoked, replaced and departed grants make room for new ones", () => {
  const bench = GatewayBench.ready();
  const large = (kind: "tcp" | "udp", shift: number) =>
    Array.from({ length: FILTER_RULE_CAPACITY / 2 - 10 }, (_, i) => rule(kind, (i + shift) & 0xffff));
  bench.grant(BOB, cidrResource(1, "10.0.0.0/8", large("tcp", 0)));
  bench.portal({ kind: "resource-updated", resource: cidrResource(1, "10.0.0.0/8", large("udp", 0)) });
  bench.portal({ kind: "resource-updated", resource: cidrResource(1, "10.0.0.0/8", large("tcp", 1)) });
  bench.fromClient(BOB, encodeGoodbye());
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8", large("udp", 1)));
  bench.grant(ALICE, cidrResource(2, "10.0.0.0/8", large("tcp", 2)));

  assert.deepEqual(
    bench.takeEvents().filter((event) => event.kind === "note"),
    [],
  );
});

test("without the internet resource the internet is prohibited again", () => {
  const bench = GatewayBench.ready();
  const packet = udp({ from: ALICE.ipv4, to: ip("1.1.1.1") }, 1, 53);
  bench.grant(ALICE, internetResource(1));
  bench.grant(ALICE, cidrResource(2, "10.0.0.0/8"));
  assert.deepEqual(bench.fromClient(ALICE, packet).tun, [packet]);

  bench.portal({ kind: "reject-access", client: ALICE.id, resource: resourceId(1) });

  assert.deepEqual(bench.fromClient(ALICE, packet).to(ALICE).map(icmpOf), [PROHIBITED_V4]);
  assert.equal(bench.fromClient(ALICE, udp(TO_SERVER, 1, 53)).tun.length, 1);
});

test("a client that is granted something before the tick that would evict it stays", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, cidrResource(1, "10.0.0.0/8"));
  bench.init();
  bench.grant(ALICE, cidrResource(2, "10.0.0.0/8"));

  bench.advance(5000);

  assert.equal(bench.nextTimeout(), undefined);
  assert.equal(bench.fromClient(ALICE, udp(TO_SERVER, 1, 53)).tun.length, 1);
});

test("an address that went from one client to another stays with the new one", () => {
  const bench = GatewayBench.ready();
  const resource = cidrResource(1, "10.0.0.0/8");
  bench.grant(ALICE, resource);
  bench.grant({ ...BOB, ipv4: ALICE.ipv4 }, resource);
  bench.portal({ kind: "reject-access", client: ALICE.id, resource: resource.id });

  assert.equal(bench.fromSite(udp({ from: SERVER, to: ALICE.ipv4 }, 53, 1)).to(BOB).length, 1);
});

function numberedClient(number: number): TestClient {
  return {
    id: `c11e0000-0000-4000-8000-${String(number).padStart(12, "0")}` as ClientId,
    ipv4: hostOf(IPV4_TUNNEL, 100 + number),
    ipv6: hostOf(IPV6_TUNNEL, 100 + number),
  };
}
