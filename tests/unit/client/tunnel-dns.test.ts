import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, ip } from "../../../host/core/address.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { udpPacket } from "../../../host/core/packet/udp.ts";
import { upstreamAnswer } from "../dns/queries.ts";
import { icmpError, udp } from "../packet/packets.ts";
import {
  CLIENT_V4,
  cidrResource,
  dnsResource,
  GATEWAY,
  grant,
  internetResource,
  resourceId,
  rule,
} from "./fixtures.ts";
import { Rig } from "./rig.ts";

const SERVER = ip("10.0.0.53");
const NETWORK = cidrResource(1, "10.0.0.0/24");

/** A client whose portal-configured server is inside resource 1, and the query that went to it. */
function asked(name = "www.example.org"): { rig: Rig; query: Uint8Array } {
  const rig = new Rig().init([NETWORK], { portal: [SERVER] }).clear();
  assert.equal(rig.ask(name, "A", { id: 321 }), undefined);
  rig.portal(grant(1)).establish(GATEWAY);
  const [query] = rig.received(GATEWAY);
  assert.ok(query !== undefined);
  return { rig, query };
}

interface Change {
  readonly id?: number;
  readonly port?: number;
  readonly from?: IpAddress;
  readonly to?: IpAddress;
}

function replyTo(query: Uint8Array, change: Change = {}): Uint8Array {
  const packet = parseIpPacket(query);
  assert.ok(packet !== undefined);
  const message = upstreamAnswer(query.slice(packet.payloadOffset), { addresses: ["192.0.2.9"], ttl: 300 });
  if (change.id !== undefined) message[1] = change.id;
  const reply = udpPacket({
    source: { ip: change.from ?? packet.destination, port: packet.destinationPort },
    destination: { ip: change.to ?? packet.source, port: change.port ?? packet.sourcePort },
    payload: message,
  });
  assert.ok(reply !== undefined);
  return reply;
}

test("a query for a portal's server inside a resource asks for access and then goes through the tunnel (tunnel-core 24.26)", () => {
  const rig = new Rig().init([NETWORK], { portal: [SERVER] }).clear();
  assert.equal(rig.ask("www.example.org", "A", { id: 321 }), undefined);
  assert.deepEqual(
    rig.requests().map((request) => request.resource),
    [resourceId(1)],
  );
  rig.portal(grant(1)).establish(GATEWAY);

  const [query] = rig.received(GATEWAY);
  const packet = parseIpPacket(query!);
  assert.equal(packet?.destination, SERVER);
  assert.equal(packet?.destinationPort, 53);
  assert.equal(packet?.source, CLIENT_V4);
  assert.ok((packet?.sourcePort ?? 0) >= 49_152);

  rig.fromGateway(GATEWAY, replyTo(query!));
  assert.equal(rig.answer().id, 321);
  assert.deepEqual(rig.answer().data, ["192.0.2.9"]);
  assert.equal(parseIpPacket(rig.toTun.at(-1)!)?.source, rig.config().dns[0]?.sentinel);
  assert.deepEqual(rig.hostQueries(), []);
  assert.deepEqual(rig.ask("www.example.org", "A", { id: 5 })?.data, ["192.0.2.9"], "the cache knows it now");
});

test("the same server as a system resolver is asked by the host (tunnel-core 24.26)", () => {
  const rig = new Rig().init([NETWORK], { system: [SERVER] }).clear();
  rig.ask("www.example.org", "A");
  assert.equal(rig.hostQueries().length, 1);
  assert.deepEqual(rig.requests(), []);
});

test("while the internet resource is active every portal server is asked through the tunnel (tunnel-core 11.6)", () => {
  const rig = new Rig().init([internetResource(1)], { portal: [ip("1.1.1.1")] });
  rig.clear().ask("www.example.org", "A");
  assert.equal(rig.hostQueries().length, 1);
  rig.command({ kind: "internet-resource", active: true }).clear();
  rig.ask("www.example.com", "A");
  assert.deepEqual(rig.hostQueries(), []);
  assert.equal(rig.requests().length, 1);
});

test("no answer for 10 s gives exactly one SERVFAIL, and a later answer nothing (tunnel-core 24.27)", () => {
  const { rig, query } = asked();
  rig.clear();
  const deadline = rig.client.pollTimeout()?.at;
  assert.equal(deadline, rig.now + 10_000);
  rig.advance(9_999);
  assert.deepEqual(rig.toTun, []);
  rig.advance(1);
  assert.equal(rig.toTun.length, 1);
  assert.equal(rig.answer().rcode, "SERVFAIL");
  assert.equal(rig.answer().id, 321);
  assert.equal(rig.client.pollTimeout(), undefined);

  rig.clear().advance(20_000);
  assert.equal(rig.fromGateway(GATEWAY, replyTo(query)), "consumed");
  assert.deepEqual(rig.toTun, []);
});

