import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip } from "../../../host/core/address.ts";
import { encodeDomainStatus } from "../../../host/core/packet/control-frame.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { ACK, echo, icmp, icmpError, ip as rawIp, tcp, udp } from "../packet/packets.ts";
import { GatewayBench, icmpOf, PROHIBITED_V4, PROHIBITED_V6, UNREACHABLE_V4 } from "./bench.ts";
import {
  ALICE,
  BOB,
  cidrResource,
  dnsResource,
  GATEWAY_V4,
  GATEWAY_V6,
  internetResource,
  PROXIES_V4,
  PROXY,
  resourceId,
  rule,
} from "./fixtures.ts";

const SERVER = ip("10.1.2.3");
const INTERNET = ip("1.1.1.1");

test("another client's source address is prohibited, into the sender's own tunnel (tunnel-core 24.50)", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8"));
  bench.grant(BOB, cidrResource(1, "10.0.0.0/8"));

  const outcome = bench.fromClient(ALICE, tcp({ from: BOB.ipv4, to: SERVER }, 1, 80));

  assert.deepEqual(outcome.to(ALICE).map(icmpOf), [PROHIBITED_V4]);
  assert.deepEqual(outcome.to(BOB), []);
  assert.deepEqual(outcome.tun, []);
  const v6 = bench.fromClient(ALICE, tcp({ from: BOB.ipv6, to: ip("2001:db8::1") }, 1, 80));
  assert.deepEqual(v6.to(ALICE).map(icmpOf), [PROHIBITED_V6]);
});

test("a flow of one client admits nothing from another", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8"));
  bench.grant(BOB, cidrResource(2, "192.0.2.0/24"));
  const packet = tcp({ from: ALICE.ipv4, to: SERVER }, 1, 80);
  assert.equal(bench.fromClient(ALICE, packet).tun.length, 1);

  const outcome = bench.fromClient(BOB, packet);
  assert.deepEqual(outcome.tun, []);
  assert.deepEqual(outcome.to(BOB).map(icmpOf), [PROHIBITED_V4]);
});

test("DNS on the gateway's own address needs no policy and comes back unmodified (tunnel-core 24.51)", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8", [rule("udp", 1)]));
  for (const [from, to] of [
    [ALICE.ipv4, GATEWAY_V4],
    [ALICE.ipv6, GATEWAY_V6],
  ] as const) {
    const query = tcp({ from, to }, 50_000, 53_535);
    const answer = tcp({ from: to, to: from }, 53_535, 50_000, { flags: ACK });
    assert.deepEqual(bench.fromClient(ALICE, query).tun, [query]);
    assert.deepEqual(bench.fromSite(answer).to(ALICE), [answer]);
  }
});

test("internet and DNS resources do not open each other's addresses (tunnel-core 24.53)", () => {
  const dns = dnsResource(2, "example.com", [rule("udp", 80)]);
  const bench = readyWith(internetResource(1), dns);
  bench.grant(BOB, internetResource(1));
  bench.setUp(ALICE, dns, "example.com", PROXIES_V4, [SERVER]);
  const answers = (packet: Uint8Array) => bench.fromClient(ALICE, packet).to(ALICE).map(icmpOf);

  assert.deepEqual(answers(udp({ from: ALICE.ipv4, to: PROXY }, 1, 600)), [PROHIBITED_V4]);
  const out = udp({ from: ALICE.ipv4, to: INTERNET }, 1, 600);
  assert.deepEqual(bench.fromClient(ALICE, out).tun, [out]);
  assert.deepEqual(answers(tcp({ from: ALICE.ipv4, to: ip("192.168.1.1") }, 1, 80)), [UNREACHABLE_V4]);
  assert.deepEqual(answers(tcp({ from: ALICE.ipv4, to: BOB.ipv4 }, 1, 80)), [PROHIBITED_V4]);
  assert.deepEqual(answers(udp({ from: ALICE.ipv4, to: ip("100.96.7.7") }, 1, 80)), [PROHIBITED_V4]);
  assert.deepEqual(
    bench.fromSite(tcp({ from: ip("192.168.1.1"), to: ALICE.ipv4 }, 80, 1)).drops,
    ["not-allowed"],
    "inbound it is silent",
  );
});

