import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type BenchPeer,
  keyText,
  PortalBench,
  resourceId,
  START_UNIX,
  seededRandom,
  WEEK_S,
} from "./portal-bench.ts";

const WIKI = resourceId("Wiki");
const LAB = resourceId("Lab");
const OUT = resourceId("Out");
const CANDIDATE = "candidate:8421337 1 udp 2130706431 192.168.7.20 52625 typ host";

interface Create {
  readonly ref: string;
  readonly expires_at: number;
  readonly flow_logs_ingest_token: string;
  readonly client: { readonly id: string; readonly preshared_key: string; readonly ipv4: string };
  readonly client_ice_credentials: { readonly username: string };
  readonly gateway_ice_credentials: { readonly username: string };
}
interface Created {
  readonly gateway_id: string;
  readonly preshared_key: string;
  readonly client_ice_credentials: unknown;
  readonly gateway_ice_credentials: unknown;
  readonly use_iceless: boolean;
  readonly flow_logs_ingest_token: string;
}

function request(client: BenchPeer, resource: string, connected: readonly string[] = []): void {
  client.send("request_authorization", { resource_id: resource, connected_gateway_ids: connected });
}

function acknowledge(gateway: BenchPeer): string {
  const { ref } = gateway.last<Create>("create_authorization");
  gateway.send("authorization_created", { ref });
  return ref;
}

function failure(client: BenchPeer): unknown {
  return client.last<{ reason: string }>("authorization_creation_failed").reason;
}

test("grants: the gateway is asked, acknowledges, and both ends hold the same keys (portal 25.20)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  request(client, LAB);
  assert.equal(client.count("authorization_created"), 0);

  const asked = gateway.last<Create>("create_authorization");
  acknowledge(gateway);
  const created = client.last<Created>("authorization_created");
  assert.equal(created.preshared_key, asked.client.preshared_key);
  assert.deepEqual(created.client_ice_credentials, asked.client_ice_credentials);
  assert.deepEqual(created.gateway_ice_credentials, asked.gateway_ice_credentials);
  assert.equal(created.use_iceless, false);
  assert.equal(asked.expires_at, START_UNIX + WEEK_S);

  const claims = [created, asked].map(({ flow_logs_ingest_token }) =>
    JSON.parse(Buffer.from(flow_logs_ingest_token.split(".")[1] ?? "", "base64url").toString()),
  );
  assert.deepEqual(
    claims.map(({ role }) => role),
    ["initiator", "responder"],
  );
  assert.deepEqual(
    claims.map(({ uploads_enabled }) => uploads_enabled),
    [false, false],
  );
  assert.equal(claims[0].exp, START_UNIX + WEEK_S + 30 * 86_400);
});

test("speaks the first generation's names on v1 paths", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway({ version: 1 });
  const client = bench.client({ version: 1 });
  client.send("create_flow", { resource_id: LAB, connected_gateway_ids: [] });
  gateway.send("flow_authorized", { ref: gateway.last<Create>("authorize_flow").ref });
  assert.equal(client.count("flow_created"), 1);
  client.send("create_flow", { resource_id: OUT, connected_gateway_ids: [] });
  assert.equal(client.last<{ reason: string }>("flow_creation_failed").reason, "offline");
});

test("refuses with the right reason (portal 25.20)", () => {
  const bench = new PortalBench();
  const client = bench.client();
  request(client, resourceId("Printer"));
  assert.equal(failure(client), "not_found");
  request(client, "00000000-0000-4000-8000-000000000000");
  assert.equal(failure(client), "not_found");
  request(client, LAB);
  assert.equal(failure(client), "offline");

  const old = bench.gateway({ userAgent: "Debian/13 gateway/1.3.9" });
  request(client, LAB);
  assert.equal(failure(client), "version_mismatch");
  assert.equal(old.count("create_authorization"), 0);
});

test("answers a malformed resource id with not_found and keeps the connection", () => {
  const client = new PortalBench().client();
  request(client, "not-a-uuid");
  assert.deepEqual(client.last("authorization_creation_failed"), {
    resource_id: "not-a-uuid",
    reason: "not_found",
  });
  assert.equal(client.closedWith, undefined);
});

test("records the grant before the gateway hears of it (portal 25.21)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  request(client, LAB);
  assert.equal(gateway.count("create_authorization"), 1);
  assert.equal(bench.state.status.grants, 1);
});

test("answers repeated requests with identical keys, and leaves one grant (portal 25.22)", () => {
  const bench = new PortalBench();
  const gateways = [1, 2, 3].map((i) => bench.gateway({ externalId: `gw-${i}`, key: keyText(0x22 + i) }));
  const client = bench.client();
  const seen = new Set<string>();
  for (let i = 0; i < 6; i++) {
    request(client, LAB);
    bench.advance(2_000);
  }
  const asked = gateways.filter((gateway) => gateway.count("create_authorization") > 0);
  assert.equal(asked.length, 1);
  for (const { event, payload } of asked[0]?.received ?? []) {
    if (event !== "create_authorization") continue;
    const { client: peer, client_ice_credentials, gateway_ice_credentials } = payload as unknown as Create;
    seen.add(JSON.stringify([peer.preshared_key, client_ice_credentials, gateway_ice_credentials]));
  }
  assert.equal(seen.size, 1);
  assert.equal(bench.state.status.grants, 1);

  acknowledge(asked[0] as BenchPeer);
  assert.equal(client.count("authorization_created"), 1);
});

