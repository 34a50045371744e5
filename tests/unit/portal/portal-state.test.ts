import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeClientIngress } from "../../../host/portal/client-messages.ts";
import { decodeGatewayIngress } from "../../../host/portal/gateway-messages.ts";
import { relayId } from "../../../host/portal/server/derivations.ts";
import { keyText, PortalBench, payloadOf, resourceId, YAML } from "./portal-bench.ts";

const SECRET = (fill: number) => fill.toString(16).padStart(2, "0").repeat(32);

interface WireResource {
  readonly id: string;
  readonly type: string;
  readonly name?: string;
  readonly sites?: readonly unknown[];
  readonly gateway_groups?: readonly unknown[];
}
interface WireRelay {
  readonly id: string;
  readonly addr: string;
  readonly username: string;
  readonly password: string;
}
interface ClientInit {
  readonly resources: readonly WireResource[];
  readonly relays: readonly WireRelay[];
  readonly flow_logs: unknown;
  readonly authorizations: unknown;
}
interface RelaysPresence {
  readonly disconnected_ids: readonly string[];
  readonly connected: readonly WireRelay[];
}

test("echoes an integer ref as an integer and answers with response exactly {} (portal 25.1)", () => {
  const bench = new PortalBench();
  const client = bench.client();
  assert.deepEqual(client.received[0], {
    topic: "client",
    event: "phx_reply",
    payload: { status: "ok", response: {} },
    ref: 0,
  });
  client.send("heartbeat", {}, "phoenix");
  assert.deepEqual(client.received.at(-1), {
    topic: "phoenix",
    event: "phx_reply",
    payload: { status: "ok", response: {} },
    ref: 1,
  });
  client.raw('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"7"}');
  assert.equal(client.received.at(-1)?.ref, "7");
});

test("accepts payload null on join, for both v1 and v2 paths, and pushes init right after (portal 25.2)", () => {
  for (const version of [1, 2] as const) {
    const bench = new PortalBench();
    assert.deepEqual(bench.client({ version }).events(), ["phx_reply", "init"]);
    assert.deepEqual(bench.gateway({ version }).events(), ["phx_reply", "init"]);
    assert.deepEqual(bench.relay(SECRET(1)).events(), ["phx_reply", "init"]);
  }
});

test("answers a repeated join with reply and init, without phx_close", () => {
  const client = new PortalBench().client();
  client.take();
  assert.deepEqual(client.join().events(), ["phx_reply", "init"]);
});

test("closes a peer that is silent for 37 s (relay 41 s), and one that never joins after 10 s (portal 25.8)", () => {
  const bench = new PortalBench();
  const [client, gateway, relay] = [bench.client(), bench.gateway(), bench.relay(SECRET(1))];
  const loiterer = bench.connect({ role: "client", token: bench.clientToken("Ada").text });
  bench.advance(9_900);
  assert.equal(loiterer.closedWith, undefined);
  bench.advance(1_100);
  assert.equal(loiterer.closedWith, 1008);

  bench.advance(25_900);
  assert.deepEqual([client.closedWith, gateway.closedWith], [undefined, undefined]);
  bench.advance(1_200);
  assert.deepEqual([client.closedWith, gateway.closedWith, relay.closedWith], [1002, 1002, undefined]);
  bench.advance(4_000);
  assert.equal(relay.closedWith, 1002);
  assert.deepEqual(bench.state.status, { clients: 0, gateways: 0, relays: 0, grants: 0 });
});

test("answers unknown events and unjoined topics, and keeps the connection (portal 25.9)", () => {
  const bench = new PortalBench();
  const client = bench.connect({ role: "client", token: bench.clientToken().text });
  const reason = (ref: number) => {
    const reply = client.received.findLast((message) => message.ref === ref);
    return payloadOf<{ response: { reason: string } }>(reply).response.reason;
  };
  assert.equal(reason(client.send("no_relays", {})), "unmatched topic");
  client.join();
  assert.equal(reason(client.send("prepare_connection", {})), "unknown_message");
  assert.equal(reason(client.send("create_flow", { resource_id: resourceId("Lab") })), "unknown_message");
  assert.equal(reason(client.send("no_relays", {}, "gateway")), "unmatched topic");
  assert.equal(client.closedWith, undefined);
  assert.equal(bench.state.counters.get("unknown-event"), 2);
});

