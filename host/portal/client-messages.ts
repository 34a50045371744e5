// Messages of the topic "client" (portal §6), both directions, both ends.
import { z } from "zod";
import { type IpAddress, parseIp, parseSocketAddress, socketAddressText } from "../core/address.ts";
import type { ClientEgress, ClientIngress, ClientInterface, FailReason } from "../core/messages.ts";
import { type Decoded, type Decoder, decodeBy, decodeEach, decoder } from "./decode.ts";
import {
  boundCandidates,
  candidateList,
  decodeRelays,
  encodeKey,
  encodeRelays,
  iceCredentials,
  ipAddress,
  ipv4,
  ipv6,
  key,
  parsed,
  rawList,
  relayId,
  uuid,
} from "./fields.ts";
import { clientResource, encodeClientResource, type SiteSpelling } from "./resources.ts";
import type { Generation, Push } from "./wire.ts";

/** How one client's connection spells things. */
export interface ClientDialect {
  readonly generation: Generation;
  readonly sites: SiteSpelling;
}

type Ingress<Kind extends ClientIngress["kind"]> = Extract<ClientIngress, { kind: Kind }>;

/**
 * What a portal pushes to a client: the client's own messages, with the members that only released
 * peers insist on (flow logs).
 */
export type ClientPush =
  | Exclude<ClientIngress, { kind: "init" | "authorization-created" }>
  | (Ingress<"init"> & { readonly flowLogsUrl: string })
  | (Ingress<"authorization-created"> & { readonly ingestToken: string });

type ResourceId = Ingress<"resource-deleted">["resource"];
type GatewayId = Ingress<"ice-candidates">["gateway"];

// ── Portal → client ─────────────────────────────────────────────────────────────────────────────

/** Decodes what a portal pushed, under the names of either generation. */
export function decodeClientIngress(event: string, payload: unknown): Decoded<ClientIngress> {
  return decodeBy(INGRESS, event, payload);
}

const upstreamAddress = parsed(parseUpstream, "an address with or without port");

const interfaceSchema = z.object({
  ipv4,
  ipv6,
  search_domain: z.string().nullish(),
  upstream_do53: rawList,
  upstream_doh: rawList,
  upstream_dns: rawList,
});

const initSchema = z.object({ interface: interfaceSchema, resources: rawList, relays: rawList });
const resourceId = uuid<ResourceId>();
const gatewayId = uuid<GatewayId>();
const siteId = uuid<Ingress<"authorization-created">["site"]>();

const created = decoder(
  z
    .object({
      resource_id: resourceId,
      site_id: siteId.optional(),
      gateway_group_id: siteId.optional(),
      gateway_id: gatewayId,
      gateway_public_key: key,
      gateway_ipv4: ipv4,
      gateway_ipv6: ipv6,
      preshared_key: key,
      client_ice_credentials: iceCredentials,
      gateway_ice_credentials: iceCredentials,
    })
    .transform(({ site_id, gateway_group_id, ...value }, context) => {
      const site = site_id ?? gateway_group_id;
      if (site !== undefined) return { ...value, site };
      context.addIssue({ code: "custom", path: ["site_id"], message: "expected a UUID" });
      return z.NEVER;
    }),
  (value): ClientIngress => ({
    kind: "authorization-created",
    resource: value.resource_id,
    gateway: value.gateway_id,
    site: value.site,
    gatewayPublicKey: value.gateway_public_key,
    gatewayIpv4: value.gateway_ipv4,
    gatewayIpv6: value.gateway_ipv6,
    presharedKey: value.preshared_key,
    clientIce: value.client_ice_credentials,
    gatewayIce: value.gateway_ice_credentials,
  }),
);

const KNOWN_REASONS: readonly FailReason[] = [
  "not_found",
  "offline",
  "forbidden",
  "version_mismatch",
  "disabled",
];

const failed = decoder(
  z.object({
    resource_id: resourceId,
    reason: z.string(),
    violated_properties: z.array(z.string()).nullish(),
  }),
  (value): ClientIngress => ({
    kind: "authorization-failed",
    resource: value.resource_id,
    reason: KNOWN_REASONS.find((reason) => reason === value.reason) ?? "unknown",
    violatedProperties: value.violated_properties ?? [],
  }),
);

function gatewayCandidates(kind: "ice-candidates" | "invalidate-ice-candidates"): Decoder<ClientIngress> {
  return decoder(z.object({ gateway_id: gatewayId, candidates: candidateList }), (value, skipped) => ({
    kind,
    gateway: value.gateway_id,
    candidates: boundCandidates(value.candidates, skipped),
  }));
}