test("an answer counts only from the server, to the port, with the id (tunnel-core 11.7)", () => {
  const { rig, query } = asked();
  rig.clear();
  assert.equal(rig.fromGateway(GATEWAY, replyTo(query, { id: 0x42 })), "consumed");
  const strangers = [
    replyTo(query, { port: 60_000 }),
    replyTo(query, { from: ip("10.0.0.99") }),
    replyTo(query, { to: ip("100.64.0.77") }),
  ];
  for (const stranger of strangers) assert.equal(rig.fromGateway(GATEWAY, stranger), "forward");
  assert.deepEqual(rig.toTun, strangers);

  rig.clear().fromGateway(GATEWAY, replyTo(query));
  assert.deepEqual(rig.answer().data, ["192.0.2.9"]);
});

test("an ICMP error about the exchange fails the query and stays away from the device (tunnel-core 11.7)", () => {
  const { rig, query } = asked();
  const error = icmpError({ from: SERVER, to: CLIENT_V4 }, { type: 3, code: 3 }, query, 28);
  rig.clear().fromGateway(GATEWAY, error);
  assert.equal(rig.toTun.length, 1);
  assert.equal(rig.answer().rcode, "SERVFAIL");

  const other = icmpError(
    { from: SERVER, to: CLIENT_V4 },
    { type: 3, code: 3 },
    udp({ from: CLIENT_V4, to: SERVER }, 1, 53),
    28,
  );
  rig.clear().fromGateway(GATEWAY, other);
  assert.deepEqual(rig.toTun, [other]);
});

test("a query whose server a filter refuses fails at once, with no ICMP and not on the host (tunnel-core 23 Q8)", () => {
  const rig = new Rig().init([cidrResource(1, "10.0.0.0/24", { filters: [rule("tcp", 443)] })], {
    portal: [SERVER],
  });
  rig.clear();
  assert.equal(rig.ask("www.example.org", "A")?.rcode, "SERVFAIL");
  assert.equal(rig.toTun.length, 1);
  assert.deepEqual(rig.hostQueries(), []);
  assert.deepEqual(rig.requests(), []);
  assert.equal(rig.client.pollTimeout(), undefined);
});

test("SRV and TXT of a resource ask for access, then the gateway's DNS server, and keep the connection (tunnel-core 17.10)", () => {
  const rig = new Rig().init([dnsResource(1, "*.example.com"), cidrResource(2, "172.16.0.0/12")]).clear();
  assert.equal(rig.ask("_db.example.com", "SRV", { id: 1 }), undefined);
  assert.equal(rig.ask("db.example.com", "TXT", { id: 2 }), undefined);
  assert.equal(rig.requests().length, 1);
  rig.portal(grant(1)).establish(GATEWAY);

  const queries = rig.received(GATEWAY);
  const targets = queries
    .map((bytes) => parseIpPacket(bytes))
    .map((packet) => `${packet?.destination}:${packet?.destinationPort}`);
  assert.deepEqual(targets, ["100.64.0.2:53535", "100.64.0.2:53535"]);
  assert.equal(new Set(queries.map((bytes) => parseIpPacket(bytes)?.sourcePort)).size, 2);

  assert.equal(rig.ask("other.example.com", "TXT", { id: 3 }), undefined);
  assert.equal(rig.received(GATEWAY).length, 1, "with access the query goes out at once");

  rig.tun(udp({ from: CLIENT_V4, to: ip("172.16.0.1") }, 1, 9));
  rig.portal(grant(2)).portal({ kind: "resource-deleted", resource: resourceId(2) });
  assert.ok(
    !rig.connectivity.calls.includes(`close ${GATEWAY.id}`),
    "the site's DNS still needs the gateway",
  );
});

test("at most 1024 queries are in the tunnel, further ones fail (tunnel-core 2.5)", () => {
  const { rig } = asked();
  rig.clear();
  for (let i = 1; i < 1024; i++) assert.equal(rig.ask(`n${i}.example.org`, "A"), undefined);
  assert.equal(rig.ask("one-too-many.example.org", "A")?.rcode, "SERVFAIL");
});
