import assert from "node:assert/strict";
import { test } from "node:test";
import { hostOf, IPV4_RESOURCES, ip } from "../../../host/core/address.ts";
import { ClientOnGateway } from "../../../host/core/gateway/client-on-gateway.ts";
import { isInternetAddress } from "../../../host/core/gateway/internet.ts";
import { MAX_TRANSLATIONS, Translations } from "../../../host/core/gateway/translations.ts";
import { WallClock } from "../../../host/core/gateway/wall-clock.ts";
import { FilterPool } from "../../../host/core/policy/filter.ts";
import { loadPacketCore } from "../../../host/wasm/loader.ts";
import { MODULE } from "./bench.ts";
import { ALICE, dnsResource, PROXIES, PROXIES_V4, PROXIES_V6, resourceId, rule } from "./fixtures.ts";

const RESOURCE = resourceId(1);

test("maps each family round robin in ascending order", () => {
  const translations = new Translations();
  translations.assign("a.b", RESOURCE, [...PROXIES].reverse(), [
    ip("10.0.0.10"),
    ip("10.0.0.9"),
    ip("2001:db8::1"),
    ip("10.0.0.9"),
  ]);
  assert.deepEqual(
    PROXIES.map((proxy) => translations.get(proxy)?.real),
    ["10.0.0.9", "10.0.0.10", "10.0.0.9", "10.0.0.10", ...Array(4).fill("2001:db8::1")],
  );
});

test("tells whether an existing mapping changed", () => {
  const translations = new Translations();
  const assign = (...reals: string[]) => translations.assign("a.b", RESOURCE, PROXIES, reals.map(ip)).changed;
  assert.equal(assign("10.0.0.1", "10.0.0.2"), false, "new");
  assert.equal(assign("10.0.0.2", "10.0.0.1"), false, "the same set");
  assert.equal(assign("10.0.0.2"), true);
  assert.equal(assign("10.0.0.2", "2001:db8::1"), true);
  assert.equal(assign(), true);
});

test("a conflict is another name, not another resource", () => {
  const translations = new Translations();
  translations.assign("a.b", RESOURCE, PROXIES_V4, []);
  translations.assign("a.b", resourceId(2), PROXIES_V4, []);
  assert.equal(translations.conflict("a.b", PROXIES), false);
  assert.equal(translations.conflict("c.d", PROXIES_V6), false);
  assert.equal(translations.conflict("c.d", PROXIES), true);
  assert.deepEqual([...(translations.get(PROXIES_V4[0]!)?.resources ?? [])], [RESOURCE, resourceId(2)]);
});

test("forgets the proxies announced longest ago when there are too many", () => {
  const translations = new Translations();
  const proxy = (i: number) => hostOf(IPV4_RESOURCES, i);
  for (let i = 0; i < MAX_TRANSLATIONS; i++) translations.assign(`n${i}`, RESOURCE, [proxy(i)], []);
  translations.assign("n0", RESOURCE, [proxy(0)], []);

  const { forgotten } = translations.assign("new", RESOURCE, [proxy(MAX_TRANSLATIONS)], []);

  assert.deepEqual(forgotten, [proxy(1)]);
  assert.equal(translations.size, MAX_TRANSLATIONS);
  assert.notEqual(translations.get(proxy(0)), undefined, "announced again in between");
});

test("the internet does not include private and reserved networks", () => {
  const refused = [
    "10.0.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "127.0.0.1",
    "169.254.1.1",
    "100.127.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::ffff:1.1.1.1",
    "fd00::1",
    "fe80::1",
    "ff02::1",
  ];
  for (const address of refused) assert.equal(isInternetAddress(ip(address)), false, address);
  for (const address of [
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "::2",
  ]) {
    assert.equal(isInternetAddress(ip(address)), true, address);
  }
});

test("unix times become instants by the reading at the start", () => {
  const clock = new WallClock(1_700_000_000_500, 1000);
  assert.equal(clock.instantOf(1_700_000_001), 1500);
  assert.equal(clock.instantOf(1_700_000_000), 1000, "over before the start");
  assert.equal(clock.instantOf(1_700_086_400), 1000 + 86_399_500);
});

test("a forgotten proxy does not keep the filters of its former name", () => {
  const core = loadPacketCore(MODULE);
  const client = new ClientOnGateway(ALICE.id, 0, ALICE, new FilterPool(core), core);
  client.grant(dnsResource(1, "**.old.com"), undefined);
  client.grant(dnsResource(2, "new.com", [rule("tcp", 443)]), undefined);
  const proxy = (i: number) => hostOf(IPV4_RESOURCES, i);
  for (let i = 0; i <= MAX_TRANSLATIONS; i++) client.translate(RESOURCE, `n${i}.old.com`, [proxy(i)], []);
  assert.equal(client.translations.get(proxy(0)), undefined);

  client.translate(resourceId(2), "new.com", [proxy(0)], []);

  assert.equal(client.classify(proxy(0), { kind: "tcp", port: 443 }), "allowed");
  assert.equal(client.classify(proxy(0), { kind: "tcp", port: 22 }), "not-allowed");
});
