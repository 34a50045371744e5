import assert from "node:assert/strict";
import { test } from "node:test";
import { contains, IPV4_TUNNEL, IPV6_TUNNEL, type IpAddress } from "../../../host/core/address.ts";
import type { Refusal } from "../../../host/portal/server/hello.ts";
import { BenchPeer, keyText, PortalBench, resourceId, START_UNIX } from "./portal-bench.ts";

interface ClientInit {
  readonly interface: { readonly ipv4: IpAddress; readonly ipv6: IpAddress };
}

function refusedWith(result: BenchPeer | Refusal): readonly [number, string] {
  assert.ok(!(result instanceof BenchPeer), "admitted");
  return [result.status, result.code];
}

const HELLO = {
  userAgent: "Ubuntu/24.04 headless-client/1.5.12",
  address: "203.0.113.50",
};
const QUERY = `external_id=a&public_key=${encodeURIComponent(keyText(1))}`;

test("prefers a Bearer token in X-Authorization over token=; ignores a header with another scheme (portal 25.3)", () => {
  const bench = new PortalBench();
  const good = bench.clientToken().text;
  const ask = (authorization: string | undefined, token: string | undefined, address: string) => {
    const target = `/client/v2/websocket?${QUERY}${token === undefined ? "" : `&token=${token}`}`;
    const result = bench.state.handleHello({ ...HELLO, target, authorization, address }, bench.now);
    return result.kind === "accepted" ? "accepted" : result.refusal.code;
  };
  assert.equal(ask(`Bearer ${good}`, ".cv1.client.bad.bad", "10.0.0.1"), "accepted");
  assert.equal(ask("Bearer .cv1.client.bad.bad", good, "10.0.0.2"), "invalid_token");
  assert.equal(ask("Basic Zm9v", good, "10.0.0.3"), "accepted");
  assert.equal(ask("Basic Zm9v", undefined, "10.0.0.4"), "missing_token");
  assert.equal(ask(undefined, undefined, "10.0.0.5"), "missing_token");
});

test("refuses a gateway token on the client path, and any token after its expiry (portal 25.5)", () => {
  const bench = new PortalBench();
  const gateway = bench.gatewayToken().text;
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: gateway })), [401, "invalid_token"]);

  const client = bench.clientToken("Mira", 100).text;
  bench.advance(99_000);
  assert.ok(bench.hello({ role: "client", token: client }) instanceof BenchPeer);
  bench.advance(1_000);
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: client })), [401, "invalid_token"]);
});

test("refuses altered tokens, disabled actors and tokens of actors that are gone (portal 25.5)", () => {
  const bench = new PortalBench();
  const { text } = bench.clientToken();
  const altered = text.slice(0, -2) + (text.endsWith("AA") ? "BA" : "AA");
  for (const token of [
    altered,
    `x${text}`,
    text.replace(".client.", ".gateway."),
    text.slice(1),
    "junk",
    `${text}.x`,
  ]) {
    assert.deepEqual(refusedWith(bench.hello({ role: "client", token })), [401, "invalid_token"], token);
  }
  const stranger = bench.clientToken("Nobody").text;
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: stranger })), [401, "invalid_token"]);
  bench.configure(
    "account: { slug: lindenwerk, id: 0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04 }\nactors: [{ name: Mira, kind: user, enabled: false }]",
  );
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: text })), [401, "invalid_token"]);
});

test("reports a 43-character key and a missing external id together (portal 25.6)", () => {
  const bench = new PortalBench();
  const token = bench.clientToken().text;
  const result = bench.hello({ role: "client", token, externalId: "", key: keyText(1).slice(1) });
  assert.deepEqual(refusedWith(result), [400, "invalid_connect_params"]);
  assert.equal(
    (result as Refusal).detail,
    "external_id can't be blank; public_key should be 44 character(s)",
  );
});

test("refuses a client without version, and admits a gateway without one", () => {
  const bench = new PortalBench();
  const client = bench.hello({ role: "client", token: bench.clientToken().text, userAgent: "curl/8" });
  assert.deepEqual(refusedWith(client), [400, "invalid_connect_params"]);
  const gateway = bench.hello({ role: "gateway", token: bench.gatewayToken().text, userAgent: "curl/8" });
  assert.ok(gateway instanceof BenchPeer);
});

