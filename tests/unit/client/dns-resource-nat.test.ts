import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { NAT_SETUP_PACKETS } from "../../../host/core/client/dns-resource-nat.ts";
import { tcp, udp } from "../packet/packets.ts";
import {
  CLIENT_V4,
  CLIENT_V6,
  dnsResource,
  GATEWAY,
  grant,
  OTHER_GATEWAY,
  PROXIES_V4,
  PROXIES_V6,
  resourceId,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const NAME = "db.example.com";
const toProxy = { from: CLIENT_V4, to: PROXIES_V4[0]! };
const SYN = tcp(toProxy, 5000, 5432);
const STATUS = { resource: resourceId(1), domain: NAME };

/** The name is queried, a packet waited, the grant came, the tunnel is up: AssignedIps is on its way. */
function announced(address = "*.example.com"): Rig {
  const rig = new Rig().init([dnsResource(1, address)]);
  rig.ask(NAME, "A");
  rig.tun(SYN);
  rig.portal(grant(1)).establish(GATEWAY);
  return rig;
}

function confirmed(): Rig {
  const rig = announced().domainStatus(GATEWAY, STATUS);
  rig.received(GATEWAY);
  return rig.clear();
}

test("the names go to the gateway first, and the packet waits for its answer (tunnel-core 24.34)", () => {
  const rig = announced();
  assert.deepEqual(rig.frames(GATEWAY), [
    { kind: "assigned-ips", resource: resourceId(1), domain: NAME, proxyIps: [...PROXIES_V4, ...PROXIES_V6] },
  ]);

  rig.domainStatus(GATEWAY, STATUS);
  assert.deepEqual(rig.received(GATEWAY), [SYN]);
  const next = tcp(toProxy, 5000, 5432, { flags: 0x10, sequence: 2 });
  rig.tun(next);
  assert.deepEqual(rig.received(GATEWAY), [next]);
});

test("a single-stack name is announced with four addresses (tunnel-core 11.5)", () => {
  const rig = new Rig().init([dnsResource(1, NAME, { ipStack: "ipv6_only" })]);
  rig.ask(NAME, "AAAA");
  rig.tun(tcp({ from: CLIENT_V6, to: PROXIES_V6[0]! }, 5000, 5432));
  rig.portal(grant(1)).establish(GATEWAY);

  const frame = rig.frames(GATEWAY)[0];
  assert.deepEqual(frame?.kind === "assigned-ips" ? frame.proxyIps : [], PROXIES_V6);
});

test("an unanswered announcement is repeated by traffic after 2 s, never by time (tunnel-core 24.35)", () => {
  const rig = announced();
  rig.received(GATEWAY);
  rig.advance(1999).tun(udp(toProxy, 1, 9));
  assert.deepEqual(rig.received(GATEWAY), []);
  rig.advance(60_000);
  assert.deepEqual(rig.received(GATEWAY), []);

  rig.tun(udp(toProxy, 2, 9));
  assert.deepEqual(
    rig.frames(GATEWAY).map((frame) => frame.kind),
    ["assigned-ips"],
  );
});

test("asking for a confirmed name again announces it once, and packets pass meanwhile (tunnel-core 24.36)", () => {
  const rig = confirmed();
  rig.ask(NAME, "A");
  assert.equal(rig.frames(GATEWAY).length, 1);

  const packet = udp(toProxy, 77, 9);
  rig.tun(packet);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
  rig.ask(NAME, "AAAA");
  assert.deepEqual(rig.received(GATEWAY), []);
  rig.domainStatus(GATEWAY, STATUS).tun(packet);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
});

test("a lost repetition is made up for by the next packet of a new flow after 2 s (tunnel-core 12.3)", () => {
  const rig = confirmed();
  rig.ask(NAME, "A");
  rig.received(GATEWAY);
  const packet = udp(toProxy, 77, 9);
  rig.tun(packet);
  assert.deepEqual(rig.received(GATEWAY), [packet]);

  rig.advance(2000).tun(packet);
  const sent = rig.received(GATEWAY);
  assert.equal(sent.length, 2);
  assert.equal(sent[0]?.[6], 0xff);
  assert.deepEqual(sent[1], packet);
});

test("a flow to a name follows a more specific resource as soon as that claims the name (tunnel-core 15.3)", () => {
  const rig = confirmed();
  rig.portal({ kind: "resource-created-or-updated", resource: dnsResource(2, NAME) });
  const packet = udp(toProxy, 77, 9);
  assert.equal(rig.tun(packet), "forward");
  assert.equal(rig.tun(packet), undefined);

  rig.ask(NAME, "A");
  rig.domainStatus(GATEWAY, STATUS);
  assert.equal(rig.tun(packet), "consumed");
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(2)],
  );
});

test("asking for a failed name again announces it, and the next packet waits (tunnel-core 24.37)", () => {
  const rig = announced().domainStatus(GATEWAY, { ...STATUS, status: "Inactive" });
  rig.received(GATEWAY);
  const packet = udp(toProxy, 77, 9);
  rig.tun(packet);
  assert.deepEqual(rig.received(GATEWAY), [packet], "a failed name still passes traffic");

  rig.ask(NAME, "A");
  rig.tun(packet);
  assert.deepEqual(
    rig.received(GATEWAY).map((bytes) => bytes[6]),
    [0xff],
    "only the announcement went out",
  );
  rig.domainStatus(GATEWAY, STATUS);
  assert.deepEqual(rig.received(GATEWAY), [packet]);
});

test("an unknown status counts as inactive: what waited is gone (tunnel-core 24.6)", () => {
  const rig = announced().domainStatus(GATEWAY, { ...STATUS, status: "what_is_this" });
  assert.deepEqual(
    rig.received(GATEWAY).map((bytes) => bytes[6]),
    [0xff],
  );
});

