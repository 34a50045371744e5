import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { upstreamAnswer } from "../dns/queries.ts";
import { echo, tcp, udp } from "../packet/packets.ts";
import { CLIENT_V4, dnsResource, internetResource, PROXIES_V4, PROXIES_V6, resourceId } from "./fixtures.ts";
import { Rig } from "./rig.ts";

const NAME = "example.com";

test("a first query is answered from the sentinel and reported once with all eight addresses (tunnel-core 24.11)", () => {
  const rig = new Rig().init([dnsResource(1, NAME)]).clear();
  const answer = rig.ask(NAME, "A", { id: 99, port: 41_234 });

  assert.equal(answer?.id, 99);
  assert.deepEqual(answer?.data, PROXIES_V4);
  assert.deepEqual(answer?.ttls, [1, 1, 1, 1]);
  const packet = rig.toTun[0]!;
  assert.deepEqual(
    [...packet.slice(12, 24)],
    [100, 100, 111, 1, 100, 64, 0, 1, 0, 53, 41_234 >> 8, 41_234 & 255],
  );
  const claims = [{ resource: resourceId(1), pattern: NAME }];
  assert.deepEqual(
    rig.events.filter((event) => event.kind === "records"),
    [{ kind: "records", records: [{ name: NAME, ipv4: PROXIES_V4, ipv6: PROXIES_V6, claims }] }],
  );
});

test("a repeated query gets the same answer and no report (tunnel-core 24.12)", () => {
  const rig = new Rig().init([dnsResource(1, NAME)]);
  rig.ask(NAME, "A");
  rig.clear();

  assert.deepEqual(rig.ask(NAME, "A")?.data, PROXIES_V4);
  assert.deepEqual(rig.events, []);
});

test("HTTPS for a resource is empty; MX goes to the upstream by the host (tunnel-core 24.15)", () => {
  const rig = new Rig().init([dnsResource(1, NAME)]).clear();
  assert.deepEqual(rig.ask(NAME, "UNKNOWN_65")?.counts, [1, 0, 0, 0]);
  assert.equal(rig.ask(NAME, "MX"), undefined);

  const [query] = rig.hostQueries();
  assert.deepEqual(query?.server, { ip: "9.9.9.9", port: 53 });
  assert.equal(query?.transport, "udp");
});

test("an upstream's answer reaches the asker under its id, then the cache answers (tunnel-core 24.22)", () => {
  const rig = new Rig().init([]).clear();
  rig.ask("www.example.org", "A", { id: 500, port: 41_000 });
  const query = rig.hostQueries()[0]!;
  const message = upstreamAnswer(query.message, { addresses: ["192.0.2.9"], ttl: 3600 });
  message[0] = 0x12;
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });

  assert.equal(rig.answer().id, 500);
  assert.deepEqual(rig.answer().data, ["192.0.2.9"]);
  rig.advance(100_000).clear();
  const again = rig.ask("www.example.org", "A", { id: 501 });
  assert.equal(again?.id, 501);
  assert.deepEqual(again?.ttls, [3500]);
  assert.deepEqual(rig.hostQueries(), []);
});

test("a host timeout is silent, a failure is SERVFAIL, a wrong answer is SERVFAIL (tunnel-core 11.6)", () => {
  const rig = new Rig().init([]);
  const results = [
    { kind: "timeout" },
    { kind: "failed" },
    { kind: "answer", message: new Uint8Array(12) },
  ] as const;
  for (const [i, result] of results.entries()) {
    rig.clear().ask(`n${i}.example.org`, "A");
    rig.command({ kind: "host-dns-result", id: rig.hostQueries()[0]!.id, result });
    if (result.kind === "timeout") assert.deepEqual(rig.toTun, []);
    else assert.equal(rig.answer().rcode, "SERVFAIL");
    rig.clear().command({ kind: "host-dns-result", id: 1 + i, result: { kind: "failed" } });
    assert.deepEqual(rig.toTun, [], "a second result for one query is ignored");
  }
});

test("a large upstream answer is truncated for UDP (tunnel-core 24.21)", () => {
  const rig = new Rig().init([]).clear();
  rig.ask("big.example.org", "A");
  const query = rig.hostQueries()[0]!;
  const addresses = Array.from({ length: 1000 }, (_, i) => `192.0.${i >> 8}.${i & 255}`);
  const message = upstreamAnswer(query.message, { addresses, ttl: 60 });
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });

  assert.deepEqual(rig.answer().counts, [1, 0, 0, 0]);
  assert.equal(rig.answer().flags & 0x0200, 0x0200);
});

