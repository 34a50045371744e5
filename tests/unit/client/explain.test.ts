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
  CLIENT_V4,
  CLIENT_V6,
  cidrResource,
  dnsResource,
  GATEWAY,
  grant,
  internetResource,
  PROXIES_V4,
  resourceId,
  rule,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const SERVER = ip("10.0.0.7");
const NAME = "db.example.com";
const STATUS = { resource: resourceId(1), domain: NAME };
const WEB = [rule("tcp", 80), rule("tcp", 443, 445), rule("icmp")];

interface Case {
  readonly title: string;
  readonly rig: () => Rig;
  readonly question: Question;
  readonly expected: readonly [ExplainedVerdict, ExplainedReason];
  /** What else the explanation must say. */
  readonly about?: Partial<Explanation>;
}

const CASES: readonly Case[] = [
  {
    title: "before the portal configured us",
    rig: () => new Rig(),
    question: address("10.0.0.7", 80),
    expected: ["dropped", "unconfigured"],
  },
  {
    title: "an address that no resource covers and no route leads to us",
    rig: network,
    question: address("192.0.2.1", 80),
    expected: ["outside", "not-routed"],
  },
  {
    title: "a tunnel address that nobody has",
    rig: network,
    question: address("100.64.0.99", 80),
    expected: ["dropped", "unknown-resource"],
  },
  {
    title: "our own address",
    rig: network,
    question: address(CLIENT_V4, 80),
    expected: ["dropped", "packet-to-self"],
  },
  {
    title: "multicast",
    rig: network,
    question: address("224.0.0.1", 80),
    expected: ["dropped", "multicast"],
  },
  {
    title: "a network before anybody asked for access",
    rig: network,
    question: address("10.0.0.7", 80),
    expected: ["waits", "access-not-requested"],
    about: { rule: rule("tcp", 80) },
  },
  {
    title: "a network while the portal thinks about it",
    rig: () => asked(network()),
    question: address("10.0.0.7", 444),
    expected: ["waits", "access-requested"],
    about: { rule: rule("tcp", 443, 445) },
  },
  {
    title: "a network that the portal refused",
    rig: () => refused(asked(network()), "forbidden"),
    question: address("10.0.0.7", 80),
    expected: ["waits", "access-refused"],
    about: { refusal: { reason: "forbidden", violatedProperties: ["remote_ip"], agoMs: 0 } },
  },
  {
    title: "a network whose site is offline",
    rig: () => refused(asked(network()), "offline"),
    question: address("10.0.0.7", 80),
    expected: ["waits", "site-offline"],
  },
  {
    title: "a network whose gateway is being connected to",
    rig: () => asked(network()).portal(grant(1)),
    question: address("10.0.0.7", 80),
    expected: ["waits", "gateway-connecting"],
  },
  {
    title: "a network whose gateway is connected",
    rig: connected,
    question: address("10.0.0.7", 80),
    expected: ["passes", "permitted"],
    about: { rule: rule("tcp", 80) },
  },
  {
    title: "a ping of a network",
    rig: connected,
    question: { ...address("10.0.0.7", 0), protocol: "icmp" },
    expected: ["passes", "permitted"],
    about: { rule: rule("icmp") },
  },
  {
    title: "a port that no rule permits",
    rig: connected,
    question: address("10.0.0.7", 8080),
    expected: ["refused", "filter"],
    about: { rule: undefined },
  },
  {
    title: "a protocol that no rule permits",
    rig: connected,
    question: { ...address("10.0.0.7", 80), protocol: "udp" },
    expected: ["refused", "filter"],
  },
  {
    title: "a network over IPv6 without rules",
    rig: () => granted(new Rig().init([cidrResource(1, "2001:db8::/32")]), ip("2001:db8::7")),
    question: address("2001:db8::7", 9),
    expected: ["passes", "permitted"],
    about: { rule: "any" },
  },
  {
    title: "the gateway's own address",
    rig: connected,
    question: address(GATEWAY.ipv4, 53535),
    expected: ["passes", "peer-address"],
  },
  {
    title: "the better of two networks",
    rig: () => connected(cidrResource(2, "10.0.0.0/24", { filters: [rule("tcp", 22)] })),
    question: address("10.0.0.7", 22),
    expected: ["waits", "access-not-requested"],
  },
  {
    title: "the internet resource",
    rig: () => network(internetResource(2)).command({ kind: "internet-resource", active: true }),
    question: address("192.0.2.1", 25),
    expected: ["waits", "access-not-requested"],
  },
  {
    title: "a sentinel nobody is behind",
    rig: network,
    question: { ...address("100.100.111.200", 53), protocol: "udp" },
    expected: ["dropped", "unmapped-sentinel"],
  },
  {
    title: "another port of a sentinel",
    rig: network,
    question: address("100.100.111.1", 80),
    expected: ["dropped", "unsupported-protocol"],
  },
  {
    title: "a proxy IP whose name nobody has",
    rig: network,
    question: address("100.96.7.7", 80),
    expected: ["dropped", "unknown-resource"],
  },
  {
    title: "a proxy IP of a name whose gateway resolved it",
    rig: () => confirmed("Active"),
    question: address(PROXIES_V4[0] ?? "", 5432),
    expected: ["passes", "permitted"],
    about: { name: NAME },
  },
  {
    title: "a proxy IP of a name whose gateway could not resolve it",
    rig: () => confirmed("Inactive"),
    question: address(PROXIES_V4[0] ?? "", 5432),
    expected: ["passes", "name-not-resolved-in-site"],
  },
  {
    title: "a name before anybody asked for it",
    rig: () => new Rig().init([dnsResource(1, "*.example.com", { filters: WEB })]),
    question: name(NAME, 80),
    expected: ["waits", "access-not-requested"],
    about: { destination: undefined, rule: rule("tcp", 80) },
  },
  {
    title: "a name in other spelling, by a port that no rule permits",
    rig: () => new Rig().init([dnsResource(1, "*.example.com", { filters: WEB })]),
    question: name("DB.Example.COM.", 22),
    expected: ["refused", "filter"],
  },
  {
    title: "the more specific of two patterns, if both permit",
    rig: () =>
      new Rig().init([dnsResource(1, "*.example.com"), dnsResource(2, NAME, { filters: [rule("tcp", 80)] })]),
    question: name(NAME, 80),
    expected: ["waits", "access-not-requested"],
    about: { rule: rule("tcp", 80) },
  },
  {
    title: "the less specific of two patterns, if only that permits",
    rig: () =>
      new Rig().init([dnsResource(1, "*.example.com"), dnsResource(2, NAME, { filters: [rule("tcp", 80)] })]),
    question: name(NAME, 22),
    expected: ["waits", "access-not-requested"],
    about: { rule: "any" },
  },
  {
    title: "a name that only an IPv6 resource claims",
    rig: () => new Rig().init([dnsResource(1, NAME, { ipStack: "ipv6_only" })]),
    question: name(NAME, 80),
    expected: ["waits", "access-not-requested"],
  },
  {
    title: "a name new to a connected gateway",
    rig: () => confirmed("Active"),
    question: name("web.example.com", 80),
    expected: ["waits", "name-not-announced"],
  },
  {
    title: "a name that the gateway is resolving",
    rig: announced,
    question: name(NAME, 80),
    expected: ["waits", "name-being-announced"],
    about: { destination: PROXIES_V4[0] },
  },
  {
    title: "a name that the gateway resolved",
    rig: () => confirmed("Active"),
    question: name(NAME, 80),
    expected: ["passes", "permitted"],
    about: { destination: PROXIES_V4[0] },
  },
  {
    title: "a name that the gateway could not resolve",
    rig: () => confirmed("Inactive"),
    question: name(NAME, 80),
    expected: ["waits", "name-not-resolved-in-site"],
  },
];

