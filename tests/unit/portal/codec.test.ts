import assert from "node:assert/strict";
import { test } from "node:test";
import { cidr, ip, parseSocketAddress, type SocketAddress } from "../../../host/core/address.ts";
import type { ClientId, GatewayId, RelayId, ResourceId, SiteId } from "../../../host/core/id.ts";
import type { ClientEgress, GatewayEgress, Relay } from "../../../host/core/messages.ts";
import type { Resource } from "../../../host/core/policy/resource.ts";
import {
  type ClientDialect,
  type ClientPush,
  decodeClientIngress,
  decodeClientStatement,
  encodeClientEgress,
  encodeClientPush,
} from "../../../host/portal/client-messages.ts";
import {
  decodeGatewayIngress,
  decodeGatewayStatement,
  encodeGatewayEgress,
  encodeGatewayPush,
  type GatewayPush,
} from "../../../host/portal/gateway-messages.ts";
import { decodeRelayIngress, decodeRelayJoin, encodeRelayJoin } from "../../../host/portal/relay-messages.ts";
import { decodeFrame, encodeFrame, type Push } from "../../../host/portal/wire.ts";
import { seededRandom } from "./portal-bench.ts";

const RESOURCE = "a9b8c7d6-e5f4-4a3b-9281-706f5e4d3c07" as ResourceId;
const GATEWAY = "8b2f6a90-1d3e-4c58-b7a1-6e9f0c4d2b02" as GatewayId;
const CLIENT = "3f0d1c52-7a51-4c7e-9a54-0d5b2a6f9e01" as ClientId;
const RELAY = "2a8abfa8-cb99-4629-8437-854193ca6bca" as RelayId;
const SITE = { id: "5e6f7081-92a3-4b4c-8d5e-6f7081920a0b" as SiteId, name: "Rack 4" };
const CANDIDATE = "candidate:8421337 1 udp 2130706431 192.168.7.20 52625 typ host";
const ICE = { username: "xrwp", password: "w73oxttmjobv7kwabj7yfj" };
const KEY = new Uint8Array(32).fill(0x22);

const V2: ClientDialect = { generation: 2, sites: "sites" };
const V1: ClientDialect = { generation: 1, sites: "gateway_groups" };

const WIKI: Resource = {
  kind: "dns",
  id: RESOURCE,
  name: "Wiki",
  address: "wiki.corp.example",
  description: "Team wiki",
  ipStack: "ipv4_only",
  filters: [
    { kind: "tcp", firstPort: 443, lastPort: 443 },
    { kind: "icmp", firstPort: 0, lastPort: 0 },
  ],
  sites: [SITE],
};
const LAB: Resource = {
  kind: "cidr",
  id: "1c2d3e4f-5061-4728-9394-a5b6c7d8e90c" as ResourceId,
  name: "Lab net",
  address: cidr("10.31.0.0/16"),
  description: undefined,
  filters: [],
  sites: [SITE],
};
const OUT: Resource = {
  kind: "internet",
  id: "77aa88bb-99cc-4ddd-8eee-ff0011223344" as ResourceId,
  name: "Internet Resource",
  sites: [SITE],
};
const DUAL_RELAY: Relay = {
  id: RELAY,
  v4: parseSocketAddress("198.51.100.20:3478") as SocketAddress,
  v6: parseSocketAddress("[2001:db8:20::1]:3478") as SocketAddress,
  username: "1790604800:salt",
  password: "secret",
  expiresAt: 1790604800,
};