test("a new key of either side changes the pre-shared key", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const token = bench.clientToken().text;
  const psk = (client: BenchPeer) => {
    request(client, LAB);
    return gateway.last<Create>("create_authorization").client.preshared_key;
  };
  const first = psk(bench.client({ token }));
  bench.advance(2_000);
  assert.equal(psk(bench.client({ token })), first);
  bench.advance(2_000);
  assert.notEqual(psk(bench.client({ token, key: keyText(0x77) })), first);
});

test("says offline 15 s after an unanswered request, and drops the late acknowledgement (portal 25.23)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  request(client, LAB);
  bench.advance(14_999);
  assert.equal(client.count("authorization_creation_failed"), 0);
  bench.advance(1);
  assert.equal(failure(client), "offline");

  acknowledge(gateway);
  assert.equal(client.count("authorization_created"), 0);
  assert.deepEqual(gateway.last("phx_reply"), { status: "error", response: { reason: "invalid_ref" } });
});

test("rejects an unknown ref, a ref used twice, and a ref of another gateway (portal 25.23)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const other = bench.gateway({ externalId: "other", userAgent: "Debian/13" });
  const client = bench.client();
  request(client, LAB);
  const { ref } = gateway.last<Create>("create_authorization");
  for (const [peer, tried] of [
    [gateway, "x"],
    [other, ref],
  ] as const) {
    peer.send("authorization_created", { ref: tried });
    assert.deepEqual(peer.last("phx_reply"), { status: "error", response: { reason: "invalid_ref" } });
  }
  acknowledge(gateway);
  assert.deepEqual(gateway.last("phx_reply"), { status: "ok", response: {} });
  acknowledge(gateway);
  assert.deepEqual(gateway.last("phx_reply"), { status: "error", response: { reason: "invalid_ref" } });
  assert.equal(client.count("authorization_created"), 1);
});

test("delivers acknowledgement before candidates, under random interleaving (portal 25.24)", () => {
  const seed = Number(process.env["SEED"] ?? 24);
  const random = seededRandom(seed);
  for (let round = 0; round < 50; round++) {
    const bench = new PortalBench({ seed: round });
    const gateway = bench.gateway();
    const clients = ["a", "b", "c"].map((externalId) => bench.client({ externalId }));
    for (const client of clients) request(client, LAB);
    const scripts = gateway.received
      .filter(({ event }) => event === "create_authorization")
      .map(({ payload }) => {
        const { ref, client } = payload as unknown as Create;
        return [
          () => gateway.send("authorization_created", { ref }),
          () =>
            gateway.send("broadcast_ice_candidates", { client_ids: [client.id], candidates: [CANDIDATE] }),
          () =>
            gateway.send("broadcast_invalidated_ice_candidates", {
              client_ids: [client.id],
              candidates: [CANDIDATE],
            }),
        ];
      });
    while (scripts.some((script) => script.length > 0)) {
      const left = scripts.filter((script) => script.length > 0);
      left[Math.floor(random.uniform() * left.length)]?.shift()?.();
    }
    for (const client of clients) {
      const order = client.received.map(({ event }) => event).slice(2);
      assert.deepEqual(
        order,
        ["authorization_created", "ice_candidates", "invalidate_ice_candidates"],
        `SEED=${seed}`,
      );
    }
  }
});

test("never selects a gateway of another site, outside the version window, or without a version (portal 25.25)", () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ["1.5.12", "1.4.0", true],
    ["1.5.12", "1.6.99", true],
    ["1.5.12", "1.3.99", false],
    ["1.5.12", "1.7.0", false],
    ["1.10.0", "1.9.0", true],
    ["1.0.3", "1.0.0", true],
    ["1.0.3", "1.1.9", true],
    ["1.5.12", "2.5.0", false],
    ["1.5.12", "x", false],
  ];
  for (const [clientVersion, gatewayVersion, isSelected] of cases) {
    const bench = new PortalBench();
    const gateway = bench.gateway({ userAgent: `Debian/13 gateway/${gatewayVersion}` });
    bench.gateway({ token: bench.gatewayToken("Annex").text, externalId: "elsewhere" });
    request(bench.client({ userAgent: `Ubuntu/24.04 headless-client/${clientVersion}` }), LAB);
    assert.equal(
      gateway.count("create_authorization") === 1,
      isSelected,
      `${clientVersion} ${gatewayVersion}`,
    );
  }
});