describe("what explain says about a packet is what becomes of it:", () => {
  for (const { title, rig: build, question, expected, about } of CASES) {
    test(title, () => {
      const rig = build();
      const explanation = explainUnchanged(rig, question);
      assert.deepEqual([explanation.verdict, explanation.reason], expected);
      for (const [key, value] of Object.entries(about ?? {})) {
        assert.deepEqual(explanation[key as keyof Explanation], value, key);
      }
      assert.deepEqual(outcomeOf(rig, explanation), seenAs(explanation));
    });
  }
});

describe("names that are not ours", () => {
  test("are looked up by the host, or through the tunnel when the portal's server is behind it", () => {
    const plain = network();
    const explanation = explainUnchanged(plain, name("public.test", 80));
    assert.deepEqual([explanation.verdict, explanation.reason], ["outside", "name-not-ours"]);
    assert.deepEqual(explanation.upstream, { server: "9.9.9.9:53", via: "host" });
    plain.ask("public.test", "A");
    assert.equal(plain.hostQueries().length, 1);

    const tunnelled = new Rig().init([cidrResource(1, "10.0.0.0/8")], { portal: [ip("10.0.0.53")] });
    assert.deepEqual(explainUnchanged(tunnelled, name("public.test", 80)).upstream, {
      server: "10.0.0.53:53",
      via: "tunnel",
    });
    tunnelled.clear().ask("public.test", "A");
    assert.equal(tunnelled.hostQueries().length, 0);
    assert.equal(tunnelled.requests().length, 1);
  });

  test("a query to our DNS server is answered, and the canary name does not exist", () => {
    const rig = network();
    for (const protocol of ["udp", "tcp"] as const) {
      const server = explainUnchanged(rig, { ...address("100.100.111.1", 53), protocol });
      assert.deepEqual([server.verdict, server.reason], ["answered", "dns-server"]);
    }
    assert.equal(rig.ask("use-application-dns.net", "A")?.rcode, "NXDOMAIN");
    const canary = explainUnchanged(rig, name("use-application-dns.net", 443));
    assert.deepEqual([canary.verdict, canary.reason], ["refused", "no-such-name"]);
  });

  test("without any DNS server no name is ours", () => {
    const rig = new Rig().init([dnsResource(1, "*.example.com")], { system: [] });
    assert.deepEqual(rig.config().dns, []);
    assert.equal(explainUnchanged(rig, name(NAME, 80)).reason, "dns-not-ours");
  });
});

