import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { type IpAddress, ip, isIpv4 } from "../../../host/core/address.ts";
import type {
  ExplainedReason,
  ExplainedVerdict,
  Explanation,
  Question,
} from "../../../host/core/explanation.ts";
import { echo, tcp, udp } from "../packet/packets.ts";
import {
  GatewayBench,
  icmpOf,
  PROHIBITED_V4,
  PROHIBITED_V6,
  START_UNIX_S,
  UNREACHABLE_V4,
  UNREACHABLE_V6,
} from "./bench.ts";
import {
  ALICE,
  BOB,
  cidrResource,
  dnsResource,
  GATEWAY_V4,
  internetResource,
  PROXIES,
  PROXIES_V4,
  PROXIES_V6,
  PROXY,
  resourceId,
  rule,
} from "./fixtures.ts";

const NAME = "db.example.com";
const DNS = dnsResource(1, "*.example.com", [rule("tcp", 5432)]);
const NETWORK = cidrResource(1, "10.0.0.0/8", [rule("tcp", 80, 90), rule("icmp")]);
const REAL = ip("172.16.0.7");

interface Case {
  readonly title: string;
  readonly bench: () => GatewayBench;
  readonly question: Question;
  readonly expected: readonly [ExplainedVerdict, ExplainedReason];
  readonly about?: Partial<Explanation>;
}

const CASES: readonly Case[] = [
  {
    title: "a network within its rules",
    bench: network,
    question: address("10.1.2.3", 85),
    expected: ["passes", "permitted"],
    about: { rule: rule("tcp", 80, 90), expiresInMs: undefined },
  },
  {
    title: "a ping of a network",
    bench: network,
    question: { ...address("10.1.2.3", 0), protocol: "icmp" },
    expected: ["passes", "permitted"],
    about: { rule: rule("icmp") },
  },
  {
    title: "a network outside its rules",
    bench: network,
    question: address("10.1.2.3", 22),
    expected: ["refused", "filter"],
    about: { rule: undefined },
  },
  {
    title: "a network that was not granted",
    bench: network,
    question: address("192.168.0.1", 80),
    expected: ["refused", "no-grant"],
    about: { resource: undefined },
  },
  {
    title: "a network whose grant has ended",
    bench: () => {
      const bench = GatewayBench.ready();
      bench.grant(ALICE, cidrResource(2, "10.9.0.0/16"));
      bench.grant(ALICE, NETWORK, { expiresAt: START_UNIX_S + 60 });
      bench.advance(61_000);
      return bench;
    },
    question: address("10.1.2.3", 80),
    expected: ["refused", "no-grant"],
  },
  {
    title: "the gateway's own address",
    bench: network,
    question: { ...address(GATEWAY_V4, 53535), protocol: "udp" },
    expected: ["passes", "peer-address"],
  },
  {
    title: "another client",
    bench: network,
    question: address(BOB.ipv4, 80),
    expected: ["refused", "tunnel-address"],
  },
  {
    title: "multicast",
    bench: network,
    question: { ...address("224.0.0.251", 5353), protocol: "udp" },
    expected: ["dropped", "multicast"],
  },
  {
    title: "the internet through the internet resource",
    bench: internet,
    question: address("192.0.2.1", 443),
    expected: ["passes", "permitted"],
    about: { rule: "any" },
  },
  {
    title: "a private network through the internet resource",
    bench: internet,
    question: address("192.168.0.1", 443),
    expected: ["refused", "not-internet"],
  },
  {
    title: "the same over IPv6",
    bench: internet,
    question: address("fc00::1", 443),
    expected: ["refused", "not-internet"],
  },
  {
    title: "a proxy IP before it was announced",
    bench: named,
    question: address(PROXY, 5432),
    expected: ["refused", "no-grant"],
  },
  {
    title: "a proxy IP that stands for an address",
    bench: resolved,
    question: address(PROXY, 5432),
    expected: ["passes", "permitted"],
    about: { name: NAME, translatedTo: REAL },
  },
  {
    title: "a proxy IP of the family in which the name has no address",
    bench: resolved,
    question: address(PROXIES_V6[0] ?? "", 5432),
    expected: ["refused", "name-without-address"],
  },
  {
    title: "a name that the client announced",
    bench: resolved,
    question: name(NAME, 5432),
    expected: ["passes", "permitted"],
    about: { destination: PROXIES_V4[0], translatedTo: REAL },
  },
  {
    title: "a name by a port that no rule permits",
    bench: resolved,
    question: name(`${NAME.toUpperCase()}.`, 22),
    expected: ["refused", "filter"],
  },
];

describe("what explain says about a client's packet is what becomes of it:", () => {
  for (const { title, bench: build, question, expected, about } of CASES) {
    test(title, () => {
      const bench = build();
      const explanation = explainUnchanged(bench, question);
      assert.deepEqual([explanation.verdict, explanation.reason], expected);
      for (const [key, value] of Object.entries(about ?? {})) {
        assert.deepEqual(explanation[key as keyof Explanation], value, key);
      }
      assert.equal(explanation.peer?.id, ALICE.id);
      assert.deepEqual(outcomeOf(bench, explanation), seenAs(explanation));
    });
  }
});

