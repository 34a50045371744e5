// Messages of the topic "gateway" (portal §7), both directions, both ends.
import { z } from "zod";
import type { GatewayEgress, GatewayIngress } from "../core/messages.ts";
import { type Decoded, type Decoder, decodeBy, decodeEach, decoder } from "./decode.ts";
import {
  boundCandidates,
  candidateList,
  decodeRelays,
  encodeKey,
  encodeRelays,
  iceCredentials,
  ipv4,
  ipv6,
  key,
  rawList,
  relayId,
  unixSeconds,
  uuid,
} from "./fields.ts";
import { encodeGatewayResource, gatewayResource } from "./resources.ts";
import type { Generation, Push } from "./wire.ts";

type Ingress<Kind extends GatewayIngress["kind"]> = Extract<GatewayIngress, { kind: Kind }>;
type ClientId = Ingress<"reject-access">["client"];
type ResourceId = Ingress<"reject-access">["resource"];

/** Who and what asks: gateways only log it, each value may be unknown. */
export interface ClientDetails {
  readonly version: string | undefined;
  readonly osName: string | undefined;
  readonly osVersion: string | undefined;
  readonly deviceSerial: string | undefined;
  readonly deviceUuid: string | undefined;
  readonly identifierForVendor: string | undefined;
  readonly firebaseInstallationId: string | undefined;
}

export interface Subject {
  readonly actorId: string;
  readonly actorName: string;
  readonly actorEmail: string | undefined;
  readonly actorType: "account_user" | "account_admin_user" | "service_account";
  readonly ip: string;
  readonly userAgent: string;
}

/** What a portal pushes to a gateway: the gateway's own messages, with what only released peers or logs use. */
export type GatewayPush =
  | Exclude<GatewayIngress, { kind: "init" | "create-authorization" }>
  | (Ingress<"init"> & { readonly accountSlug: string; readonly flowLogsUrl: string })
  | (Ingress<"create-authorization"> & {
      readonly details: ClientDetails;
      readonly subject: Subject;
      readonly ingestToken: string;
    });

// ── Portal → gateway ────────────────────────────────────────────────────────────────────────────

/** Decodes what a portal pushed, under the names of either generation. */
export function decodeGatewayIngress(event: string, payload: unknown): Decoded<GatewayIngress> {
  return decodeBy(INGRESS, event, payload);
}

const expiry = unixSeconds.nullish().transform((value) => value ?? undefined);
const clientId = uuid<ClientId>();
const resourceId = uuid<ResourceId>();

const authorization = z
  .object({ client_id: clientId, resource_id: resourceId, expires_at: expiry })
  .transform((value) => ({
    client: value.client_id,
    resource: value.resource_id,
    expiresAt: value.expires_at,
  }));

const create = decoder(
  z.object({
    ref: z.string().max(8192),
    resource: gatewayResource,
    client: z.object({ id: clientId, public_key: key, preshared_key: key, ipv4, ipv6 }),
    // Only for people: whatever is odd about it must not cost the grant.
    subject: z
      .object({ actor_name: z.string().max(255) })
      .optional()
      .catch(undefined),
    client_ice_credentials: iceCredentials,
    gateway_ice_credentials: iceCredentials,
    expires_at: expiry,
  }),
  (value): GatewayIngress => ({
    kind: "create-authorization",
    ref: value.ref,
    resource: value.resource,
    client: {
      id: value.client.id,
      publicKey: value.client.public_key,
      presharedKey: value.client.preshared_key,
      ipv4: value.client.ipv4,
      ipv6: value.client.ipv6,
      actorName: value.subject?.actor_name,
    },
    clientIce: value.client_ice_credentials,
    gatewayIce: value.gateway_ice_credentials,
    expiresAt: value.expires_at,
  }),
);

function clientCandidates(kind: "ice-candidates" | "invalidate-ice-candidates"): Decoder<GatewayIngress> {
  return decoder(z.object({ client_id: clientId, candidates: candidateList }), (value, skipped) => ({
    kind,
    client: value.client_id,
    candidates: boundCandidates(value.candidates, skipped),
  }));
}

const INGRESS: ReadonlyMap<string, Decoder<GatewayIngress>> = new Map<string, Decoder<GatewayIngress>>([
  [
    "init",
    decoder(
      z.object({ interface: z.object({ ipv4, ipv6 }), relays: rawList, authorizations: rawList }),
      (value, skipped) => ({
        kind: "init",
        interface: value.interface,
        relays: decodeRelays(value.relays, "relays", skipped),
        authorizations: decodeEach(authorization, value.authorizations, "authorizations", skipped),
      }),
    ),
  ],
  ["create_authorization", create],
  ["authorize_flow", create],
  [
    "reject_access",
    decoder(z.object({ client_id: clientId, resource_id: resourceId }), (value) => ({
      kind: "reject-access",
      client: value.client_id,
      resource: value.resource_id,
    })),
  ],
  ["resource_updated", decoder(gatewayResource, (resource) => ({ kind: "resource-updated", resource }))],
  ["ice_candidates", clientCandidates("ice-candidates")],
  ["invalidate_ice_candidates", clientCandidates("invalidate-ice-candidates")],
  [
    "relays_presence",
    decoder(z.object({ disconnected_ids: rawList, connected: rawList }), (value, skipped) => ({
      kind: "relays-presence",
      disconnected: decodeEach(relayId, value.disconnected_ids, "disconnected_ids", skipped),
      connected: decodeRelays(value.connected, "connected", skipped),
    })),
  ],
]);