test("a refusal is forgotten when the portal grants, and offline when its time is over", () => {
  const rig = refused(asked(network()), "forbidden");
  rig.portal(grant(1));
  assert.equal(explainUnchanged(rig, address("10.0.0.7", 80)).refusal, undefined);

  const offline = refused(asked(network()), "offline").advance(300_000);
  assert.equal(explainUnchanged(offline, address("10.0.0.7", 80)).reason, "access-not-requested");
});

test("status shows addresses, DNS, gateways with their traffic, and resources with the gateway of each", () => {
  const rig = connected(dnsResource(2, "*.example.com"));
  rig.tun(tcp({ from: CLIENT_V4, to: SERVER }, 5000, 80));
  const before = snapshot(rig);
  const status = rig.client.status(rig.now);
  assert.deepEqual(snapshot(rig), before);

  assert.deepEqual([status.ipv4, status.ipv6], [CLIENT_V4, CLIENT_V6]);
  assert.deepEqual(status.dns, [
    { sentinel: "100.100.111.1", upstream: { kind: "do53", server: { ip: "9.9.9.9", port: 53 } } },
  ]);
  assert.deepEqual(
    status.resources.map(({ name: called, gateway, status: of }) => [called, gateway, of]),
    [
      ["resource 1", GATEWAY.id, "online"],
      ["resource 2", undefined, "online"],
    ],
  );
  const [peer] = status.peers;
  assert.deepEqual([peer?.id, peer?.ipv4, peer?.resources], [GATEWAY.id, GATEWAY.ipv4, [resourceId(1)]]);
  const sent = rig.received(GATEWAY).length;
  assert.ok(sent > 0 && (peer?.sent.packets ?? 0) >= sent, `${peer?.sent.packets} of ${sent}`);
});

function address(to: string, port: number): Question {
  return { to: { kind: "address", address: ip(to) }, protocol: "tcp", port, from: undefined };
}

function name(to: string, port: number): Question {
  return { to: { kind: "name", name: to }, protocol: "tcp", port, from: undefined };
}

function network(...others: Parameters<Rig["init"]>[0]): Rig {
  return new Rig().init([cidrResource(1, "10.0.0.0/8", { filters: WEB }), ...others]);
}

function asked(rig: Rig): Rig {
  rig.tun(tcp({ from: CLIENT_V4, to: SERVER }, 5000, 80));
  return rig.clear();
}