test("broken JSON and missing members keep the connection and are counted", () => {
  const bench = new PortalBench();
  const client = bench.client();
  const gateway = bench.gateway();
  for (const text of ["", "{", "[]", '{"topic":"client"}', "\u0000"]) client.raw(text);
  assert.equal(bench.state.counters.get("malformed-frame"), 5);
  client.send("new_gateway_ice_candidates", { candidates: [] });
  client.send("request_authorization", null);
  gateway.send("authorization_created", {});
  assert.equal(bench.state.counters.get("malformed-payload"), 3);
  assert.deepEqual([client.closedWith, gateway.closedWith], [undefined, undefined]);
});

test("a peer that floods is closed with 1008, one that sends a huge frame with 1009", () => {
  const bench = new PortalBench();
  const flooder = bench.client();
  for (let i = 0; i < 400; i++) flooder.send("heartbeat", {}, "phoenix");
  assert.equal(flooder.closedWith, 1008);

  const steady = bench.client({ token: bench.clientToken("Ada").text });
  for (let i = 0; i < 1_000; i++) {
    steady.send("heartbeat", {}, "phoenix");
    bench.advance(5);
  }
  assert.equal(steady.closedWith, undefined);
  steady.raw(`"${"x".repeat(65_536)}"`);
  assert.equal(steady.closedWith, 1009);
});

test("lists only connectable resources; one without any gateway stays listed (portal 25.15)", () => {
  const bench = new PortalBench();
  const names = (actor: string) =>
    bench
      .client({ token: bench.clientToken(actor).text })
      .last<ClientInit>("init")
      .resources.map(({ type, name }) => name ?? type);
  assert.deepEqual(names("Mira"), ["Wiki", "Lab", "internet"]);
  assert.deepEqual(names("Ada"), ["Wiki"]);
  assert.deepEqual(names("box"), ["Lab", "internet"]);
});

test("gives Everyone to users and admins, not to service accounts (portal 25.28)", () => {
  const bench = new PortalBench();
  const sees = (actor: string) =>
    bench
      .client({ token: bench.clientToken(actor).text })
      .last<ClientInit>("init")
      .resources.some(({ id }) => id === resourceId("Wiki"));
  assert.deepEqual(["Mira", "Ada", "box"].map(sees), [true, true, false]);
});

test("hides the internet resource from clients older than 1.3.0", () => {
  const bench = new PortalBench();
  const old = bench.client({ userAgent: "Linux/6 connlib/1.2.9" }).last<ClientInit>("init");
  assert.equal(
    old.resources.some(({ type }) => type === "internet"),
    false,
  );
});

test("uses gateway_groups or sites by version and path, never both (portal 25.16)", () => {
  const spelling = (userAgent: string, version: 1 | 2) => {
    const [resource] = new PortalBench().client({ userAgent, version }).last<ClientInit>("init").resources;
    assert.notEqual(resource?.sites === undefined, resource?.gateway_groups === undefined);
    return resource?.sites === undefined ? "gateway_groups" : "sites";
  };
  assert.equal(spelling("Ubuntu/24.04 headless-client/1.5.6", 2), "sites");
  assert.equal(spelling("Ubuntu/24.04 headless-client/1.5.5", 2), "gateway_groups");
  assert.equal(spelling("Ubuntu/24.04 headless-client/1.5.12", 1), "gateway_groups");
  assert.equal(spelling("Windows/11 gui-client/1.5.10", 2), "sites");
  assert.equal(spelling("iOS/18 connlib/1.5.10", 2), "gateway_groups");
  assert.equal(spelling("Mac OS/15 apple-client/1.10.0", 2), "sites");
});

test("what the portal sends can be decoded by both peers, without a note", () => {
  const bench = new PortalBench();
  bench.relay(SECRET(1), { ipv4: "198.51.100.20", ipv6: "2001:db8:20::1" });
  const gateway = bench.gateway();
  const client = bench.client();
  client.send("request_authorization", { resource_id: resourceId("Wiki") });
  gateway.send("authorization_created", { ref: gateway.last<{ ref: string }>("create_authorization").ref });
  bench.configure(YAML.replace("10.31.0.0/16", "10.32.0.0/16").replace("group: Everyone", "group: Auditors"));
  for (const { event, payload } of client.take().filter(({ event }) => event !== "phx_reply")) {
    const decoded = decodeClientIngress(event, payload);
    assert.ok(
      decoded.kind === "message" && decoded.skipped.length === 0,
      `${event}: ${JSON.stringify(decoded)}`,
    );
  }
  for (const { event, payload } of gateway.take().filter(({ event }) => event !== "phx_reply")) {
    const decoded = decodeGatewayIngress(event, payload);
    assert.ok(
      decoded.kind === "message" && decoded.skipped.length === 0,
      `${event}: ${JSON.stringify(decoded)}`,
    );
  }
});