test("a CIDR resource around the proxy addresses does not widen a DNS resource's filters", () => {
  const dns = dnsResource(2, "example.com", [rule("udp", 80)]);
  const bench = readyWith(cidrResource(1, "100.64.0.0/10"), dns);
  bench.setUp(ALICE, dns, "example.com", PROXIES_V4, [SERVER]);
  const answers = (packet: Uint8Array) => bench.fromClient(ALICE, packet).to(ALICE).map(icmpOf);

  assert.deepEqual(answers(tcp({ from: ALICE.ipv4, to: PROXY }, 1, 22)), [PROHIBITED_V4]);
  assert.deepEqual(answers(tcp({ from: ALICE.ipv4, to: ip("100.96.7.7") }, 1, 22)), [UNREACHABLE_V4]);
});

test("ICMP errors of a client are dropped in silence (tunnel-core 24.54)", () => {
  const dns = dnsResource(1, "example.com");
  const bench = readyWith(dns, cidrResource(2, "10.0.0.0/8"));
  bench.setUp(ALICE, dns, "example.com", PROXIES_V4, [SERVER]);
  for (const to of [PROXY, SERVER]) {
    const failed = udp({ from: to, to: ALICE.ipv4 }, 53, 4000);
    const outcome = bench.fromClient(
      ALICE,
      icmpError({ from: ALICE.ipv4, to }, { type: 3, code: 3 }, failed),
    );
    assert.deepEqual(outcome.drops, ["outbound-icmp-error"]);
    assert.deepEqual([outcome.tun, outcome.to(ALICE)], [[], []]);
  }
});

test("control frames that make no sense are ignored and the connection stays up (tunnel-core 24.7)", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8"));
  const unspecified = { from: ip("::"), to: ip("::") };
  const status = encodeDomainStatus({ resource: resourceId(1), domain: "a.b", active: true });
  for (const frame of [
    rawIp(unspecified, 255, [200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]),
    rawIp(unspecified, 255, [0, 0, 0, 0, 0, 0, 0, 0, 0x7b]),
    status,
  ]) {
    assert.ok(frame);
    const outcome = bench.fromClient(ALICE, frame);
    assert.deepEqual(outcome.drops, ["unknown-control-frame"]);
    assert.deepEqual(outcome.to(ALICE), []);
  }
  assert.equal(bench.fromClient(ALICE, udp({ from: ALICE.ipv4, to: SERVER }, 1, 53)).tun.length, 1);
});

test("announcing an address that is no proxy IP opens nothing", () => {
  const dns = dnsResource(1, "example.com");
  const bench = readyWith(dns);
  for (const stolen of [SERVER, INTERNET, BOB.ipv4, GATEWAY_V4, ip("fd00:2021:1111:8000:100:100:111:0")]) {
    const answer = bench.announce(ALICE, dns.id, "example.com", [...PROXIES_V4.slice(1), stolen]);
    assert.equal(answer.resolve(), -1);
    assert.deepEqual(
      answer.statuses(ALICE).map(({ active }) => active),
      [false],
    );
  }
  const outcome = bench.fromClient(ALICE, tcp({ from: ALICE.ipv4, to: SERVER }, 1, 80));
  assert.deepEqual(outcome.to(ALICE).map(icmpOf), [PROHIBITED_V4]);
});

test("ignoring filters gets a client nowhere, in any protocol", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8", [rule("tcp", 443)]));
  const ends = { from: ALICE.ipv4, to: SERVER };
  for (const packet of [
    tcp(ends, 1, 442),
    udp(ends, 1, 443),
    echo(ends, 443),
    rawIp(ends, 47, [1]),
    timestamp(SERVER),
  ]) {
    const outcome = bench.fromClient(ALICE, packet);
    assert.deepEqual(outcome.tun, []);
    assert.deepEqual(outcome.to(ALICE).map(icmpOf), [PROHIBITED_V4]);
  }
});

