import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip, type SocketAddress } from "../../../host/core/address.ts";
import { frameMessage, takeMessage } from "../../../host/core/dns/stream-framing.ts";
import type { TcpConnection } from "../../../host/core/netstack/connection.ts";
import { TcpStack } from "../../../host/core/netstack/stack.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { SeededRandom } from "../../sim/random.ts";
import { decodeResponse, queryBytes, upstreamAnswer } from "../dns/queries.ts";
import { icmpError } from "../packet/packets.ts";
import {
  CLIENT_V4,
  cidrResource,
  clientInterface,
  dnsResource,
  GATEWAY,
  grant,
  PROXIES_V4,
  resourceId,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const SERVER = ip("10.0.0.53");
const NETWORK = cidrResource(1, "10.0.0.0/24");

/** Programs on the client's machine that ask the first sentinel over TCP. */
class Applications {
  readonly #rig: Rig;
  readonly #stack = new TcpStack(new SeededRandom(7), { perLocal: 1, total: 100 });
  #nextPort = 40_000;

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  connect(): TcpConnection {
    const sentinel = this.#rig.config().dns[0]?.sentinel;
    assert.ok(sentinel !== undefined);
    const local = { ip: CLIENT_V4, port: this.#nextPort++ };
    const connection = this.#stack.open({ local, remote: { ip: sentinel, port: 53 } }, this.#rig.now);
    assert.ok(connection !== undefined);
    this.exchange();
    return connection;
  }

  ask(connection: TcpConnection, ...queries: readonly Uint8Array[]): void {
    for (const query of queries) assert.ok(connection.send(frameMessage(query), this.#rig.now));
    this.exchange();
  }

  /** Carries packets to the client and back until nobody has any more to say. */
  exchange(): void {
    for (;;) {
      const packets = this.#rig.toTun.splice(0);
      for (const bytes of packets) this.#receive(bytes);
      let wasIdle = packets.length === 0;
      for (let next = this.#stack.pollPacket(this.#rig.now); next !== undefined; ) {
        this.#rig.tun(next);
        wasIdle = false;
        next = this.#stack.pollPacket(this.#rig.now);
      }
      if (wasIdle) return;
    }
  }

  /** The answers that have arrived. */
  answers(connection: TcpConnection) {
    this.exchange();
    const answers: Uint8Array[] = [];
    for (let next = takeMessage(connection); next !== undefined; next = takeMessage(connection))
      answers.push(next);
    this.exchange();
    return answers.map(decodeResponse);
  }

  #receive(bytes: Uint8Array): void {
    const packet = parseIpPacket(bytes);
    assert.ok(packet?.kind === "tcp", "only TCP is expected");
    const ends = {
      local: { ip: packet.destination, port: packet.destinationPort },
      remote: { ip: packet.source, port: packet.sourcePort },
    };
    this.#stack.handleReply(packet, ends, this.#rig.now);
  }
}

/** A DNS server inside the tunnel, at the other end of the gateway. */
class SiteServer {
  readonly #rig: Rig;
  readonly stack = new TcpStack(new SeededRandom(8), { perLocal: 10, total: 10 });
  /** Where the client connected to. */
  readonly targets: SocketAddress[] = [];

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  exchange(): void {
    for (;;) {
      const packets = this.#rig.received(GATEWAY).map((bytes) => parseIpPacket(bytes));
      for (const packet of packets) {
        if (packet?.kind !== "tcp") continue;
        assert.equal(packet.source, CLIENT_V4);
        assert.ok(packet.sourcePort >= 49_152);
        if (packet.tcpFlags === 2)
          this.targets.push({ ip: packet.destination, port: packet.destinationPort });
        this.stack.handlePacket(packet, this.#rig.now);
      }
      let wasIdle = packets.length === 0;
      for (let next = this.stack.pollPacket(this.#rig.now); next !== undefined; ) {
        this.#rig.fromGateway(GATEWAY, next);
        wasIdle = false;
        next = this.stack.pollPacket(this.#rig.now);
      }
      if (wasIdle) return;
    }
  }

  get connection(): TcpConnection {
    const [connection] = this.stack.connections();
    assert.ok(connection !== undefined, "nobody connected");
    return connection;
  }

  queries(): Uint8Array[] {
    this.exchange();
    const queries: Uint8Array[] = [];
    for (let next = takeMessage(this.connection); next !== undefined; next = takeMessage(this.connection)) {
      queries.push(next);
    }
    return queries;
  }

  reply(message: Uint8Array): void {
    assert.ok(this.connection.send(frameMessage(message), this.#rig.now));
    this.exchange();
  }
}

function start(rig: Rig): { rig: Rig; applications: Applications; site: SiteServer } {
  rig.clear();
  return { rig, applications: new Applications(rig), site: new SiteServer(rig) };
}

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `192.0.${i >> 8}.${i & 255}`);
}

test("names of resources are answered over TCP as over UDP, several queries in a row (tunnel-core 11.9)", () => {
  const { applications } = start(new Rig().init([dnsResource(1, "*.example.com")]));
  const connection = applications.connect();
  applications.ask(connection, queryBytes("a.example.com", "A", 1), queryBytes("a.example.com", "A", 1));
  applications.ask(connection, queryBytes("use-application-dns.net", "A", 2));

  const [first, again, canary] = applications.answers(connection);
  assert.deepEqual(first?.data, PROXIES_V4);
  assert.deepEqual(again, first);
  assert.equal(canary?.rcode, "NXDOMAIN");
  assert.equal(canary?.id, 2);
});

test("the host is asked over TCP, answers have up to 65535 bytes, a timeout is SERVFAIL (tunnel-core 11.6)", () => {
  const { rig, applications } = start(new Rig().init([]));
  const connection = applications.connect();
  applications.ask(connection, queryBytes("big.example.org", "A", 1), queryBytes("late.example.org", "A", 2));
  const [big, late] = rig.hostQueries();
  assert.equal(big?.transport, "tcp");
  assert.equal(late?.transport, "tcp");

  rig.command({ kind: "host-dns-result", id: late!.id, result: { kind: "timeout" } });
  const [failure] = applications.answers(connection);
  assert.deepEqual([failure?.id, failure?.rcode], [2, "SERVFAIL"]);

  const message = new Uint8Array(65_535);
  message.set(upstreamAnswer(big!.message, { addresses: addresses(1700), ttl: 60 }));
  rig.command({ kind: "host-dns-result", id: big!.id, result: { kind: "answer", message } });
  applications.exchange();
  assert.deepEqual(takeMessage(connection), message);
});

test("no query is read while an answer still waits to be sent (tunnel-core 11.9)", () => {
  const { rig, applications } = start(new Rig().init([]));
  const connection = applications.connect();
  applications.ask(connection, queryBytes("one.example.org", "A", 1));
  const message = upstreamAnswer(rig.hostQueries()[0]!.message, { addresses: addresses(2000), ttl: 60 });
  rig.command({ kind: "host-dns-result", id: rig.hostQueries()[0]!.id, result: { kind: "answer", message } });

  // The application says this before it acknowledges anything.
  connection.send(frameMessage(queryBytes("two.example.org", "A", 2)), rig.now);
  rig.tun(nextPacket(connection, rig));
  assert.equal(rig.hostQueries().length, 1);
  applications.exchange();
  assert.equal(rig.hostQueries().length, 2);
});

function nextPacket(connection: TcpConnection, rig: Rig): Uint8Array {
  const packet = connection.pollPacket(rig.now);
  assert.ok(packet !== undefined);
  return packet;
}

test("what is no query resets the connection; what is none for a mapped sentinel gets no listener", () => {
  const { applications } = start(new Rig().init([]));
  const connection = applications.connect();
  applications.ask(connection, new Uint8Array(20));
  assert.equal(connection.state, "closed");
});

test("a half-closed connection still gets its answers, then closes", () => {
  const { rig, applications } = start(new Rig().init([]));
  const connection = applications.connect();
  applications.ask(connection, queryBytes("www.example.org", "A", 1));
  connection.close(rig.now);
  applications.exchange();
  assert.equal(connection.state, "fin-wait-2");
  const query = rig.hostQueries()[0]!;
  const message = upstreamAnswer(query.message, { addresses: ["192.0.2.9"], ttl: 60 });
  rig.command({ kind: "host-dns-result", id: query.id, result: { kind: "answer", message } });
  applications.exchange();
  assert.equal(connection.state, "closed", "our own stack resets on data behind its FIN");
});

test("an idle connection is closed after 30 s, an eleventh is refused, new addresses end them all", () => {
  const { rig, applications } = start(new Rig().init([]));
  const connections = Array.from({ length: 11 }, () => applications.connect());
  assert.deepEqual(
    connections.map(({ state }) => state),
    [...Array(10).fill("established"), "closed"],
  );
  rig.advance(30_000);
  applications.exchange();
  assert.equal(connections[0]?.state, "close-wait");

  const fresh = start(new Rig().init([]));
  const connection = fresh.applications.connect();
  const moved = { ...clientInterface, ipv4: ip("100.64.0.9") };
  fresh.rig.portal({ kind: "config-changed", interface: moved });
  fresh.applications.exchange();
  assert.equal(connection.state, "closed");
});

/** A client whose portal-configured server is inside resource 1; a query went to it by TCP. */
function asked(...names: readonly string[]) {
  const parts = start(new Rig().init([NETWORK], { portal: [SERVER] }));
  const connection = parts.applications.connect();
  parts.applications.ask(connection, ...names.map((name) => queryBytes(name, "A", 7)));
  assert.deepEqual(
    parts.rig.requests().map((request) => request.resource),
    [resourceId(1)],
  );
  parts.rig.portal(grant(1)).establish(GATEWAY);
  parts.site.exchange();
  return { ...parts, connection };
}

test("TCP queries share one connection to a server in the tunnel, with ids of our own (tunnel-core 11.7)", () => {
  const { applications, connection, site } = asked("a.example.org", "b.example.org");
  const queries = site.queries();
  assert.deepEqual(site.targets, [{ ip: SERVER, port: 53 }]);
  const ids = queries.map((query) => decodeResponse(query).id);
  assert.equal(new Set(ids).size, 2, "the application used one id twice");

  for (const query of queries.toReversed()) {
    site.reply(upstreamAnswer(query, { addresses: ["192.0.2.9"], ttl: 60 }));
  }
  const answers = applications.answers(connection);
  assert.deepEqual(
    answers.map(({ name }) => name),
    ["b.example.org", "a.example.org"],
  );
  assert.deepEqual(
    answers.map(({ id }) => id),
    [7, 7],
  );
});

test("no answer by TCP for 10 s is SERVFAIL; an unused connection is closed (tunnel-core 11.7)", () => {
  const { rig, applications, connection, site } = asked("a.example.org");
  assert.equal(site.queries().length, 1);
  rig.advance(9_999);
  assert.deepEqual(applications.answers(connection), []);
  rig.advance(1);
  assert.deepEqual(
    applications.answers(connection).map(({ rcode }) => rcode),
    ["SERVFAIL"],
  );
  rig.advance(10_000);
  site.exchange();
  assert.equal(site.connection.state, "close-wait");
  site.connection.close(rig.now);
  site.exchange();
  assert.equal(site.stack.size, 0);
});

test("pending tunnelled TCP queries fail at a reset, each asker hears of it (tunnel-core 24.69)", () => {
  const { rig, applications, connection } = asked("a.example.org", "b.example.org");
  const other = applications.connect();
  applications.ask(other, queryBytes("c.example.org", "A", 3));
  rig.command({ kind: "reset", privateKey: new Uint8Array(32) });

  const failures = [connection, other].map((one) => applications.answers(one).map(({ rcode }) => rcode));
  assert.deepEqual(failures, [["SERVFAIL", "SERVFAIL"], ["SERVFAIL"]]);
});

test("a server that refuses or cannot be reached fails the query; late packets stay away from the device", () => {
  const refused = start(new Rig().init([NETWORK], { portal: [SERVER] }));
  const connection = refused.applications.connect();
  refused.applications.ask(connection, queryBytes("a.example.org", "A", 7));
  refused.rig.portal(grant(1)).establish(GATEWAY);
  const [syn] = refused.rig.received(GATEWAY);
  const unreachable = { type: 3, code: 1 };
  refused.rig.fromGateway(GATEWAY, icmpError({ from: SERVER, to: CLIENT_V4 }, unreachable, syn!, 28));
  assert.deepEqual(
    refused.applications.answers(connection).map(({ rcode }) => rcode),
    ["SERVFAIL"],
  );
  const late = new SiteServer(refused.rig);
  late.stack.handlePacket(parseIpPacket(syn!)!, refused.rig.now);
  late.exchange();
  refused.applications.exchange();
});

test("SRV of a resource over TCP asks the gateway's own DNS server by TCP (tunnel-core 17.10)", () => {
  const { rig, applications, site } = start(new Rig().init([dnsResource(1, "*.example.com")]));
  const connection = applications.connect();
  applications.ask(connection, queryBytes("_db.example.com", "SRV", 1));
  rig.portal(grant(1)).establish(GATEWAY);
  const [query] = site.queries();
  assert.deepEqual(site.targets, [{ ip: GATEWAY.ipv4 as IpAddress, port: 53535 }]);
  site.reply(upstreamAnswer(query!, { addresses: [], ttl: 1 }));
  assert.deepEqual(
    applications.answers(connection).map(({ id, rcode }) => `${id} ${rcode}`),
    ["1 NOERROR"],
  );
});