const INGRESS: ReadonlyMap<string, Decoder<ClientIngress>> = new Map<string, Decoder<ClientIngress>>([
  [
    "init",
    decoder(initSchema, (value, skipped) => ({
      kind: "init",
      interface: toInterface(value.interface, skipped),
      resources: decodeEach(clientResource, value.resources, "resources", skipped),
      relays: decodeRelays(value.relays, "relays", skipped),
    })),
  ],
  [
    "config_changed",
    decoder(z.object({ interface: interfaceSchema }), (value, skipped) => ({
      kind: "config-changed",
      interface: toInterface(value.interface, skipped),
    })),
  ],
  [
    "resource_created_or_updated",
    decoder(clientResource, (resource) => ({ kind: "resource-created-or-updated", resource })),
  ],
  ["resource_deleted", decoder(resourceId, (resource) => ({ kind: "resource-deleted", resource }))],
  ["authorization_created", created],
  ["flow_created", created],
  ["authorization_creation_failed", failed],
  ["flow_creation_failed", failed],
  ["ice_candidates", gatewayCandidates("ice-candidates")],
  ["gateway_ice_candidates", gatewayCandidates("ice-candidates")],
  ["invalidate_ice_candidates", gatewayCandidates("invalidate-ice-candidates")],
  ["invalidate_gateway_ice_candidates", gatewayCandidates("invalidate-ice-candidates")],
  [
    "relays_presence",
    decoder(z.object({ disconnected_ids: rawList, connected: rawList }), (value, skipped) => ({
      kind: "relays-presence",
      disconnected: decodeEach(relayId, value.disconnected_ids, "disconnected_ids", skipped),
      connected: decodeRelays(value.connected, "connected", skipped),
    })),
  ],
]);

function toInterface(value: z.output<typeof interfaceSchema>, skipped: string[]): ClientInterface {
  const do53 = decodeEach(z.object({ ip: ipAddress }), value.upstream_do53, "upstream_do53", skipped);
  const legacy = decodeEach(
    z.object({ protocol: z.literal("ip_port"), address: upstreamAddress }),
    value.upstream_dns,
    "upstream_dns",
    skipped,
  );
  const doh = decodeEach(
    z.object({ url: z.url({ protocol: /^https$/ }) }),
    value.upstream_doh,
    "upstream_doh",
    skipped,
  );
  return {
    ipv4: value.ipv4,
    ipv6: value.ipv6,
    searchDomain: value.search_domain ?? undefined,
    // Portals of the first generation know only the list with ports (tunnel-core §5.4).
    upstreamDo53:
      do53.length > 0 ? do53.map((entry) => entry.ip) : unique(legacy.map((entry) => entry.address)),
    upstreamDoh: doh.map((entry) => entry.url),
  };
}

function parseUpstream(text: string): IpAddress | undefined {
  return parseIp(text) ?? parseSocketAddress(text)?.ip;
}

function unique(addresses: readonly IpAddress[]): IpAddress[] {
  return [...new Set(addresses)];
}

export function encodeClientPush(message: ClientPush, dialect: ClientDialect): Push {
  const v2 = dialect.generation === 2;
  switch (message.kind) {
    case "init":
      return {
        event: "init",
        payload: {
          interface: encodeInterface(message.interface),
          resources: message.resources.map((resource) => encodeClientResource(resource, dialect.sites)),
          authorizations: [],
          relays: encodeRelays(message.relays),
          flow_logs: { api_url: message.flowLogsUrl, upload_interval_secs: 0, upload_batch_size: 0 },
        },
      };
    case "config-changed":
      return { event: "config_changed", payload: { interface: encodeInterface(message.interface) } };
    case "resource-created-or-updated":
      return {
        event: "resource_created_or_updated",
        payload: encodeClientResource(message.resource, dialect.sites),
      };
    case "resource-deleted":
      return { event: "resource_deleted", payload: message.resource };
    case "authorization-created":
      return {
        event: v2 ? "authorization_created" : "flow_created",
        payload: encodeCreated(message, dialect),
      };
    case "authorization-failed":
      return {
        event: v2 ? "authorization_creation_failed" : "flow_creation_failed",
        payload: {
          resource_id: message.resource,
          reason: message.reason,
          // Only this reason has violated properties (portal §6.4).
          ...(message.reason === "forbidden" ? { violated_properties: message.violatedProperties } : {}),
        },
      };
    case "ice-candidates":
    case "invalidate-ice-candidates":
      return {
        event: message.kind === "ice-candidates" ? "ice_candidates" : "invalidate_ice_candidates",
        payload: { gateway_id: message.gateway, candidates: message.candidates },
      };
    case "relays-presence":
      return {
        event: "relays_presence",
        payload: { disconnected_ids: message.disconnected, connected: encodeRelays(message.connected) },
      };
  }
}

function encodeInterface(value: ClientInterface): unknown {
  return {
    ipv4: value.ipv4,
    ipv6: value.ipv6,
    search_domain: value.searchDomain ?? null,
    upstream_do53: value.upstreamDo53.map((ip) => ({ ip })),
    upstream_doh: value.upstreamDoh.map((url) => ({ url })),
    upstream_dns: value.upstreamDo53.map((ip) => ({
      protocol: "ip_port",
      address: socketAddressText({ ip, port: 53 }),
    })),
  };
}

