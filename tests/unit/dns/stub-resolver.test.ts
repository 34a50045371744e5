import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { StubResolver, type StubVerdict } from "../../../host/core/dns/stub-resolver.ts";
import type { ResourceId } from "../../../host/core/id.ts";
import { parsePattern } from "../../../host/core/policy/pattern.ts";
import type { IpStack } from "../../../host/core/policy/resource.ts";
import { decodeResponse, query } from "./queries.ts";

const R0 = "00000000-0000-0000-0000-000000000000" as ResourceId;
const R1 = "11111111-1111-1111-1111-111111111111" as ResourceId;

function resource(id: ResourceId, address: string, ipStack: IpStack = "dual") {
  const pattern = parsePattern(address);
  assert.ok(pattern !== undefined);
  return { id, pattern, ipStack };
}

function answerOf(verdict: StubVerdict) {
  assert.equal(verdict.kind, "answer");
  return decodeResponse(verdict.kind === "answer" ? verdict.response : new Uint8Array(0));
}

function assignedBy(verdict: StubVerdict): number {
  return verdict.kind === "answer" ? verdict.assigned.length : -1;
}

const V4 = ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"];
const V6 = [
  "fd00:2021:1111:8000::",
  "fd00:2021:1111:8000::1",
  "fd00:2021:1111:8000::2",
  "fd00:2021:1111:8000::3",
];

test("a dual-stack name gets the first four addresses of each family with TTL 1 (tunnel-core 24.11)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "example.com"));

  const verdict = stub.resolve(query("example.com", "A"));
  assert.deepEqual(answerOf(verdict).data, V4);
  assert.deepEqual(answerOf(verdict).ttls, [1, 1, 1, 1]);
  assert.deepEqual(stub.records(), [
    { name: "example.com", ipv4: V4, ipv6: V6, claims: [{ resource: R0, pattern: "example.com" }] },
  ]);
  assert.deepEqual(answerOf(stub.resolve(query("example.com", "AAAA"))).data, V6);
});

test("a repeated query gets the same answer and makes nothing new (tunnel-core 24.12)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "example.com"));
  assert.equal(assignedBy(stub.resolve(query("example.com", "A"))), 1);

  const again = stub.resolve(query("EXAMPLE.com", "A"));
  assert.deepEqual(answerOf(again).data, V4);
  assert.equal(assignedBy(again), 0);
});

test("A for an ipv6_only resource is empty, not an error (tunnel-core 24.13)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "example.com", "ipv6_only"));

  const answer = answerOf(stub.resolve(query("example.com", "A")));
  assert.equal(answer.rcode, "NOERROR");
  assert.deepEqual(answer.counts, [1, 0, 0, 0]);
  assert.deepEqual(answerOf(stub.resolve(query("example.com", "AAAA"))).data, V6);
});

test("the canary name does not exist, whatever is asked and configured (tunnel-core 24.14)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "**"));
  for (const type of ["A", "AAAA", "MX", "HTTPS", "PTR"]) {
    const asked =
      type === "HTTPS"
        ? query("use-application-dns.net", "UNKNOWN_65")
        : query("use-application-dns.net", type);
    const answer = answerOf(stub.resolve(asked));
    assert.equal(answer.rcode, "NXDOMAIN");
    assert.deepEqual(answer.counts, [1, 0, 0, 0]);
  }
});

test("HTTPS is answered empty; types that are no addresses go upstream (tunnel-core 24.15)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "example.com"));

  const https = answerOf(stub.resolve(query("example.com", "UNKNOWN_65")));
  assert.equal(https.rcode, "NOERROR");
  assert.deepEqual(https.counts, [1, 0, 0, 0]);
  for (const type of ["MX", "NS", "CNAME", "SOA", "UNKNOWN_64", "CAA", "NAPTR", "ANY"]) {
    assert.equal(stub.resolve(query("example.com", type)).kind, "recurse", type);
  }
  assert.equal(stub.records().length, 0);
});

