import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { Sentinels } from "../../../host/core/dns/sentinels.ts";

const mappingText = (sentinels: Sentinels) =>
  sentinels.mapping.map(
    ({ sentinel, upstream }) => `${sentinel}>${upstream.kind === "do53" ? upstream.server.ip : upstream.url}`,
  );

test("a changed list gets sentinels that were not in use; a new order changes nothing (tunnel-core 24.23)", () => {
  const sentinels = new Sentinels();
  assert.equal(sentinels.update({ portal: [ip("1.1.1.1"), ip("8.8.8.8")], doh: [], system: [] }), true);
  assert.deepEqual(mappingText(sentinels), ["100.100.111.1>1.1.1.1", "100.100.111.2>8.8.8.8"]);

  assert.equal(sentinels.update({ portal: [ip("8.8.8.8"), ip("1.1.1.1")], doh: [], system: [] }), false);
  assert.deepEqual(mappingText(sentinels), ["100.100.111.1>1.1.1.1", "100.100.111.2>8.8.8.8"]);

  assert.equal(sentinels.update({ portal: [ip("1.1.1.1")], doh: [], system: [] }), true);
  assert.deepEqual(mappingText(sentinels), ["100.100.111.3>1.1.1.1"]);
});

test("our own sentinels and duplicates are removed from the system's list (tunnel-core 24.24)", () => {
  const sentinels = new Sentinels();
  sentinels.update({ portal: [], doh: [], system: [ip("100.100.111.1"), ip("9.9.9.9"), ip("9.9.9.9")] });

  assert.deepEqual(mappingText(sentinels), ["100.100.111.1>9.9.9.9"]);
  assert.equal(sentinels.arePortals, false);
});

test("the portal's servers win over the system's, and each family has its sentinels (tunnel-core 11.1)", () => {
  const sentinels = new Sentinels();
  sentinels.update({ portal: [ip("2606:4700::1111"), ip("1.1.1.1")], doh: [], system: [ip("9.9.9.9")] });

  assert.deepEqual(mappingText(sentinels), [
    "fd00:2021:1111:8000:100:100:111:0>2606:4700::1111",
    "100.100.111.1>1.1.1.1",
  ]);
  assert.equal(sentinels.arePortals, true);
  assert.deepEqual(sentinels.upstreamOf(ip("100.100.111.1")), {
    kind: "do53",
    server: { ip: "1.1.1.1", port: 53 },
  });
  assert.equal(sentinels.upstreamOf(ip("100.100.111.2")), undefined);
});

test("at most 254 servers of IPv4 get a sentinel, and the excess is not seen as a change (tunnel-core 11.2)", () => {
  const servers = Array.from({ length: 300 }, (_, i) => ip(`10.0.${i >> 8}.${i & 255}`));
  const sentinels = new Sentinels();
  sentinels.update({ portal: servers, doh: [], system: [] });

  assert.equal(sentinels.mapping.length, 254);
  assert.equal(sentinels.update({ portal: servers, doh: [], system: [] }), false);
});

test("servers of DNS over HTTPS come between the portal's and the system's, on IPv4 sentinels (tunnel-core 11.2)", () => {
  const sentinels = new Sentinels();
  const doh = ["https://one.example/q", "https://two.example/q", "https://one.example/q"];
  sentinels.update({ portal: [], doh, system: [ip("9.9.9.9")] });
  assert.deepEqual(mappingText(sentinels), [
    "100.100.111.1>https://one.example/q",
    "100.100.111.2>https://two.example/q",
  ]);
  assert.equal(sentinels.arePortals, false, "they are never asked through the tunnel");
  sentinels.update({ portal: [ip("1.1.1.1")], doh, system: [] });
  assert.deepEqual(mappingText(sentinels), ["100.100.111.3>1.1.1.1"]);
});
