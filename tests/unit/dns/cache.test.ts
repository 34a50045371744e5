import assert from "node:assert/strict";
import { test } from "node:test";
import { CACHE_ENTRIES, DnsCache } from "../../../host/core/dns/cache.ts";
import { decodeAnswer } from "../../../host/core/dns/message.ts";
import { decodeResponse, query, upstreamAnswer } from "./queries.ts";

function store(cache: DnsCache, name: string, ttl: number, { now = 1000, flags = 0 } = {}): void {
  const asked = query(name, "A", 1);
  const answer = decodeAnswer(upstreamAnswer(asked.bytes, { addresses: ["192.0.2.1"], ttl, flags }), asked);
  assert.ok(answer !== undefined);
  cache.insert(asked, answer, now);
}

test("an answer with TTL 3600 is given again 100 s later with TTL 3500 and the new id (tunnel-core 24.22)", () => {
  const cache = new DnsCache();
  store(cache, "example.com", 3600);

  const again = cache.lookup(query("example.com", "A", 99), 101_000);
  assert.ok(again !== undefined);
  assert.deepEqual(decodeResponse(again).ttls, [3500]);
  assert.equal(decodeResponse(again).id, 99);
});

test("TTL 4 is not kept, TTL 5 is (tunnel-core 24.22)", () => {
  const cache = new DnsCache();
  store(cache, "four.example", 4);
  store(cache, "five.example", 5);

  assert.equal(cache.lookup(query("four.example", "A"), 1000), undefined);
  assert.ok(cache.lookup(query("five.example", "A"), 1000) !== undefined);
});

test("an answer is gone once its TTL passed, and names and types are kept apart (tunnel-core 11.8)", () => {
  const cache = new DnsCache();
  store(cache, "example.com", 60);

  assert.ok(cache.lookup(query("EXAMPLE.com", "A"), 60_999) !== undefined);
  assert.equal(cache.lookup(query("example.com", "AAAA"), 2000), undefined);
  assert.equal(cache.lookup(query("example.com", "A"), 61_000), undefined);
});

test("truncated answers and failures are not kept (tunnel-core 11.8)", () => {
  const cache = new DnsCache();
  store(cache, "truncated.example", 60, { flags: 0x0200 });
  store(cache, "missing.example", 60, { flags: 3 });

  assert.equal(cache.lookup(query("truncated.example", "A"), 1000), undefined);
  assert.equal(cache.lookup(query("missing.example", "A"), 1000), undefined);
});

test("the cache keeps its limit by dropping what was stored first", () => {
  const cache = new DnsCache();
  for (let i = 0; i <= CACHE_ENTRIES; i++) store(cache, `n${i}.example`, 60);

  assert.equal(cache.lookup(query("n0.example", "A"), 1000), undefined);
  assert.ok(cache.lookup(query("n1.example", "A"), 1000) !== undefined);
  assert.ok(cache.lookup(query(`n${CACHE_ENTRIES}.example`, "A"), 1000) !== undefined);
});