export function encodeGatewayPush(message: GatewayPush, generation: Generation): Push {
  switch (message.kind) {
    case "init":
      return { event: "init", payload: encodeInit(message) };
    case "create-authorization":
      return {
        event: generation === 2 ? "create_authorization" : "authorize_flow",
        payload: encodeCreate(message),
      };
    case "reject-access":
      return {
        event: "reject_access",
        payload: { client_id: message.client, resource_id: message.resource },
      };
    case "resource-updated":
      return { event: "resource_updated", payload: encodeGatewayResource(message.resource) };
    case "ice-candidates":
    case "invalidate-ice-candidates":
      return {
        event: message.kind === "ice-candidates" ? "ice_candidates" : "invalidate_ice_candidates",
        payload: { client_id: message.client, candidates: message.candidates },
      };
    case "relays-presence":
      return {
        event: "relays_presence",
        payload: { disconnected_ids: message.disconnected, connected: encodeRelays(message.connected) },
      };
  }
}

function encodeInit(message: Extract<GatewayPush, { kind: "init" }>): unknown {
  return {
    account_slug: message.accountSlug,
    interface: { ipv4: message.interface.ipv4, ipv6: message.interface.ipv6 },
    config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
    relays: encodeRelays(message.relays),
    authorizations: message.authorizations.map((entry) => ({
      client_id: entry.client,
      resource_id: entry.resource,
      expires_at: entry.expiresAt ?? null,
    })),
    flow_logs: { api_url: message.flowLogsUrl, upload_interval_secs: 0, upload_batch_size: 0 },
  };
}

function encodeCreate(message: Extract<GatewayPush, { kind: "create-authorization" }>): unknown {
  const { client, details, subject } = message;
  return {
    ref: message.ref,
    resource: encodeGatewayResource(message.resource),
    client: {
      id: client.id,
      public_key: encodeKey(client.publicKey),
      preshared_key: encodeKey(client.presharedKey),
      ipv4: client.ipv4,
      ipv6: client.ipv6,
      version: details.version ?? null,
      device_os_name: details.osName ?? null,
      device_os_version: details.osVersion ?? null,
      device_serial: details.deviceSerial ?? null,
      device_uuid: details.deviceUuid ?? null,
      identifier_for_vendor: details.identifierForVendor ?? null,
      firebase_installation_id: details.firebaseInstallationId ?? null,
    },
    client_ice_credentials: message.clientIce,
    gateway_ice_credentials: message.gatewayIce,
    expires_at: message.expiresAt ?? null,
    subject: {
      actor_id: subject.actorId,
      actor_name: subject.actorName,
      actor_email: subject.actorEmail ?? null,
      actor_type: subject.actorType,
      auth_provider_id: null,
      ip: subject.ip,
      ip_region: null,
      ip_city: null,
      ip_lat: null,
      ip_lon: null,
      user_agent: subject.userAgent,
    },
    use_iceless: false,
    flow_logs_ingest_token: message.ingestToken,
  };
}

// ── Gateway → portal ────────────────────────────────────────────────────────────────────────────

/** Undefined: that generation has no such message. */
export function encodeGatewayEgress(message: GatewayEgress, generation: Generation): Push | undefined {
  switch (message.kind) {
    case "authorization-created":
      return {
        event: generation === 2 ? "authorization_created" : "flow_authorized",
        payload: { ref: message.ref },
      };
    case "ice-candidates":
    case "invalidate-ice-candidates":
      return {
        event:
          message.kind === "ice-candidates"
            ? "broadcast_ice_candidates"
            : "broadcast_invalidated_ice_candidates",
        payload: { client_ids: message.clients, candidates: message.candidates },
      };
    case "no-relays":
      return generation === 2 ? { event: "no_relays", payload: {} } : undefined;
  }
}

/** What a gateway says, as the portal sees it. */
export type GatewayStatement = GatewayEgress | { readonly kind: "capabilities"; readonly iceless: boolean };

/** Decodes on the portal; the names of the other generation are unknown events (portal §14.1). */
export function decodeGatewayStatement(
  event: string,
  payload: unknown,
  generation: Generation,
): Decoded<GatewayStatement> {
  return decodeBy(generation === 2 ? STATEMENTS_V2 : STATEMENTS_V1, event, payload);
}

const acknowledged = decoder(
  z.object({ ref: z.string().max(8192) }),
  (value): GatewayStatement => ({
    kind: "authorization-created",
    ref: value.ref,
  }),
);

function toClients(kind: "ice-candidates" | "invalidate-ice-candidates"): Decoder<GatewayStatement> {
  return decoder(z.object({ client_ids: rawList, candidates: z.array(z.unknown()) }), (value, skipped) => ({
    kind,
    clients: decodeEach(clientId, value.client_ids, "client_ids", skipped),
    candidates: decodeEach(z.string(), value.candidates, "candidates", skipped),
  }));
}

const BOTH_GENERATIONS: readonly (readonly [string, Decoder<GatewayStatement>])[] = [
  ["broadcast_ice_candidates", toClients("ice-candidates")],
  ["broadcast_invalidated_ice_candidates", toClients("invalidate-ice-candidates")],
  ["no_relays", decoder(z.unknown(), () => ({ kind: "no-relays" }))],
  [
    "set_snownet_capabilities",
    decoder(z.object({ iceless: z.boolean() }), (value) => ({
      kind: "capabilities",
      iceless: value.iceless,
    })),
  ],
];

const STATEMENTS_V1: ReadonlyMap<string, Decoder<GatewayStatement>> = new Map([
  ["flow_authorized", acknowledged],
  ...BOTH_GENERATIONS,
]);
const STATEMENTS_V2: ReadonlyMap<string, Decoder<GatewayStatement>> = new Map([
  ["authorization_created", acknowledged],
  ...BOTH_GENERATIONS,
]);