function encodeCreated(
  message: Extract<ClientPush, { kind: "authorization-created" }>,
  { sites }: ClientDialect,
): unknown {
  return {
    resource_id: message.resource,
    [sites === "sites" ? "site_id" : "gateway_group_id"]: message.site,
    gateway_id: message.gateway,
    gateway_public_key: encodeKey(message.gatewayPublicKey),
    gateway_ipv4: message.gatewayIpv4,
    gateway_ipv6: message.gatewayIpv6,
    preshared_key: encodeKey(message.presharedKey),
    client_ice_credentials: message.clientIce,
    gateway_ice_credentials: message.gatewayIce,
    use_iceless: false,
    flow_logs_ingest_token: message.ingestToken,
  };
}

// ── Client → portal ─────────────────────────────────────────────────────────────────────────────

/** Undefined: that generation has no such message (portal §6.8). */
export function encodeClientEgress(message: ClientEgress, generation: Generation): Push | undefined {
  switch (message.kind) {
    case "request-authorization":
      return {
        event: generation === 2 ? "request_authorization" : "create_flow",
        payload: { resource_id: message.resource, connected_gateway_ids: message.connectedGateways },
      };
    case "ice-candidates":
      return generation === 2
        ? { event: "new_gateway_ice_candidates", payload: one(message) }
        : { event: "broadcast_ice_candidates", payload: many(message) };
    case "invalidate-ice-candidates":
      return generation === 2
        ? { event: "invalidate_gateway_ice_candidates", payload: one(message) }
        : { event: "broadcast_invalidated_ice_candidates", payload: many(message) };
    case "no-relays":
      return generation === 2 ? { event: "no_relays", payload: {} } : undefined;
  }
}

type CandidateEgress = Extract<ClientEgress, { candidates: readonly string[] }>;

function one({ gateway, candidates }: CandidateEgress): unknown {
  return { gateway_id: gateway, candidates };
}

function many({ gateway, candidates }: CandidateEgress): unknown {
  return { gateway_ids: [gateway], candidates };
}

/** What a client says, as the portal sees it: one spelling of candidates may name several gateways. */
export type ClientStatement =
  | Exclude<ClientEgress, CandidateEgress>
  | {
      readonly kind: CandidateEgress["kind"];
      readonly gateways: readonly GatewayId[];
      readonly candidates: readonly string[];
    }
  | { readonly kind: "capabilities"; readonly iceless: boolean };

/** Decodes on the portal; the names of the other generation are unknown events (portal §14.1). */
export function decodeClientStatement(
  event: string,
  payload: unknown,
  generation: Generation,
): Decoded<ClientStatement> {
  return decodeBy(generation === 2 ? STATEMENTS_V2 : STATEMENTS_V1, event, payload);
}

const request = decoder(
  z.object({ resource_id: resourceId, connected_gateway_ids: rawList }),
  (value, skipped): ClientStatement => ({
    kind: "request-authorization",
    resource: value.resource_id,
    connectedGateways: decodeEach(gatewayId, value.connected_gateway_ids, "connected_gateway_ids", skipped),
  }),
);

function toOneGateway(kind: CandidateEgress["kind"]): Decoder<ClientStatement> {
  return decoder(z.object({ gateway_id: gatewayId, candidates: z.array(z.unknown()) }), (value, skipped) => ({
    kind,
    gateways: [value.gateway_id],
    candidates: decodeEach(z.string(), value.candidates, "candidates", skipped),
  }));
}

function toGateways(kind: CandidateEgress["kind"]): Decoder<ClientStatement> {
  return decoder(z.object({ gateway_ids: rawList, candidates: z.array(z.unknown()) }), (value, skipped) => ({
    kind,
    gateways: decodeEach(gatewayId, value.gateway_ids, "gateway_ids", skipped),
    candidates: decodeEach(z.string(), value.candidates, "candidates", skipped),
  }));
}

const BOTH_GENERATIONS: readonly (readonly [string, Decoder<ClientStatement>])[] = [
  ["new_gateway_ice_candidates", toOneGateway("ice-candidates")],
  ["broadcast_ice_candidates", toGateways("ice-candidates")],
  ["invalidate_gateway_ice_candidates", toOneGateway("invalidate-ice-candidates")],
  ["broadcast_invalidated_ice_candidates", toGateways("invalidate-ice-candidates")],
  ["no_relays", decoder(z.unknown(), () => ({ kind: "no-relays" }))],
  [
    "set_snownet_capabilities",
    decoder(z.object({ iceless: z.boolean() }), (value) => ({
      kind: "capabilities",
      iceless: value.iceless,
    })),
  ],
];

const STATEMENTS_V1: ReadonlyMap<string, Decoder<ClientStatement>> = new Map([
  ["create_flow", request],
  ...BOTH_GENERATIONS,
]);
const STATEMENTS_V2: ReadonlyMap<string, Decoder<ClientStatement>> = new Map([
  ["request_authorization", request],
  ...BOTH_GENERATIONS,
]);