const CLIENT_PUSHES: readonly ClientPush[] = [
  {
    kind: "init",
    interface: {
      ipv4: ip("100.70.12.34"),
      ipv6: ip("fd00:2021:1111::6:c22"),
      searchDomain: "corp.example",
      upstreamDo53: [ip("10.31.0.53"), ip("2001:db8:31::53")],
      upstreamDoh: ["https://dns.quad9.net/dns-query"],
    },
    resources: [WIKI, LAB, OUT],
    relays: [
      DUAL_RELAY,
      { ...DUAL_RELAY, id: "94c1de77-0b5a-4d21-9d0e-3d6f1b8a7c55" as RelayId, v6: undefined },
    ],
    flowLogsUrl: "https://portal.example/",
  },
  {
    kind: "config-changed",
    interface: {
      ipv4: ip("100.70.12.34"),
      ipv6: ip("fd00:2021:1111::6:c22"),
      searchDomain: undefined,
      upstreamDo53: [],
      upstreamDoh: [],
    },
  },
  { kind: "resource-created-or-updated", resource: LAB },
  { kind: "resource-deleted", resource: RESOURCE },
  {
    kind: "authorization-created",
    resource: RESOURCE,
    gateway: GATEWAY,
    site: SITE.id,
    gatewayPublicKey: KEY,
    gatewayIpv4: ip("100.80.0.9"),
    gatewayIpv6: ip("fd00:2021:1111::10:9"),
    presharedKey: new Uint8Array(32).fill(9),
    clientIce: ICE,
    gatewayIce: { username: "hzu4", password: "6szjacva52ju6cxopvde6a" },
    ingestToken: "a.b.c",
  },
  { kind: "authorization-failed", resource: RESOURCE, reason: "offline", violatedProperties: [] },
  {
    kind: "authorization-failed",
    resource: RESOURCE,
    reason: "forbidden",
    violatedProperties: ["remote_ip"],
  },
  { kind: "ice-candidates", gateway: GATEWAY, candidates: [CANDIDATE] },
  { kind: "invalidate-ice-candidates", gateway: GATEWAY, candidates: [CANDIDATE] },
  { kind: "relays-presence", disconnected: [RELAY], connected: [DUAL_RELAY] },
];

const GATEWAY_PUSHES: readonly GatewayPush[] = [
  {
    kind: "init",
    interface: { ipv4: ip("100.80.0.9"), ipv6: ip("fd00:2021:1111::10:9") },
    relays: [DUAL_RELAY],
    authorizations: [
      { client: CLIENT, resource: RESOURCE, expiresAt: 1790604800 },
      { client: CLIENT, resource: OUT.id, expiresAt: undefined },
    ],
    accountSlug: "lindenwerk",
    flowLogsUrl: "https://portal.example/",
  },
  {
    kind: "create-authorization",
    ref: "n7Qm0dJ3sVd1kq8yU2sC5w",
    resource: { ...WIKI, ipStack: "dual", description: undefined, sites: [] },
    client: {
      id: CLIENT,
      publicKey: new Uint8Array(32).fill(0x11),
      presharedKey: new Uint8Array(32).fill(9),
      ipv4: ip("100.70.12.34"),
      ipv6: ip("fd00:2021:1111::6:c22"),
    },
    clientIce: ICE,
    gatewayIce: { username: "hzu4", password: "6szjacva52ju6cxopvde6a" },
    expiresAt: 1790604800,
    details: {
      version: "1.5.12",
      osName: "Ubuntu",
      osVersion: undefined,
      deviceSerial: undefined,
      deviceUuid: undefined,
      identifierForVendor: undefined,
      firebaseInstallationId: undefined,
    },
    subject: {
      actorId: "e0f1a2b3-c4d5-4e6f-8a7b-9c0d1e2f3a08",
      actorName: "Mira",
      actorEmail: undefined,
      actorType: "account_user",
      ip: "203.0.113.50",
      userAgent: "x",
    },
    ingestToken: "a.b.c",
  },
  { kind: "reject-access", client: CLIENT, resource: RESOURCE },
  { kind: "resource-updated", resource: { ...LAB, sites: [] } },
  { kind: "ice-candidates", client: CLIENT, candidates: [CANDIDATE] },
  { kind: "invalidate-ice-candidates", client: CLIENT, candidates: [CANDIDATE] },
  { kind: "relays-presence", disconnected: [], connected: [] },
];

/** Through JSON, as on the wire. */
function overTheWire(push: Push): Push {
  const frame = decodeFrame(encodeFrame({ topic: "t", ...push, ref: null }));
  assert.ok(frame !== undefined);
  return frame;
}

test("clients decode what the portal encodes, in both generations and spellings", () => {
  for (const dialect of [V2, V1]) {
    for (const push of CLIENT_PUSHES) {
      const { event, payload } = overTheWire(encodeClientPush(push, dialect));
      const decoded = decodeClientIngress(event, payload);
      const expected: Record<string, unknown> = { ...push };
      delete expected["flowLogsUrl"];
      delete expected["ingestToken"];
      assert.deepEqual(
        decoded,
        { kind: "message", message: expected, skipped: [] },
        `${event} ${dialect.sites}`,
      );
    }
  }
});