test("init carries what released peers insist on", () => {
  const bench = new PortalBench();
  const flowLogs = {
    api_url: "https://portal.lindenwerk.example/",
    upload_interval_secs: 0,
    upload_batch_size: 0,
  };
  const client = bench.client().last<ClientInit>("init");
  assert.deepEqual([client.flow_logs, client.authorizations], [flowLogs, []]);
  const gateway = bench.gateway().last<Record<string, unknown>>("init");
  assert.deepEqual(gateway["flow_logs"], flowLogs);
  assert.deepEqual(gateway["account_slug"], "lindenwerk");
  assert.deepEqual(gateway["config"], { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true });
});

// ── Relays ──────────────────────────────────────────────────────────────────────────────────────

test("puts v4 and v6 entries of one relay next to each other, with equal credentials that stay (portal 25.17, 25.18)", () => {
  const bench = new PortalBench();
  for (const fill of [1, 2])
    bench.relay(SECRET(fill), { ipv4: `198.51.100.${fill}`, ipv6: `2001:db8::${fill}`, port: "3479" });
  const token = bench.clientToken().text;
  const relays = bench.client({ token }).last<ClientInit>("init").relays;
  assert.equal(relays.length, 4);
  for (const i of [0, 2]) {
    assert.equal(relays[i]?.id, relays[i + 1]?.id);
    assert.deepEqual(
      [relays[i]?.username, relays[i]?.password],
      [relays[i + 1]?.username, relays[i + 1]?.password],
    );
    assert.match(relays[i]?.addr ?? "", /^198\.51\.100\.\d:3479$/);
    assert.match(relays[i + 1]?.addr ?? "", /^\[2001:db8::\d\]:3479$/);
  }
  bench.advance(2_000);
  const again = bench.client({ token }).last<ClientInit>("init").relays;
  const sorted = (list: readonly WireRelay[]) => list.map((entry) => JSON.stringify(entry)).sort();
  assert.deepEqual(sorted(again), sorted(relays));
});

test("derives the relay id from the secret; a second relay with that id evicts the first (portal 25.37)", () => {
  const bench = new PortalBench();
  const first = bench.relay(SECRET(1));
  const second = bench.relay(SECRET(1));
  assert.deepEqual(first.last("phx_close"), {});
  assert.equal(first.closedWith, 1000);
  assert.equal(second.closedWith, undefined);
  assert.equal(bench.state.status.relays, 1);
  assert.equal(bench.client().last<ClientInit>("init").relays[0]?.id, relayId(SECRET(1)));
});

test("a relay's join without secret is refused", () => {
  const bench = new PortalBench();
  const relay = bench.connect({
    role: "relay",
    token: bench.relayToken().text,
    query: { ipv4: "198.51.100.20" },
  });
  relay.join(null);
  assert.deepEqual(relay.last("phx_reply"), {
    status: "error",
    response: { reason: "invalid_stamp_secret" },
  });
  assert.equal(bench.state.status.relays, 0);
});

test("says nothing when a relay returns within the quiet second, one relays_presence when it does not (portal 25.38)", () => {
  const bench = new PortalBench();
  const [one] = [bench.relay(SECRET(1)), bench.relay(SECRET(2))];
  bench.advance(2_000);
  const [client, gateway] = [bench.client(), bench.gateway()];

  one.leave();
  bench.advance(900);
  const returned = bench.relay(SECRET(1));
  bench.advance(3_000);
  assert.equal(client.count("relays_presence") + gateway.count("relays_presence"), 0);

  returned.leave();
  bench.advance(999);
  assert.equal(client.count("relays_presence"), 0);
  bench.advance(1);
  for (const peer of [client, gateway]) {
    assert.equal(peer.count("relays_presence"), 1);
    const { disconnected_ids, connected } = peer.last<RelaysPresence>("relays_presence");
    assert.deepEqual(disconnected_ids, [relayId(SECRET(1))]);
    assert.deepEqual(
      connected.map(({ id }) => id),
      [relayId(SECRET(2))],
    );
  }
});

test("fills up when fewer than two relays were sent, and stays silent about a third (portal 25.38)", () => {
  const bench = new PortalBench();
  const client = bench.client();
  bench.relay(SECRET(1));
  bench.advance(1_000);
  assert.deepEqual(
    client.last<RelaysPresence>("relays_presence").connected.map(({ id }) => id),
    [relayId(SECRET(1))],
  );
  bench.relay(SECRET(2));
  bench.advance(1_000);
  const two = client.last<RelaysPresence>("relays_presence");
  assert.deepEqual([two.disconnected_ids, two.connected.length], [[], 2]);
  bench.relay(SECRET(3));
  bench.advance(5_000);
  assert.equal(client.count("relays_presence"), 2);
});

