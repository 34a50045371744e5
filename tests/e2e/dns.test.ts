import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { DEFAULT_RECORDS, texts } from "../../host/lab/records.ts";
import { TestLab } from "./lab-harness.ts";

describe("names, over UDP and TCP, answered here, in the site and by the host", () => {
  let lab: TestLab;
  before(async () => {
    lab = await TestLab.start({ records: { ...DEFAULT_RECORDS, "large.private.test": texts(10) } });
  });
  after(() => lab.finish());

  const dig = (...args: string[]): Promise<string> => lab.onClient("dig", "+tries=1", "+time=8", ...args);
  const lines = (text: string): string[] => text.trim().split("\n");

  test("a name of a resource is answered over TCP with its proxy addresses (tunnel-core 11.9)", async () => {
    const overTcp = lines(await dig("+tcp", "+short", "web.private.test"));
    assert.equal(overTcp.length, 4);
    for (const address of overTcp) assert.match(address, /^100\.96\.0\.\d+$/);
    assert.deepEqual(lines(await dig("+notcp", "+short", "web.private.test")), overTcp);
  });

  test("several queries go through one TCP connection (tunnel-core 11.9)", async () => {
    const names = ["a", "b", "c", "d"].map((label) => `${label}.private.test`);
    const output = await dig("+tcp", "+keepopen", ...names, "public.test", "+short");
    assert.equal(lines(output).length, 4 * 4 + 1);
  });

  test("a public name is asked by the host over TCP (tunnel-core 11.6)", async () => {
    assert.deepEqual(lines(await dig("+tcp", "+short", "MX", "public.test")), ["10 mail.public.test."]);
    assert.match(await dig("+tcp", "nowhere.public.test"), /status: NXDOMAIN/);
  });

  test("2 KB are truncated over UDP, wherever, and come whole over TCP (tunnel-core 24.21)", async () => {
    for (const size of ["512", "4096"]) {
      const truncated = await dig("TXT", "large.public.test", "+notcp", "+ignore", `+bufsize=${size}`);
      assert.match(truncated, /flags: [a-z ]*\btc\b/);
      assert.match(truncated, /ANSWER: 0/);
    }
    const followed = await dig("TXT", "large.public.test", "+bufsize=4096");
    assert.match(followed, /Truncated, retrying in TCP mode/);
    assert.match(followed, /ANSWER: 10,/);
  });

  test("SRV and TXT of a resource come from the site's own DNS, over UDP and TCP (tunnel-core 13.9, 17.10)", async () => {
    for (const transport of ["+notcp", "+tcp"]) {
      const service = await dig(transport, "+short", "SRV", "_http._tcp.private.test");
      assert.equal(service.trim(), "10 5 80 web.private.test.", transport);
      assert.equal((await dig(transport, "+short", "TXT", "web.private.test")).trim(), '"the private web"');
    }
    assert.match(await dig("SRV", "_nothing._tcp.private.test"), /status: NXDOMAIN/);
  });

  test("a large answer of the site is cut by the gateway and comes whole over TCP (tunnel-core 13.9)", async () => {
    const cut = await dig("TXT", "large.private.test", "+notcp", "+ignore", "+bufsize=4096");
    assert.match(cut, /flags: [a-z ]*\btc\b/);
    assert.match(await dig("TXT", "large.private.test", "+bufsize=4096"), /ANSWER: 10,/);
  });

  test("a resolver that is silent costs a TCP asker five seconds, then SERVFAIL (tunnel-core 11.6)", async () => {
    const resolver = lab.lab.host("internet");
    await resolver.nft(
      "table inet mute { chain input { type filter hook input priority 0; tcp dport 53 drop\n }\n}",
    );
    try {
      const started = performance.now();
      assert.match(await dig("+tcp", "MX", "public.test"), /status: SERVFAIL/);
      assert.ok(performance.now() - started > 4500);
    } finally {
      await resolver.exec(["nft", "delete", "table", "inet", "mute"]);
    }
  });

  test("MX of a resource's name is nobody's business but the upstream's (tunnel-core 24.15)", async () => {
    assert.match(await dig("MX", "web.private.test"), /status: NXDOMAIN/);
  });
});