test("gateways decode what the portal encodes, in both generations", () => {
  for (const generation of [1, 2] as const) {
    for (const push of GATEWAY_PUSHES) {
      const { event, payload } = overTheWire(encodeGatewayPush(push, generation));
      const expected: Record<string, unknown> = { ...push };
      for (const member of ["accountSlug", "flowLogsUrl", "details", "subject", "ingestToken"])
        delete expected[member];
      if (push.kind === "create-authorization") {
        expected["client"] = { ...push.client, actorName: push.subject.actorName };
      }
      assert.deepEqual(decodeGatewayIngress(event, payload), {
        kind: "message",
        message: expected,
        skipped: [],
      });
    }
  }
});

test("the portal decodes what clients say, and only in the generation of the path", () => {
  const said: readonly ClientEgress[] = [
    { kind: "request-authorization", resource: RESOURCE, connectedGateways: [GATEWAY] },
    { kind: "ice-candidates", gateway: GATEWAY, candidates: [CANDIDATE] },
    { kind: "invalidate-ice-candidates", gateway: GATEWAY, candidates: [CANDIDATE] },
    { kind: "no-relays" },
  ];
  for (const generation of [1, 2] as const) {
    for (const message of said) {
      const push = encodeClientEgress(message, generation);
      if (push === undefined) {
        assert.deepEqual([message.kind, generation], ["no-relays", 1]);
        continue;
      }
      const { gateway, ...rest } = message as { gateway?: GatewayId } & ClientEgress;
      const expected = gateway === undefined ? rest : { ...rest, gateways: [gateway] };
      assert.deepEqual(decodeClientStatement(push.event, overTheWire(push).payload, generation), {
        kind: "message",
        message: expected,
        skipped: [],
      });
    }
  }
  assert.equal(decodeClientStatement("create_flow", { resource_id: RESOURCE }, 2).kind, "unknown");
  assert.equal(decodeClientStatement("request_authorization", { resource_id: RESOURCE }, 1).kind, "unknown");
});

test("the portal decodes what gateways say, and only in the generation of the path", () => {
  const said: readonly GatewayEgress[] = [
    { kind: "authorization-created", ref: "abc" },
    { kind: "ice-candidates", clients: [CLIENT], candidates: [CANDIDATE] },
    { kind: "invalidate-ice-candidates", clients: [CLIENT], candidates: [CANDIDATE] },
  ];
  for (const generation of [1, 2] as const) {
    for (const message of said) {
      const push = encodeGatewayEgress(message, generation);
      assert.ok(push !== undefined);
      const decoded = decodeGatewayStatement(push.event, overTheWire(push).payload, generation);
      assert.deepEqual(decoded, { kind: "message", message, skipped: [] });
    }
  }
  assert.equal(encodeGatewayEgress({ kind: "no-relays" }, 1), undefined);
  assert.equal(decodeGatewayStatement("flow_authorized", { ref: "abc" }, 2).kind, "unknown");
  assert.equal(decodeGatewayStatement("authorization_created", { ref: "abc" }, 1).kind, "unknown");
});

test("relays are told nothing but an empty init, and say nothing but their secret", () => {
  assert.deepEqual(decodeRelayIngress("init", {}), {
    kind: "message",
    message: { kind: "init" },
    skipped: [],
  });
  assert.equal(decodeRelayIngress("init", null).kind, "malformed");
  assert.deepEqual(decodeRelayJoin(encodeRelayJoin("00".repeat(32))), { stampSecret: "00".repeat(32) });
  assert.equal(decodeRelayJoin(null), undefined);
});