test("a relay that flaps does not keep others from being announced", () => {
  const bench = new PortalBench();
  const client = bench.client();
  bench.relay(SECRET(1));
  for (let i = 0; i < 8; i++) {
    bench.advance(800);
    bench.relay(SECRET(9)).leave();
  }
  assert.ok(client.count("relays_presence") >= 1);
});

test("answers no_relays with the current choice, which may be empty", () => {
  const bench = new PortalBench();
  const [client, gateway] = [bench.client(), bench.gateway()];
  client.send("no_relays", {});
  assert.deepEqual(client.last("relays_presence"), { disconnected_ids: [], connected: [] });
  bench.relay(SECRET(1));
  gateway.send("no_relays", {});
  assert.equal(gateway.last<RelaysPresence>("relays_presence").connected.length, 1);
});

// ── Changes of the configuration (portal §13.6) ─────────────────────────────────────────────────

function changed(yaml: string) {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  client.send("request_authorization", { resource_id: resourceId("Lab") });
  gateway.send("authorization_created", { ref: gateway.last<{ ref: string }>("create_authorization").ref });
  gateway.take();
  client.take();
  bench.configure(yaml);
  return { bench, client: client.take(), gateway: gateway.take(), peer: client };
}
const LAB = resourceId("Lab");
const rejects = (messages: readonly { event: string; payload: unknown }[]) =>
  messages
    .filter(({ event }) => event === "reject_access")
    .map(({ payload }) => (payload as { resource_id: string }).resource_id);

test("policy added: the client gains the resource, gateways hear nothing (portal 25.29)", () => {
  const { client, gateway } = changed(`${YAML}  - { group: Auditors, resource: Printer }\n`);
  assert.deepEqual(
    client.map(({ event }) => event),
    ["resource_created_or_updated"],
  );
  assert.equal(payloadOf<WireResource>(client[0]).id, resourceId("Printer"));
  assert.deepEqual(gateway, []);
});

test("policy deleted, disabled, or membership removed: the client loses, the gateway rejects (portal 25.29)", () => {
  for (const yaml of [
    YAML.replace("  - { group: Engineering, resource: Lab }\n", ""),
    YAML.replace("resource: Lab }", "resource: Lab, enabled: false }"),
  ]) {
    const { client, gateway, bench } = changed(yaml);
    assert.deepEqual(
      client.map(({ event, payload }) => [event, payload]),
      [["resource_deleted", LAB]],
    );
    assert.deepEqual(rejects(gateway), [LAB]);
    assert.equal(bench.state.status.grants, 0);
  }
  const { client, gateway } = changed(YAML.replace("members: [Mira, box]", "members: [box]"));
  assert.deepEqual(
    client.map(({ event }) => event),
    ["resource_deleted", "resource_deleted"],
  );
  assert.deepEqual(rejects(gateway), [LAB]);
});

test("access by another policy keeps the resource listed; the grant of the lost one goes (portal 25.29)", () => {
  const lost = YAML.replace("group: Engineering, resource: Lab", "group: Auditors, resource: Lab");
  const { client, gateway } = changed(lost);
  assert.deepEqual(client, []);
  assert.deepEqual(rejects(gateway), [LAB]);
});

test("resource description: the client alone is told (portal 25.29)", () => {
  const { client, gateway } = changed(YAML.replace("10.31.0.0/16,", "10.31.0.0/16, description: racks,"));
  assert.deepEqual(
    client.map(({ event }) => event),
    ["resource_created_or_updated"],
  );
  assert.deepEqual(gateway, []);
});

test("resource filters: client and gateway are told, the grant stays (portal 25.29)", () => {
  const { client, gateway, bench } = changed(
    YAML.replace("10.31.0.0/16,", "10.31.0.0/16, filters: [{ protocol: udp }],"),
  );
  assert.deepEqual(
    client.map(({ event }) => event),
    ["resource_created_or_updated"],
  );
  assert.deepEqual(
    gateway.map(({ event }) => event),
    ["resource_updated"],
  );
  assert.deepEqual(payloadOf<{ filters: unknown }>(gateway[0]).filters, [
    { protocol: "udp", port_range_start: 0, port_range_end: 65535 },
  ]);
  assert.equal(bench.state.status.grants, 1);
});