test("prefers a listed gateway that is connected, and spreads at random otherwise (portal 25.25)", () => {
  const bench = new PortalBench();
  const gateways = [1, 2, 3, 4].map((i) => bench.gateway({ externalId: `gw-${i}` }));
  const client = bench.client();
  const chosen = new Set<string>();
  for (let i = 0; i < 40; i++) {
    request(client, LAB);
    for (const gateway of gateways) if (gateway.count("create_authorization") > 0) acknowledge(gateway);
    for (const gateway of gateways) gateway.take();
    chosen.add(client.last<Created>("authorization_created").gateway_id);
  }
  assert.equal(chosen.size, 4);

  const [favourite] = chosen;
  client.take();
  for (let i = 0; i < 10; i++) {
    request(client, LAB, ["00000000-0000-4000-8000-000000000000", favourite ?? ""]);
    for (const gateway of gateways) if (gateway.count("create_authorization") > 0) acknowledge(gateway);
    for (const gateway of gateways) gateway.take();
    assert.equal(client.last<Created>("authorization_created").gateway_id, favourite);
  }
});

test("grants end with the token (portal 25.26)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client({ token: bench.clientToken("Mira", 3_600).text });
  request(client, WIKI);
  assert.equal(gateway.last<Create>("create_authorization").expires_at, START_UNIX + 3_600);
});

test("relays candidates only along a live grant (portal 25.32)", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  const other = bench.client({ token: bench.clientToken("Ada").text });
  request(client, LAB);
  const { client: peer } = gateway.last<Create>("create_authorization");
  acknowledge(gateway);
  const gatewayId = client.last<Created>("authorization_created").gateway_id;

  client.send("new_gateway_ice_candidates", { gateway_id: gatewayId, candidates: [CANDIDATE] });
  assert.deepEqual(gateway.last("ice_candidates"), { client_id: peer.id, candidates: [CANDIDATE] });
  client.send("broadcast_invalidated_ice_candidates", { gateway_ids: [gatewayId], candidates: [CANDIDATE] });
  assert.deepEqual(gateway.last("invalidate_ice_candidates"), {
    client_id: peer.id,
    candidates: [CANDIDATE],
  });

  gateway.take();
  other.send("new_gateway_ice_candidates", { gateway_id: gatewayId, candidates: [CANDIDATE] });
  assert.deepEqual(gateway.take(), []);
  assert.equal(bench.state.counters.get("candidates-without-grant"), 1);

  bench.revoke("none");
  client.take();
  bench.configure(
    "account: { slug: lindenwerk, id: 0d6a3c0e-9a0f-4b52-8a3e-6f0c1b2d3e04 }\nactors: [{ name: Mira, kind: user }]\nsites: [{ name: Rack 4 }]",
  );
  client.take();
  gateway.send("broadcast_ice_candidates", { client_ids: [peer.id], candidates: [CANDIDATE] });
  assert.deepEqual(client.take(), []);
});

test("passes on 64 candidates of 512 characters, and counts the rest", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  request(client, LAB);
  acknowledge(gateway);
  const gatewayId = client.last<Created>("authorization_created").gateway_id;
  const candidates = [...Array.from({ length: 70 }, (_, i) => `${CANDIDATE} ${i}`), "x".repeat(513)];
  client.send("new_gateway_ice_candidates", { gateway_id: gatewayId, candidates });
  assert.deepEqual(
    gateway.last<{ candidates: string[] }>("ice_candidates").candidates,
    candidates.slice(0, 64),
  );
  assert.equal(bench.state.counters.get("candidate-beyond-limit"), 7);
});

test("a client's 257th open request makes the oldest fail", () => {
  const lines = Array.from(
    { length: 257 },
    (_, i) => `  - { name: r${i}, type: ip, address: 10.9.${i >> 8}.${i & 255}, site: Rack 4 }`,
  );
  const policies = Array.from({ length: 257 }, (_, i) => `  - { group: Everyone, resource: r${i} }`);
  const yaml = `
account: { slug: lindenwerk }
actors: [{ name: Mira, kind: user }]
sites: [{ name: Rack 4 }]
resources:
${lines.join("\n")}
policies:
${policies.join("\n")}
`;
  const bench = new PortalBench({ yaml });
  const ids = [...bench.state.configuration.resources.keys()];
  bench.gateway();
  const client = bench.client();
  for (const id of ids.slice(0, 256)) {
    request(client, id);
    bench.advance(10);
  }
  assert.equal(client.count("authorization_creation_failed"), 0);
  request(client, ids[256] ?? "");
  assert.deepEqual(client.last("authorization_creation_failed"), {
    resource_id: ids[0],
    reason: "offline",
  });
});

test("the internet resource needs a gateway of its site and has a name in the token", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway({ token: bench.gatewayToken("Annex").text });
  request(bench.client(), OUT);
  const asked = gateway.last<Create & { resource: unknown }>("create_authorization");
  assert.deepEqual(asked.resource, { id: OUT, type: "internet" });
  const claims = JSON.parse(
    Buffer.from(asked.flow_logs_ingest_token.split(".")[1] ?? "", "base64url").toString(),
  );
  assert.equal(claims.resource_name, "Out");
});

test("a request that its client did not wait for is forgotten", () => {
  const bench = new PortalBench();
  const gateway = bench.gateway();
  const client = bench.client();
  request(client, LAB);
  client.leave();
  acknowledge(gateway);
  assert.deepEqual(gateway.last("phx_reply"), { status: "error", response: { reason: "invalid_ref" } });
});