test("SRV and TXT are resolved in the site of the most specific resource (tunnel-core 11.5)", () => {
  const stub = new StubResolver();
  stub.add(resource(R1, "*.example.com"));
  stub.add(resource(R0, "db.example.com"));

  for (const type of ["SRV", "TXT"]) {
    assert.deepEqual(stub.resolve(query("db.example.com", type)), { kind: "resolve-in-site", resource: R0 });
  }
});

test("PTR of a proxy IP names what it stands for; any other is recursed (tunnel-core 24.16)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "db.example.com"));
  stub.add(resource(R1, "**.arpa"));
  stub.resolve(query("db.example.com", "A"));

  const answer = answerOf(stub.resolve(query("1.0.96.100.in-addr.arpa", "PTR")));
  assert.deepEqual(answer.data, ["db.example.com"]);
  assert.equal(stub.resolve(query("200.0.96.100.in-addr.arpa", "PTR")).kind, "recurse");
});

test("names of no resource are recursed (tunnel-core 11.5)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "example.com"));
  assert.equal(stub.resolve(query("example.org", "A")).kind, "recurse");
});

test("restored names keep their addresses, and new names come after them (tunnel-core 24.20)", () => {
  const first = new StubResolver();
  first.add(resource(R0, "*.example.com"));
  first.resolve(query("a.example.com", "A"));
  first.resolve(query("b.example.com", "A"));

  const second = new StubResolver();
  second.restore(first.records());
  assert.equal(second.add(resource(R0, "*.example.com")).length, 2);
  assert.deepEqual(answerOf(second.resolve(query("c.example.com", "A"))).data[0], "100.96.0.9");
  assert.deepEqual(answerOf(second.resolve(query("a.example.com", "A"))).data, V4);
  assert.deepEqual(second.records().slice(0, 2), first.records());
});

test("resources that match one name share its addresses, and the second claim is new (tunnel-core 11.5)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "*.example.com", "ipv4_only"));
  stub.resolve(query("a.example.com", "A"));
  stub.add(resource(R1, "a.example.com", "ipv6_only"));

  const verdict = stub.resolve(query("a.example.com", "AAAA"));
  assert.deepEqual(answerOf(verdict).data, V6);
  assert.equal(assignedBy(verdict), 1);
  const claims = stub.assignmentsFor("a.example.com");
  assert.deepEqual(
    claims.map(({ resource, proxyIps }) => ({ resource, proxyIps })),
    [
      { resource: R0, proxyIps: V4.map(ip) },
      { resource: R1, proxyIps: V6.map(ip) },
    ],
  );
});

test("a resource under a new pattern forgets the names of its old one (tunnel-core 6.2)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "*.example.com"));
  stub.resolve(query("a.example.com", "A"));
  stub.remove(R0);

  assert.deepEqual(stub.add(resource(R0, "*.example.org")), []);
  assert.equal(stub.resolve(query("a.example.com", "A")).kind, "recurse");
  assert.deepEqual(stub.records()[0]?.claims, []);
});

test("a resource that comes back finds its names again (tunnel-core 6.2)", () => {
  const stub = new StubResolver();
  stub.add(resource(R0, "*.example.com"));
  stub.resolve(query("a.example.com", "A"));
  stub.remove(R0);

  const assignments = stub.add(resource(R0, "*.example.com"));
  assert.deepEqual(
    assignments.map((assignment) => assignment.name),
    ["a.example.com"],
  );
});

test("sentinels are never handed out as proxy IPs (tunnel-core 2.1)", () => {
  const stub = new StubResolver();
  // 100.96.0.1 … 100.100.110.255.
  const before = 4 * 65536 + 111 * 256 - 1;
  const addresses = Array.from({ length: before - 3 }, (_, i) =>
    ip(`100.${96 + ((i + 1) >> 16)}.${((i + 1) >> 8) & 255}.${(i + 1) & 255}`),
  );
  for (let i = 0; i < addresses.length; i += 4) {
    stub.restore([{ name: `n${i}.example.com`, ipv4: addresses.slice(i, i + 4), ipv6: [], claims: [] }]);
  }
  stub.add(resource(R0, "*.example.com"));
  const data = answerOf(stub.resolve(query("new.example.com", "A"))).data;
  assert.deepEqual(data, ["100.100.110.253", "100.100.110.254", "100.100.110.255", "100.100.112.0"]);
});