test("resource address or site: the client is told, the gateway rejects (portal 25.29)", () => {
  for (const yaml of [
    YAML.replace("10.31.0.0/16", "10.31.0.0/17"),
    YAML.replace("address: 10.31.0.0/16, site: Rack 4", "address: 10.31.0.0/16, site: Annex"),
  ]) {
    const { client, gateway } = changed(yaml);
    assert.deepEqual(
      client.map(({ event }) => event),
      ["resource_created_or_updated"],
    );
    assert.deepEqual(
      gateway.map(({ event }) => event),
      ["reject_access"],
    );
  }
});

test("clients before 1.5.5 see a resource go and come back when its site changes (portal 25.29)", () => {
  const bench = new PortalBench();
  const client = bench.client({ userAgent: "Ubuntu/24.04 headless-client/1.5.4" });
  client.take();
  bench.configure(YAML.replace("address: 10.31.0.0/16, site: Rack 4", "address: 10.31.0.0/16, site: Annex"));
  assert.deepEqual(client.events(), ["resource_deleted", "resource_created_or_updated"]);
});

test("resource deleted: deletion before additions (portal 25.29)", () => {
  const yaml = YAML.replace("name: Lab,", "name: Bench,").replace("resource: Lab", "resource: Bench");
  const { client, gateway } = changed(yaml);
  assert.deepEqual(
    client.map(({ event }) => event),
    ["resource_deleted", "resource_created_or_updated"],
  );
  assert.deepEqual(rejects(gateway), [LAB]);
});

test("actor disabled: signed out, grants rejected (portal 25.29)", () => {
  const { client, gateway, peer } = changed(
    YAML.replace("name: Mira, kind: user", "name: Mira, kind: user, enabled: false"),
  );
  assert.deepEqual(
    client.map(({ event, payload }) => [event, payload]),
    [["disconnect", { reason: "token_expired" }]],
  );
  assert.equal(peer.closedWith, 1000);
  assert.deepEqual(rejects(gateway), [LAB]);
});

test("account DNS: config_changed; slug: a new init for gateways (portal 25.29)", () => {
  const dns = changed(
    YAML.replace("slug: lindenwerk,", "slug: lindenwerk, dns: { mode: custom, servers: [10.31.0.53] },"),
  );
  assert.deepEqual(
    dns.client.map(({ event }) => event),
    ["config_changed"],
  );
  assert.deepEqual(dns.gateway, []);
  const slug = changed(YAML.replace("slug: lindenwerk", "slug: werk"));
  assert.deepEqual(slug.client, []);
  assert.deepEqual(
    slug.gateway.map(({ event }) => event),
    ["init"],
  );
});

test("tokens revoked: clients and gateways are signed out, relays closed without a word (portal 25.29)", () => {
  const bench = new PortalBench();
  const tokens = [bench.clientToken(), bench.gatewayToken(), bench.relayToken()] as const;
  const gateway = bench.gateway({ token: tokens[1].text });
  const client = bench.client({ token: tokens[0].text });
  const relay = bench.connect({ role: "relay", token: tokens[2].text, query: { ipv4: "198.51.100.20" } });
  relay.join({ stamp_secret: SECRET(1) });
  client.send("request_authorization", { resource_id: LAB });
  relay.take();

  bench.revoke(tokens[0].id);
  assert.deepEqual(client.last("disconnect"), { reason: "token_expired" });
  assert.equal(gateway.count("reject_access"), 1);
  bench.revoke(tokens[1].id);
  assert.deepEqual(gateway.last("disconnect"), { reason: "token_expired" });
  bench.revoke(tokens[2].id);
  assert.deepEqual(relay.take(), []);
  assert.deepEqual([client.closedWith, gateway.closedWith, relay.closedWith], [1000, 1000, 1000]);
});

test("re-applying the same configuration changes nothing (portal 25.41)", () => {
  const { client, gateway, bench } = changed(YAML);
  assert.deepEqual([client, gateway], [[], []]);
  assert.equal(bench.state.status.grants, 1);
});

test("a gateway that reconnects is told the grants that live (portal 25.19)", () => {
  const bench = new PortalBench();
  const token = bench.gatewayToken().text;
  const gateway = bench.gateway({ token });
  const client = bench.client();
  client.send("request_authorization", { resource_id: LAB });
  gateway.leave();
  bench.advance(2_000);
  const init = bench
    .gateway({ token, key: keyText(0x22) })
    .last<{ authorizations: { resource_id: string }[] }>("init");
  assert.deepEqual(
    init.authorizations.map(({ resource_id }) => resource_id),
    [LAB],
  );
});
