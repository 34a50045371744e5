import assert from "node:assert/strict";
import { test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import { addressOfReverseName, normalizeName, reverseNameOf } from "../../../host/core/dns/name.ts";

test("reverse names of both families decode to their address", () => {
  for (const address of [ip("100.96.0.1"), ip("fd00:2021:1111:8000::3"), ip("0.0.0.0"), ip("::")]) {
    assert.equal(addressOfReverseName(reverseNameOf(address)), address);
    assert.equal(addressOfReverseName(`${reverseNameOf(address).toUpperCase()}.`), address);
  }
});

test("reverse names with fewer or more labels, or bad ones, do not decode (tunnel-core 11.5)", () => {
  const v6 = reverseNameOf(ip("::1"));
  for (const name of [
    "0.96.100.in-addr.arpa",
    "9.1.0.96.100.in-addr.arpa",
    "256.0.96.100.in-addr.arpa",
    "01.0.96.100.in-addr.arpa",
    "in-addr.arpa",
    v6.slice(2),
    `0.${v6}`,
    `g${v6.slice(1)}`,
    "example.com",
  ]) {
    assert.equal(addressOfReverseName(name), undefined, name);
  }
});

test("names lose their trailing dot and their case, in ASCII only", () => {
  assert.equal(normalizeName("DB.Example.COM."), "db.example.com");
  assert.equal(normalizeName("İ.example"), "İ.example");
});