test("a relay without address gets 400 instead of 500", () => {
  const bench = new PortalBench();
  const token = bench.relayToken().text;
  assert.deepEqual(refusedWith(bench.hello({ role: "relay", token })), [400, "invalid_connect_params"]);
  for (const query of [{ ipv4: "2001:db8::1" }, { ipv6: "x" }, { ipv4: "198.51.100.20", port: "0" }]) {
    bench.advance(1_000);
    assert.deepEqual(refusedWith(bench.hello({ role: "relay", token, query })), [
      400,
      "invalid_connect_params",
    ]);
  }
});

test("answers the second attempt within a second with 503, and lets another token from there in (portal 25.7)", () => {
  const bench = new PortalBench();
  const [first, second] = [bench.clientToken().text, bench.clientToken().text];
  const address = "198.51.100.1";
  assert.ok(bench.hello({ role: "client", token: first, address, externalId: "a" }) instanceof BenchPeer);
  bench.advance(999);
  const limited = bench.hello({ role: "client", token: first, address, externalId: "a" });
  assert.deepEqual(refusedWith(limited), [503, "rate_limit"]);
  assert.equal((limited as Refusal).retryAfterS, 1);
  assert.ok(bench.hello({ role: "client", token: second, address, externalId: "b" }) instanceof BenchPeer);
  bench.advance(1);
  assert.ok(bench.hello({ role: "client", token: first, address, externalId: "a" }) instanceof BenchPeer);
});

test("one address gets 50 attempts a second", () => {
  const bench = new PortalBench();
  const address = "198.51.100.1";
  const codes = Array.from(
    { length: 51 },
    (_, i) => refusedWith(bench.hello({ role: "client", token: `junk${i}`, address }))[1],
  );
  assert.deepEqual(new Set(codes.slice(0, 50)), new Set(["invalid_token"]));
  assert.equal(codes[50], "rate_limit");
  bench.advance(1_000);
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: "junk", address })), [
    401,
    "invalid_token",
  ]);
});

test("unknown paths are not found", () => {
  const bench = new PortalBench();
  for (const path of ["/", "/client", "/client/v3/websocket", "/relay/v2/websocket", "/admin/websocket"]) {
    const result = bench.state.handleHello({ ...HELLO, target: path, authorization: undefined }, bench.now);
    assert.ok(result.kind === "refused" && result.refusal.status === 404, path);
  }
});

test("hands a returning device the same id and addresses, also after a restart (portal 25.14)", () => {
  const bench = new PortalBench();
  const token = bench.clientToken().text;
  const first = bench.client({ token, externalId: "laptop" }).last<ClientInit>("init").interface;
  bench.advance(2_000);
  const again = bench.client({ token, externalId: "laptop" }).last<ClientInit>("init").interface;
  assert.deepEqual(again, first);

  const restarted = new PortalBench({ seed: 99 });
  const after = restarted.client({ externalId: "laptop" }).last<ClientInit>("init").interface;
  assert.deepEqual(after, first);

  const elsewhere = new PortalBench({ portalSeed: new Uint8Array(32).fill(8) });
  assert.notDeepEqual(elsewhere.client({ externalId: "laptop" }).last<ClientInit>("init").interface, first);
});

test("gives new devices addresses of the tunnel networks that nobody else has (portal 25.14)", () => {
  const bench = new PortalBench();
  const seen = new Set<string>();
  for (let i = 0; i < 60; i++) {
    const actor = ["Mira", "Ada", "box"][i % 3] ?? "";
    const client = bench.client({ token: bench.clientToken(actor).text, externalId: `device-${i}` });
    const { ipv4, ipv6 } = client.last<ClientInit>("init").interface;
    assert.ok(contains(IPV4_TUNNEL, ipv4) && contains(IPV6_TUNNEL, ipv6), `${ipv4} ${ipv6}`);
    assert.equal(seen.has(ipv4) || seen.has(ipv6), false);
    seen.add(ipv4).add(ipv6);
  }
});

test("an actor has at most 20 devices", () => {
  const bench = new PortalBench();
  for (let i = 0; i < 20; i++) bench.client({ externalId: `device-${i}` });
  const result = bench.hello({ role: "client", token: bench.clientToken().text, externalId: "device-20" });
  assert.deepEqual(refusedWith(result), [400, "invalid_connect_params"]);
  assert.ok(bench.hello({ role: "client", token: bench.clientToken("Ada").text }) instanceof BenchPeer);
});