test("skips unknown events, types and members, and single bad entries with a note (portal 25.13)", () => {
  assert.equal(decodeClientIngress("client_ice_candidates", {}).kind, "unknown");
  assert.equal(decodeClientIngress("constructor", {}).kind, "unknown");

  const decoded = decodeClientIngress("init", {
    interface: { ipv4: "100.70.12.34/32", ipv6: "fd00:2021:1111::6:c22", later: { a: 1 } },
    resources: [
      { id: RESOURCE, type: "static_device_pool", name: "Ops", devices: [] },
      { id: RESOURCE, type: "cidr", name: "no address", sites: [] },
      { id: RESOURCE, type: "cidr", name: "host bits", address: "10.0.0.1/8", sites: [] },
      {
        id: RESOURCE,
        type: "dns",
        name: "Wiki",
        address: "wiki.corp.example",
        gateway_groups: [SITE],
        extra: 1,
      },
      7,
    ],
    relays: [{ id: RELAY, type: "stun", addr: "198.51.100.20:3478" }, null],
    flow_logs: "whatever",
  });
  assert.ok(decoded.kind === "message" && decoded.message.kind === "init");
  assert.equal(decoded.message.interface.ipv4, "100.70.12.34");
  assert.deepEqual(
    decoded.message.resources.map(({ name }) => name),
    ["Wiki"],
  );
  assert.deepEqual(decoded.message.relays, []);
  assert.deepEqual(
    decoded.skipped.map((text) => text.slice(0, text.indexOf(":"))),
    ["resources[0]", "resources[1]", "resources[2]", "resources[4]", "relays[1]"],
  );
});

test("a message that misses a required member is dropped as a whole", () => {
  assert.equal(decodeClientIngress("init", { resources: [] }).kind, "malformed");
  assert.equal(decodeClientIngress("resource_deleted", { id: RESOURCE }).kind, "malformed");
  assert.equal(decodeGatewayIngress("create_authorization", { ref: "x" }).kind, "malformed");
  assert.equal(decodeGatewayStatement("authorization_created", {}, 2).kind, "malformed");
});

test("a resource with one filter that is not understood is skipped, not opened", () => {
  const resource = { id: RESOURCE, type: "cidr", name: "Lab", address: "10.0.0.0/8", sites: [] };
  for (const filter of [
    { protocol: "sctp" },
    { protocol: "tcp", port_range_start: 9, port_range_end: 8 },
    {},
  ]) {
    const decoded = decodeClientIngress("resource_created_or_updated", { ...resource, filters: [filter] });
    assert.equal(decoded.kind, "malformed");
  }
  const open = decodeClientIngress("resource_created_or_updated", {
    ...resource,
    filters: [{ protocol: "udp" }],
  });
  assert.ok(open.kind === "message" && open.message.kind === "resource-created-or-updated");
  assert.deepEqual(open.message.resource.kind === "cidr" && open.message.resource.filters, [
    { kind: "udp", firstPort: 0, lastPort: 65535 },
  ]);
});

test("malformed candidates are skipped, the rest of the list is used (portal 25.13)", () => {
  const decoded = decodeClientIngress("gateway_ice_candidates", {
    gateway_id: GATEWAY,
    candidates: [
      CANDIDATE,
      "nonsense",
      7,
      null,
      "candidate:1 1 udp high 10.0.0.1 1 typ host",
      `${CANDIDATE}${" ".repeat(600)}`,
    ],
  });
  assert.ok(decoded.kind === "message" && decoded.message.kind === "ice-candidates");
  assert.deepEqual(decoded.message.candidates, [CANDIDATE]);
});

test("takes either spelling of sites, and never encodes both (portal 25.16)", () => {
  const both = {
    id: RESOURCE,
    type: "internet",
    sites: [SITE],
    gateway_groups: [{ ...SITE, name: "other" }],
  };
  const decoded = decodeClientIngress("resource_created_or_updated", both);
  assert.ok(decoded.kind === "message" && decoded.message.kind === "resource-created-or-updated");
  assert.deepEqual(decoded.message.resource.sites, [SITE]);

  for (const dialect of [V1, V2]) {
    for (const push of CLIENT_PUSHES) {
      const text = JSON.stringify(encodeClientPush(push, dialect).payload);
      assert.equal(text.includes('"sites"') && text.includes('"gateway_groups"'), false);
      assert.equal(text.includes('"site_id"') && text.includes('"gateway_group_id"'), false);
      assert.equal(text.includes(dialect.sites === "sites" ? "gateway_group" : '"site'), false);
    }
  }
});

