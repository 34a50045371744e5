import assert from "node:assert/strict";
import { test } from "node:test";
import { dohRequestUrl, isDohUrl } from "../../../host/core/dns/doh.ts";

test("a query goes into the URL as base64url without padding (RFC 8484 §4.1.1, tunnel-core 24.28)", () => {
  const message = Buffer.from("00000100000100000000000003777777076578616d706c6503636f6d0000010001", "hex");
  assert.equal(
    dohRequestUrl("https://dnsserver.example.net/dns-query", message),
    "https://dnsserver.example.net/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB",
  );
});

test("a server's URL is https, has a host and no query (tunnel-core 11.6)", () => {
  assert.ok(isDohUrl("https://dns.example/dns-query"));
  assert.ok(isDohUrl("https://[2001:db8::1]:8443/"));
  const refused = [
    "http://dns.example/",
    "https://dns.example/?a=b",
    "https://dns.example/?",
    "dns.example",
    "",
  ];
  for (const url of refused) assert.ok(!isDohUrl(url), url);
});