test("a client that reconnects with the same token replaces itself quietly, with another it signs out (portal 25.39)", () => {
  const bench = new PortalBench();
  const token = bench.clientToken().text;
  const first = bench.client({ token });
  bench.advance(2_000);
  const second = bench.client({ token, key: keyText(5) });
  assert.equal(first.closedWith, 1012);
  assert.equal(first.count("disconnect"), 0);

  const third = bench.client({ token: bench.clientToken().text });
  assert.deepEqual(second.last("disconnect"), { reason: "token_expired" });
  assert.equal(second.closedWith, 1000);
  assert.equal(third.closedWith, undefined);
  // The end of a replaced connection must not take the newcomer with it.
  second.leave();
  assert.equal(bench.state.status.clients, 1);
});

test("a gateway that reconnects with the same token wins, with another it is refused while the older lives (portal 25.39)", () => {
  const bench = new PortalBench();
  const token = bench.gatewayToken().text;
  const other = bench.gatewayToken().text;
  const first = bench.gateway({ token });
  assert.deepEqual(refusedWith(bench.hello({ role: "gateway", token: other })), [
    409,
    "gateway_already_connected",
  ]);
  bench.advance(1_000);
  const onV1 = bench.hello({ role: "gateway", token: other, version: 1 });
  assert.deepEqual(refusedWith(onV1), [503, "gateway_already_connected"]);
  assert.equal((onV1 as Refusal).retryAfterS, 1);

  const second = bench.gateway({ token });
  assert.equal(first.closedWith, 1012);
  second.leave();
  bench.advance(2_000);
  assert.ok(bench.hello({ role: "gateway", token: other }) instanceof BenchPeer);
});

test("a refused gateway does not change the key of the connected one (portal 25.39)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway({ key: keyText(0x22) });
  bench.hello({ role: "gateway", token: bench.gatewayToken().text, key: keyText(0x66) });
  const client = bench.client();
  client.send("request_authorization", { resource_id: resourceId("Lab") });
  gateway.send("authorization_created", { ref: gateway.last<{ ref: string }>("create_authorization").ref });
  const created = client.last<{ gateway_public_key: string }>("authorization_created");
  assert.equal(created.gateway_public_key, keyText(0x22));
});

test("two machines with one gateway identity: after three evictions within a minute the first stays (portal 25.39)", () => {
  const bench = new PortalBench();
  const token = bench.gatewayToken().text;
  bench.gateway({ token });
  let last = bench.gateway({ token });
  for (let i = 0; i < 2; i++) {
    bench.advance(2_000);
    last = bench.gateway({ token });
  }
  bench.advance(2_000);
  assert.deepEqual(refusedWith(bench.hello({ role: "gateway", token })), [409, "gateway_already_connected"]);
  assert.equal(last.closedWith, undefined);
  bench.idle(300_000, last);
  assert.ok(bench.hello({ role: "gateway", token }) instanceof BenchPeer);
  assert.equal(last.closedWith, 1012);
});

test("knows whether reading the tokens again could help", () => {
  const bench = new PortalBench();
  const hello = (token: string) => ({
    ...HELLO,
    target: "/client/v2/websocket",
    authorization: `Bearer ${token}`,
  });
  const { text, id } = bench.clientToken();
  assert.equal(bench.state.knowsToken(hello(text)), true);
  bench.revoke(id);
  assert.equal(bench.state.knowsToken(hello(text)), false);
  assert.equal(bench.state.knowsToken(hello("junk")), true);
});

test("sends everybody away while it drains", () => {
  const bench = new PortalBench();
  const client = bench.client();
  bench.state.handleDrain();
  assert.deepEqual(refusedWith(bench.hello({ role: "client", token: bench.clientToken().text })), [
    503,
    "draining",
  ]);
  client.send("heartbeat", {}, "phoenix");
  assert.equal(client.count("phx_reply"), 2);
});

test("signs out at the token's expiry and withdraws what rests on it (portal 25.30)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client({ token: bench.clientToken("Mira", 60).text });
  client.send("request_authorization", { resource_id: resourceId("Lab") });
  const { ref, expires_at } = gateway.last<{ ref: string; expires_at: number }>("create_authorization");
  assert.equal(expires_at, START_UNIX + 60);
  gateway.send("authorization_created", { ref });

  bench.idle(58_000, client, gateway);
  assert.equal(client.count("disconnect") + gateway.count("reject_access"), 0);
  bench.idle(3_000, client, gateway);
  assert.deepEqual(client.last("disconnect"), { reason: "token_expired" });
  assert.equal(client.closedWith, 1000);
  assert.equal(gateway.count("reject_access"), 1);
  assert.equal(bench.state.status.grants, 0);
});