test("new servers get new sentinels and empty the cache (tunnel-core 24.23)", () => {
  const rig = new Rig().init([], { system: [ip("1.1.1.1"), ip("8.8.8.8")] });
  const before = rig.config().dns.map(({ sentinel }) => sentinel);
  rig.ask("www.example.org", "A");
  const query = rig.hostQueries()[0]!;
  const message = upstreamAnswer(query.message, { addresses: ["192.0.2.9"], ttl: 3600 });
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });

  rig.clear().command({ kind: "system-resolvers", servers: [ip("8.8.8.8"), ip("1.1.1.1")] });
  assert.deepEqual(rig.events, []);
  rig.command({ kind: "system-resolvers", servers: [ip("1.1.1.1")] });
  const after = rig.config().dns.map(({ sentinel }) => sentinel);
  assert.equal(after.length, 1);
  assert.ok(!before.includes(after[0]!));
  assert.equal(rig.ask("www.example.org", "A"), undefined);
  assert.equal(rig.hostQueries().length, 1);
});

test("our own sentinels in the system's list are left out (tunnel-core 24.24)", () => {
  const rig = new Rig().init([], { system: [ip("100.100.111.1"), ip("9.9.9.9")] });
  assert.deepEqual(
    rig.config().dns.map(({ upstream }) => (upstream.kind === "do53" ? upstream.server.ip : upstream.url)),
    ["9.9.9.9"],
  );
});

test("an unmapped sentinel is never routed to the internet resource (tunnel-core 24.25)", () => {
  const rig = new Rig()
    .init([internetResource(1)])
    .command({ kind: "internet-resource", active: true })
    .clear();
  for (const to of [ip("100.100.111.200"), ip("100.100.111.0")]) {
    assert.deepEqual(rig.tun(tcp({ from: CLIENT_V4, to }, 5000, 443)), { drop: "unmapped-sentinel" });
  }
  assert.deepEqual(rig.requests(), []);
});

test("a mapped sentinel answers nothing but DNS (tunnel-core 11.3)", () => {
  const rig = new Rig().init([]);
  const ends = { from: CLIENT_V4, to: rig.config().dns[0]!.sentinel };
  const packets = [udp(ends, 5000, 54), echo(ends, 1), tcp(ends, 5000, 443)];
  for (const packet of packets) assert.deepEqual(rig.tun(packet), { drop: "unsupported-protocol" });
  assert.deepEqual(rig.tun(udp(ends, 5000, 53, "not DNS")), { drop: "bad-dns-message" });
});

test("the host is asked at most 1000 things at a time (tunnel-core 2.5)", () => {
  const rig = new Rig().init([]).clear();
  for (let i = 0; i < 1000; i++) rig.ask(`n${i}.example.org`, "A");
  assert.equal(rig.hostQueries().length, 1000);
  rig.ask("one-too-many.example.org", "A");
  assert.deepEqual(rig.drops, ["buffer-full"]);

  rig.advance(10_000).ask("later.example.org", "A");
  assert.equal(rig.hostQueries().length, 1001);
});

test("a resource that is added makes the cache forget what its names were (tunnel-core 11.8)", () => {
  const rig = new Rig().init([]).clear();
  rig.ask("db.example.com", "A");
  const query = rig.hostQueries()[0]!;
  const message = upstreamAnswer(query.message, { addresses: ["192.0.2.9"], ttl: 3600 });
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });
  rig.portal({ kind: "resource-created-or-updated", resource: dnsResource(1, "*.example.com") });

  assert.deepEqual(rig.ask("db.example.com", "A")?.data, PROXIES_V4);
});

test("without Do53 servers of the portal its DoH servers are asked, by HTTPS on the host, with id 0 (tunnel-core 24.28)", () => {
  const rig = new Rig().init([internetResource(1)], { doh: ["https://dns.example/dns-query"] });
  rig.command({ kind: "internet-resource", active: true }).clear();
  assert.equal(rig.config().dns[0]?.sentinel, "100.100.111.2", "system resolvers had the first sentinel");
  rig.ask("www.example.org", "A", { id: 500 });

  assert.deepEqual(rig.requests(), [], "DoH is never tunnelled");
  assert.deepEqual(rig.hostQueries(), []);
  const query = rig.events.find((event) => event.kind === "host-doh-query");
  assert.ok(query !== undefined);
  assert.equal(query.url, "https://dns.example/dns-query");
  assert.deepEqual([...query.message.subarray(0, 2)], [0, 0]);
  const message = upstreamAnswer(query.message, { addresses: ["192.0.2.9"], ttl: 3600 });
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });
  assert.equal(rig.answer().id, 500);
  assert.deepEqual(rig.answer().data, ["192.0.2.9"]);
});

test("Do53 servers of the portal come before its DoH servers; URLs with a query are refused (tunnel-core 11.1)", () => {
  const doh = ["https://dns.example/q?x=1", "http://dns.example/q"];
  const upstreams = (rig: Rig) => rig.config().dns.map(({ upstream }) => upstream.kind);
  assert.deepEqual(upstreams(new Rig().init([], { portal: [ip("1.1.1.1")], doh })), ["do53"]);
  const rig = new Rig().init([], { doh });
  assert.deepEqual(rig.config().dns[0]?.upstream, { kind: "do53", server: { ip: "9.9.9.9", port: 53 } });
});