test("takes the resolvers of first-generation portals, without their ports", () => {
  const decoded = decodeClientIngress("config_changed", {
    interface: {
      ipv4: "100.70.12.34",
      ipv6: "fd00:2021:1111::6:c22",
      upstream_dns: [
        { protocol: "ip_port", address: "10.31.0.53:5353" },
        { protocol: "ip_port", address: "[2001:db8:31::53]:53" },
        { protocol: "other", address: "10.9.9.9:53" },
      ],
    },
  });
  assert.ok(decoded.kind === "message" && decoded.message.kind === "config-changed");
  assert.deepEqual(decoded.message.interface.upstreamDo53, ["10.31.0.53", "2001:db8:31::53"]);
});

test("merges the entries of one relay, which are encoded as neighbours (portal 25.17)", () => {
  const encoded = encodeClientPush(
    { kind: "relays-presence", disconnected: [], connected: [DUAL_RELAY] },
    V2,
  );
  const { connected } = encoded.payload as { connected: { addr: string; id: string; password: string }[] };
  assert.deepEqual(
    connected.map(({ addr, id, password }) => [addr, id, password]),
    [
      ["198.51.100.20:3478", RELAY, "secret"],
      ["[2001:db8:20::1]:3478", RELAY, "secret"],
    ],
  );

  const entry = { type: "turn", username: "u", password: "p", expires_at: 5 };
  const decoded = decodeGatewayIngress("relays_presence", {
    disconnected_ids: [RELAY.toUpperCase(), "not an id"],
    connected: [
      { ...entry, id: RELAY, addr: "[2001:db8::1]:3478" },
      { ...entry, id: RELAY, addr: "198.51.100.20:3478", password: "later" },
      { ...entry, id: RELAY, addr: "198.51.100.99:3478" },
    ],
  });
  assert.ok(decoded.kind === "message" && decoded.message.kind === "relays-presence");
  assert.deepEqual(decoded.message.disconnected, [RELAY]);
  assert.deepEqual(decoded.message.connected, [
    {
      id: RELAY,
      v4: parseSocketAddress("198.51.100.20:3478"),
      v6: parseSocketAddress("[2001:db8::1]:3478"),
      username: "u",
      password: "p",
      expiresAt: 5,
    },
  ]);
});

test("a frame keeps its ref's type, and what is no frame is refused", () => {
  assert.equal(decodeFrame('{"topic":"a","event":"b","payload":null,"ref":0}')?.ref, 0);
  assert.equal(decodeFrame('{"topic":"a","event":"b","payload":null,"ref":"0"}')?.ref, "0");
  assert.equal(decodeFrame('{"topic":"a","event":"b"}')?.ref, null);
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    '{"topic":1,"event":"b"}',
    '{"topic":"a","event":"b","ref":{}}',
  ]) {
    assert.equal(decodeFrame(text), undefined, text);
  }
});

test("no payload makes a decoder throw", () => {
  const seed = Number(process.env["SEED"] ?? 20261122);
  const random = seededRandom(seed);
  const events = [
    "init",
    "config_changed",
    "resource_created_or_updated",
    "authorization_created",
    "relays_presence",
  ];
  const samples = CLIENT_PUSHES.map((push) => encodeClientPush(push, V2).payload);
  for (let round = 0; round < 2_000; round++) {
    const sample = structuredClone(samples[Math.floor(random.uniform() * samples.length)]);
    const payload = mutate(sample, random);
    const event = events[Math.floor(random.uniform() * events.length)] ?? "";
    try {
      decodeClientIngress(event, payload);
      decodeGatewayIngress(event, payload);
      decodeGatewayStatement("broadcast_ice_candidates", payload, 2);
      decodeClientStatement("request_authorization", payload, 2);
    } catch (error) {
      assert.fail(`SEED=${seed} round ${round} ${event}: ${String(error)}`);
    }
  }
});

/** Replaces one member somewhere in the tree by a value of another kind. */
function mutate(value: unknown, random: { uniform(): number }): unknown {
  const odd = [null, 7, -1.5, "", "x", [], {}, true, { length: 3 }, ["__proto__"]];
  if (typeof value !== "object" || value === null || random.uniform() < 0.2) {
    return odd[Math.floor(random.uniform() * odd.length)];
  }
  const members = value as Record<string, unknown>;
  const keys = Object.keys(members);
  const key = keys[Math.floor(random.uniform() * keys.length)];
  if (key !== undefined) members[key] = mutate(members[key], random);
  return value;
}