test("a grant for a wildcard announces every name assigned so far (tunnel-core 24.38)", () => {
  const rig = new Rig().init([dnsResource(1, "*.example.com")]);
  for (const name of ["a.example.com", NAME, "c.example.com"]) rig.ask(name, "A");
  rig.tun(SYN);
  rig.portal(grant(1)).establish(GATEWAY);

  const names = rig.frames(GATEWAY).map((frame) => (frame.kind === "assigned-ips" ? frame.domain : ""));
  assert.deepEqual(names.sort(), ["a.example.com", "c.example.com", NAME]);
});

test("names of an earlier session are announced too (tunnel-core 12.2)", () => {
  const first = new Rig().init([dnsResource(1, "*.example.com")]);
  first.ask("old.example.com", "A");
  const records = first.events.flatMap((event) => (event.kind === "records" ? [event.records] : [])).at(-1);

  const second = new Rig({ records: records ?? [] }).init([dnsResource(1, "*.example.com")]);
  second.tun(udp(toProxy, 1, 9));
  second.portal(grant(1)).establish(GATEWAY);
  const names = second.frames(GATEWAY).map((frame) => (frame.kind === "assigned-ips" ? frame.domain : ""));
  assert.deepEqual(names, ["old.example.com"]);
});

test("a new name of a resource that is authorized already is announced at once (tunnel-core 12.1)", () => {
  const rig = confirmed();
  rig.ask("new.example.com", "A");
  const frame = rig.frames(GATEWAY)[0];
  assert.equal(frame?.kind === "assigned-ips" ? frame.domain : undefined, "new.example.com");
  assert.equal(rig.requests().length, 0);
});

test(`of ${NAT_SETUP_PACKETS + 8} packets that wait for a name the last ${NAT_SETUP_PACKETS} go (tunnel-core 2.5)`, () => {
  const rig = announced();
  rig.received(GATEWAY);
  const packets = Array.from({ length: NAT_SETUP_PACKETS + 8 }, (_, i) => udp(toProxy, 1000 + i, 9));
  for (const packet of packets) rig.tun(packet);

  rig.domainStatus(GATEWAY, STATUS);
  assert.deepEqual(rig.received(GATEWAY), packets.slice(-NAT_SETUP_PACKETS));
});

test("a status for a name or resource that was not announced is ignored (tunnel-core 12.4)", () => {
  const rig = announced();
  rig.received(GATEWAY);
  rig.domainStatus(GATEWAY, { resource: resourceId(2), domain: NAME });
  rig.domainStatus(GATEWAY, { resource: resourceId(1), domain: "other.example.com" });
  assert.deepEqual(rig.received(GATEWAY), []);
});

test("packets from proxy IPs are accepted once the name is announced, not before (tunnel-core 12.2)", () => {
  const rig = confirmed();
  const reply = tcp({ from: PROXIES_V4[0]!, to: CLIENT_V4 }, 5432, 5000, { flags: 0x12 });
  assert.equal(rig.fromGateway(GATEWAY, reply), "forward");
  assert.deepEqual(rig.toTun, [reply]);

  const stranger = tcp({ from: ip("100.96.0.99"), to: CLIENT_V4 }, 5432, 5000, { flags: 0x12 });
  assert.deepEqual(rig.fromGateway(GATEWAY, stranger), { drop: "not-allowed" });
});

test("after a refused packet and a new grant the names are announced again (tunnel-core 23 Q20)", () => {
  const rig = confirmed();
  rig.tun(SYN);
  rig.received(GATEWAY);
  const quote = [...SYN.slice(0, 28)];
  const refusal = icmpProhibited(quote);
  rig.fromGateway(GATEWAY, refusal);
  assert.equal(rig.requests().length, 1);

  rig.portal(grant(1));
  assert.deepEqual(
    rig.frames(GATEWAY).map((frame) => frame.kind),
    ["assigned-ips"],
  );
});

test("two resources that share a name are announced under their own ids, each to its gateway (tunnel-core 17.9)", () => {
  const rig = new Rig().init([
    dnsResource(1, NAME, { filters: [{ kind: "tcp", firstPort: 80, lastPort: 80 }] }),
    dnsResource(2, "*.example.com", { filters: [{ kind: "tcp", firstPort: 443, lastPort: 443 }] }),
  ]);
  rig.ask(NAME, "A");
  rig.tun(tcp(toProxy, 5000, 80));
  rig.tun(tcp(toProxy, 5001, 443));
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(1), resourceId(2)],
  );
  rig.portal(grant(1, GATEWAY)).establish(GATEWAY).portal(grant(2, OTHER_GATEWAY)).establish(OTHER_GATEWAY);

  const first = rig.frames(GATEWAY);
  const second = rig.frames(OTHER_GATEWAY);
  assert.deepEqual(
    [first, second].map((frames) => frames.map((frame) => "resource" in frame && frame.resource)),
    [[resourceId(1)], [resourceId(2)]],
  );
  rig.domainStatus(OTHER_GATEWAY, { resource: resourceId(2), domain: NAME });
  assert.deepEqual(rig.received(OTHER_GATEWAY), [tcp(toProxy, 5001, 443)]);
});

function icmpProhibited(quote: readonly number[]): Uint8Array {
  const body = [3, 13, 0, 0, 0, 0, 0, 0, ...quote];
  const header = [
    0x45,
    0,
    0,
    20 + body.length,
    0,
    0,
    0,
    0,
    20,
    1,
    0,
    0,
    ...[100, 96, 0, 1],
    ...[100, 64, 0, 1],
  ];
  return Uint8Array.from([...header, ...body]);
}