test("a name that was not announced is told apart from one that is not granted", () => {
  const bench = named();
  const claimed = explainUnchanged(bench, name(NAME, 5432));
  assert.deepEqual([claimed.verdict, claimed.reason], ["refused", "name-not-announced"]);
  assert.equal(claimed.resource?.id, resourceId(1));
  const foreign = explainUnchanged(bench, name("example.org", 5432));
  assert.deepEqual([foreign.verdict, foreign.reason], ["refused", "name-not-granted"]);
});

test("a client is found by id, actor name or tunnel address; without being named only if it is the only one", () => {
  const bench = GatewayBench.ready();
  const of = (from: string | undefined) => explainUnchanged(bench, { ...address("10.1.2.3", 80), from });
  assert.equal(of(undefined).reason, "unknown-client");

  bench.grant({ ...ALICE, actorName: "Mira" } as typeof ALICE, NETWORK);
  assert.equal(of(undefined).peer?.id, ALICE.id);
  bench.grant(BOB, cidrResource(2, "192.168.0.0/16"));
  assert.equal(of(undefined).reason, "ambiguous-client");
  for (const from of [ALICE.id, "Mira", ALICE.ipv4, ALICE.ipv6])
    assert.equal(of(from).peer?.id, ALICE.id, from);
  assert.deepEqual([of(BOB.ipv6).peer?.id, of(BOB.ipv6).reason], [BOB.id, "no-grant"]);
  assert.equal(of("Nobody").reason, "unknown-client");
});

test("before the portal has configured it, a gateway says so", () => {
  assert.equal(explainUnchanged(GatewayBench.create(), address("10.1.2.3", 80)).reason, "unconfigured");
});

test("status lists clients with grants, what is left of them, and traffic both ways", () => {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, NETWORK, { expiresAt: START_UNIX_S + 60 });
  bench.fromClient(ALICE, tcp({ from: ALICE.ipv4, to: ip("10.1.2.3") }, 5000, 80));
  bench.advance(10_000);

  const status = bench.machine.status(bench.now);
  assert.equal(status.ipv4, GATEWAY_V4);
  const [client] = status.peers;
  assert.deepEqual([client?.id, client?.ipv4, client?.received.packets], [ALICE.id, ALICE.ipv4, 1]);
  assert.deepEqual(client?.grants, [
    { resource: resourceId(1), kind: "cidr", name: "10.0.0.0/8", address: "10.0.0.0/8", expiresInMs: 50_000 },
  ]);
});

function address(to: string, port: number): Question {
  return { to: { kind: "address", address: ip(to) }, protocol: "tcp", port, from: ALICE.id };
}

function name(to: string, port: number): Question {
  return { to: { kind: "name", name: to }, protocol: "tcp", port, from: ALICE.id };
}

function network(): GatewayBench {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, NETWORK);
  return bench;
}

function internet(): GatewayBench {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, internetResource(1));
  return bench;
}

function named(): GatewayBench {
  const bench = GatewayBench.ready();
  bench.grant(ALICE, DNS);
  return bench;
}

function resolved(): GatewayBench {
  const bench = named();
  bench.setUp(ALICE, DNS, NAME, PROXIES, [REAL]);
  return bench;
}

/** Explains, and asserts that nothing of it can be seen: memory, events, transmits, timers. */
function explainUnchanged(bench: GatewayBench, question: Question): Explanation {
  bench.takeEvents();
  const before = snapshot(bench);
  const explanation = bench.machine.explain(question, bench.now);
  assert.deepEqual(snapshot(bench), before);
  return explanation;
}

function snapshot({ core, machine, connectivity }: GatewayBench): unknown {
  return {
    memory: createHash("sha1").update(new Uint8Array(core.memory.buffer)).digest("hex"),
    calls: [...connectivity.calls],
    event: machine.pollEvent(),
    transmit: machine.pollTransmit(),
    timeout: machine.pollTimeout(),
  };
}

/** What the explanation means for one who watches the packet. */
function seenAs({ verdict, reason, destination, translatedTo }: Explanation): unknown {
  if (verdict === "dropped") return { dropped: reason };
  if (verdict === "passes") return { arrivesAt: translatedTo ?? destination };
  const isV4 = isIpv4(destination ?? REAL);
  const isUnreachable = reason === "not-internet" || reason === "name-without-address";
  if (isUnreachable) return { refused: isV4 ? UNREACHABLE_V4 : UNREACHABLE_V6 };
  return { refused: isV4 ? PROHIBITED_V4 : PROHIBITED_V6 };
}

function outcomeOf(bench: GatewayBench, { question, destination }: Explanation): unknown {
  assert.ok(destination !== undefined);
  const outcome = bench.fromClient(ALICE, packetTo(destination, question));
  const [arrived] = outcome.tun;
  const [answer] = outcome.to(ALICE);
  if (arrived !== undefined) return { arrivesAt: destinationOf(arrived) };
  if (answer !== undefined) return { refused: icmpOf(answer) };
  return { dropped: outcome.drops[0] };
}

function packetTo(to: IpAddress, { protocol, port }: Question): Uint8Array {
  const ends = { from: isIpv4(to) ? ALICE.ipv4 : ALICE.ipv6, to };
  if (protocol === "icmp") return echo(ends, 5000);
  return protocol === "tcp" ? tcp(ends, 50_000, port) : udp(ends, 50_000, port);
}

/** Only IPv4 packets pass in these cases. */
function destinationOf(packet: Uint8Array): string {
  return [...packet.subarray(16, 20)].join(".");
}