function refused(rig: Rig, reason: "forbidden" | "offline"): Rig {
  const violatedProperties = ["remote_ip"];
  return rig.portal({ kind: "authorization-failed", resource: resourceId(1), reason, violatedProperties });
}

/** Access to resource 1 is granted, and its gateway connected. */
function granted(rig: Rig, to: IpAddress): Rig {
  rig.tun(packetTo(to, "tcp", 80));
  rig.portal(grant(1)).establish(GATEWAY);
  rig.received(GATEWAY);
  return rig.clear();
}

function connected(...others: Parameters<Rig["init"]>[0]): Rig {
  return granted(network(...others), SERVER);
}

function announced(): Rig {
  const rig = new Rig().init([dnsResource(1, "*.example.com")]);
  rig.ask(NAME, "A");
  return granted(rig, ip("100.96.0.1"));
}

function confirmed(status: "Active" | "Inactive"): Rig {
  const rig = announced().domainStatus(GATEWAY, { ...STATUS, status });
  rig.received(GATEWAY);
  return rig.clear();
}

/** Explains, and asserts that nothing of it can be seen: memory, events, transmits, timers. */
function explainUnchanged(rig: Rig, question: Question): Explanation {
  const before = snapshot(rig);
  const explanation = rig.client.explain(question, rig.now);
  assert.deepEqual(snapshot(rig), before);
  assert.deepEqual(structuredClone(explanation), explanation, "crosses threads");
  return explanation;
}

function snapshot(rig: Rig): unknown {
  return {
    memory: createHash("sha1").update(new Uint8Array(rig.core.memory.buffer)).digest("hex"),
    records: rig.events.length,
    calls: [...rig.connectivity.calls],
    event: rig.client.pollEvent(),
    transmit: rig.client.pollTransmit(),
    timeout: rig.client.pollTimeout(),
  };
}

interface Seen {
  readonly outcome: "passes" | "waits" | "refused" | "dropped";
  readonly drop?: string;
  readonly asksFor?: string;
}

/** What the explanation means for one who watches the packet. */
function seenAs({ verdict, reason, resource }: Explanation): Seen {
  if (verdict === "dropped") return { outcome: "dropped", drop: reason };
  if (verdict === "outside") return { outcome: "dropped", drop: "unknown-resource" };
  if (reason === "access-not-requested") return { outcome: "waits", asksFor: resource?.id ?? "" };
  return { outcome: verdict === "answered" ? "waits" : verdict };
}

/** Looks the name up if it is one, sends the packet, and watches. */
function outcomeOf(rig: Rig, { question, destination, reason }: Explanation): Seen {
  rig.clear();
  const to = question.to.kind === "name" ? lookUp(rig, question.to.name) : question.to.address;
  if (destination !== undefined) assert.equal(destination, to);
  rig.received(GATEWAY);
  rig.clear();
  const packet = packetTo(to, question.protocol, question.port);
  const disposition = rig.tun(packet);
  if (typeof disposition === "object") return { outcome: "dropped", drop: disposition.drop };
  if (rig.toTun.some(isProhibited)) return { outcome: "refused" };
  if (rig.received(GATEWAY).some((received) => Buffer.compare(received, packet) === 0)) {
    return { outcome: "passes" };
  }
  const [request] = rig.requests();
  return reason === "access-not-requested" && request !== undefined
    ? { outcome: "waits", asksFor: request.resource }
    : { outcome: "waits" };
}

function lookUp(rig: Rig, text: string): IpAddress {
  const v4 = rig.ask(text, "A")?.data[0] ?? rig.ask(text, "AAAA")?.data[0];
  assert.ok(typeof v4 === "string", "the name has an address");
  return ip(v4);
}

function packetTo(to: IpAddress, protocol: Question["protocol"], port: number): Uint8Array {
  const ends = { from: isIpv4(to) ? CLIENT_V4 : CLIENT_V6, to };
  if (protocol === "icmp") return echo(ends, 5000);
  return protocol === "tcp" ? tcp(ends, 50_000, port) : udp(ends, 50_000, port);
}

function isProhibited(packet: Uint8Array): boolean {
  const at = (packet[0] ?? 0) >> 4 === 4 ? 20 : 40;
  return at === 20 ? packet[at] === 3 && packet[at + 1] === 13 : packet[at] === 1 && packet[at + 1] === 1;
}