test("an unfiltered CIDR resource also carries opaque protocols and other ICMP", () => {
  const bench = readyWith(cidrResource(1, "10.0.0.0/8"));
  for (const packet of [rawIp({ from: ALICE.ipv4, to: SERVER }, 47, [1, 2]), timestamp(SERVER)]) {
    assert.deepEqual(bench.fromClient(ALICE, packet).tun, [packet]);
  }
});

test("multicast, fragments and noise are dropped without an answer", () => {
  const bench = readyWith(internetResource(1));
  const fragment = udp({ from: ALICE.ipv4, to: INTERNET }, 1, 2);
  fragment[6] = 0x20;
  for (const packet of [
    udp({ from: ALICE.ipv4, to: ip("224.0.0.252") }, 1, 5355),
    udp({ from: ALICE.ipv6, to: ip("ff02::1:3") }, 1, 5355),
    fragment,
    Uint8Array.of(0x45, 1, 2, 3),
  ]) {
    const outcome = bench.fromClient(ALICE, packet);
    assert.deepEqual([outcome.tun, outcome.to(ALICE)], [[], []]);
  }
});

test("the site cannot speak for tunnel or proxy addresses", () => {
  const bench = readyWith(cidrResource(1, "0.0.0.0/0"));
  bench.grant(BOB, cidrResource(1, "0.0.0.0/0"));
  const forged: IpAddress[] = [BOB.ipv4, ip("100.96.0.1")];
  for (const from of forged) {
    const outcome = bench.fromSite(tcp({ from, to: ALICE.ipv4 }, 80, 1));
    assert.deepEqual(outcome.drops, ["not-allowed"]);
    assert.deepEqual(outcome.to(ALICE), []);
  }
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ip("10.9.9.9") }, 1, 2)).drops, ["not-a-peer"]);
  assert.deepEqual(bench.fromSite(udp({ from: SERVER, to: ip("100.64.9.9") }, 1, 2)).drops, ["not-a-peer"]);
});

test("whatever a client sends, only granted traffic of its own reaches the site", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const random = seeded(seed);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const dns = dnsResource(2, "example.com", [rule("udp", 80)]);
  const bench = readyWith(cidrResource(1, "10.0.0.0/8", [rule("tcp", 443)]), dns);
  bench.setUp(ALICE, dns, "example.com", PROXIES_V4, [ip("192.168.7.7")]);
  const addresses = [
    ALICE.ipv4,
    BOB.ipv4,
    GATEWAY_V4,
    SERVER,
    PROXY,
    INTERNET,
    ip("192.168.7.7"),
    ip("100.96.9.9"),
  ];
  const ports = [80, 443, 53_535];
  let forwarded = 0;

  for (let run = 0; run < 3000; run++) {
    const ends = { from: random() < 0.7 ? ALICE.ipv4 : pick(addresses), to: pick(addresses) };
    const packet = pick([tcp, udp])(ends, 1 + Math.floor(random() * 50), pick(ports));
    if (random() < 0.3) packet[Math.floor(random() * packet.length)] = Math.floor(random() * 256);

    for (const bytes of bench.fromClient(ALICE, packet).tun) {
      const sent = parseIpPacket(bytes);
      assert.ok(sent, `SEED=${seed}`);
      const { kind, source, destination, destinationPort } = sent;
      const isGranted =
        destination === GATEWAY_V4 ||
        (destination.startsWith("10.") && kind === "tcp" && destinationPort === 443) ||
        (destination === "192.168.7.7" && kind === "udp" && destinationPort === 80);
      assert.ok(isGranted && source === ALICE.ipv4, `SEED=${seed} run ${run}: ${source} to ${destination}`);
      forwarded += 1;
    }
  }
  assert.ok(forwarded > 50, `SEED=${seed}: only ${forwarded} packets passed`);
});

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function timestamp(to: IpAddress): Uint8Array {
  return icmp({ from: ALICE.ipv4, to }, [13, 0, 0, 0, 0, 7, 0, 1]);
}

function readyWith(...resources: Parameters<GatewayBench["grant"]>[1][]): GatewayBench {
  const bench = GatewayBench.ready();
  for (const resource of resources) bench.grant(ALICE, resource);
  return bench;
}
