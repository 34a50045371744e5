import assert from "node:assert/strict";
import { test } from "node:test";
import { cidr, cidrText, contains, ip } from "../../../host/core/address.ts";
import type { ResourceId } from "../../../host/core/id.ts";
import type { Identity } from "../../../host/core/packet-core.ts";
import { parsePattern } from "../../../host/core/policy/pattern.ts";
import { type RouteEntry, RoutingTable } from "../../../host/core/policy/routing-table.ts";

const R1 = "r1" as ResourceId;
const R2 = "r2" as ResourceId;
const TCP_22: Identity = { kind: "tcp", port: 22 };
const TCP_80: Identity = { kind: "tcp", port: 80 };

/** Filter 0 permits everything, any other number only that port. */
const permits = (filter: number, identity: Identity) =>
  filter === 0 || ("port" in identity && identity.port === filter);

test("the longer prefix wins only where its filter permits (tunnel-core 24.41)", () => {
  const table = new RoutingTable<RouteEntry>();
  table.insert(cidr("10.0.0.0/8"), { resource: R1, filter: 0 });
  table.insert(cidr("10.20.0.0/16"), { resource: R2, filter: 22 });

  assert.equal(table.best(ip("10.20.0.1"), TCP_80, permits)?.resource, R1);
  assert.equal(table.best(ip("10.20.0.1"), TCP_22, permits)?.resource, R2);
  assert.equal(table.best(ip("10.21.0.1"), TCP_22, permits)?.resource, R1);
});

test("the best entry is returned even if every filter refuses (tunnel-core 15.3)", () => {
  const table = new RoutingTable<RouteEntry>();
  table.insert(cidr("10.0.0.0/8"), { resource: R1, filter: 443 });
  table.insert(cidr("10.20.0.0/16"), { resource: R2, filter: 22 });

  assert.equal(table.best(ip("10.20.0.1"), TCP_80, permits)?.resource, R2);
});

test("of equal networks the higher resource id wins, whatever the order of insertion (tunnel-core 15.3)", () => {
  for (const order of [
    [R1, R2],
    [R2, R1],
  ]) {
    const table = new RoutingTable<RouteEntry>();
    for (const resource of order) table.insert(cidr("fd00:1::/32"), { resource, filter: 0 });
    assert.equal(table.best(ip("fd00:1::1"), TCP_80, permits)?.resource, R2);
  }
});

test("a more specific pattern beats a higher resource id (tunnel-core 15.3)", () => {
  const table = new RoutingTable<RouteEntry>();
  const proxy = cidr("100.96.0.1");
  table.insert(proxy, { resource: R1, filter: 0, pattern: parsePattern("a.example.com") });
  table.insert(proxy, { resource: R2, filter: 0, pattern: parsePattern("*.example.com") });

  assert.equal(table.best(ip("100.96.0.1"), TCP_80, permits)?.resource, R1);
});

test("changes are seen at once although matches are remembered", () => {
  const table = new RoutingTable<RouteEntry>();
  assert.equal(table.best(ip("10.0.0.1"), TCP_80, permits), undefined);

  table.insert(cidr("10.0.0.0/8"), { resource: R1, filter: 0 });
  assert.equal(table.best(ip("10.0.0.1"), TCP_80, permits)?.resource, R1);

  table.insert(cidr("10.0.0.0/8"), { resource: R1, filter: 443 });
  assert.equal(table.best(ip("10.0.0.1"), TCP_80, permits)?.filter, 443);

  assert.equal(table.removeResource(R1), true);
  assert.equal(table.best(ip("10.0.0.1"), TCP_80, permits), undefined);
  assert.equal(table.isEmpty, true);
  assert.equal(table.covers(ip("10.0.0.1")), false);
});

test("removing one network of a resource leaves its others", () => {
  const table = new RoutingTable<RouteEntry>();
  table.insert(cidr("0.0.0.0/0"), { resource: R1, filter: 0 });
  table.insert(cidr("::/0"), { resource: R1, filter: 0 });
  table.insert(cidr("::/0"), { resource: R2, filter: 0 });

  assert.equal(table.remove(cidr("::/0"), R1), true);
  assert.equal(table.remove(cidr("::/0"), R1), false);
  assert.deepEqual(table.networks().map(cidrText).sort(), ["0.0.0.0/0", "::/0"]);
  assert.equal(table.best(ip("2001:db8::1"), TCP_80, permits)?.resource, R2);
  assert.equal(table.best(ip("192.0.2.1"), TCP_80, permits)?.resource, R1);
});

test("ten thousand networks agree with a naive list", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const next = generator(seed);
  const table = new RoutingTable<RouteEntry>();
  const list: { network: ReturnType<typeof cidr>; resource: ResourceId }[] = [];
  for (let i = 0; i < 10_000; i++) {
    const prefix = 8 + Math.floor(next() * 25);
    const bits = (10 * 2 ** 24 + Math.floor(next() * 2 ** 16) * 256 + Math.floor(next() * 256)) >>> 0;
    const masked = (bits & (prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0)) >>> 0;
    const network = cidr(
      `${masked >>> 24}.${(masked >>> 16) & 255}.${(masked >>> 8) & 255}.${masked & 255}/${prefix}`,
    );
    const resource = String(i).padStart(5, "0") as ResourceId;
    table.insert(network, { resource, filter: 0 });
    list.push({ network, resource });
  }

  for (let i = 0; i < 200; i++) {
    const address = ip(
      `10.${Math.floor(next() * 256)}.${Math.floor(next() * 256)}.${Math.floor(next() * 256)}`,
    );
    const expected = list
      .filter(({ network }) => contains(network, address))
      .sort((a, b) => b.network.prefix - a.network.prefix || (a.resource < b.resource ? 1 : -1))[0];
    assert.equal(
      table.best(address, TCP_80, permits)?.resource,
      expected?.resource,
      `SEED=${seed} ${address}`,
    );
  }
});

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
