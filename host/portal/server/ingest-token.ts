import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { UnixTime } from "../../core/time.ts";
import { toBase64Url } from "../base64.ts";
import { utf8 } from "./derivations.ts";

/** Flow logs of an authorization may be uploaded until a month after its end (portal §10.7). */
const UPLOAD_GRACE_S = 30 * 86_400;

/** Whom an authorization connects, as attribution of flow logs needs it. */
export interface Attribution {
  readonly accountId: string;
  readonly issuedAt: UnixTime;
  readonly role: "initiator" | "responder";
  readonly initiatorDeviceId: string;
  readonly responderDeviceId: string;
  readonly authorizationId: string;
  readonly policyId: string;
  readonly resourceId: string;
  readonly resourceName: string;
  readonly resourceAddress: string | undefined;
  readonly actorId: string;
  readonly actorName: string;
  readonly actorEmail: string | undefined;
  readonly clientVersion: string | undefined;
  readonly authorizedAt: UnixTime;
  readonly expiresAt: UnixTime;
}

/**
 * Mints the token that released peers insist on with every grant. Uploads are off: peers then neither
 * store nor send anything.
 */
export function ingestToken(attribution: Attribution, key: Uint8Array): string {
  return signJwt(claims(attribution), key);
}

/** HS256 JWT; the members keep the order given. */
export function signJwt(payload: Readonly<Record<string, unknown>>, key: Uint8Array): string {
  const signed = [{ alg: "HS256", typ: "JWT" }, payload]
    .map((part) => toBase64Url(utf8(JSON.stringify(part))))
    .join(".");
  return `${signed}.${toBase64Url(hmac(sha256, key, utf8(signed)))}`;
}

function claims(from: Attribution): Readonly<Record<string, unknown>> {
  return {
    account_id: from.accountId,
    iat: from.issuedAt,
    exp: from.expiresAt + UPLOAD_GRACE_S,
    uploads_enabled: false,
    role: from.role,
    initiator_device_id: from.initiatorDeviceId,
    responder_device_id: from.responderDeviceId,
    policy_authorization_id: from.authorizationId,
    policy_id: from.policyId,
    resource_id: from.resourceId,
    resource_name: from.resourceName,
    initiator_actor_id: from.actorId,
    initiator_actor_name: from.actorName,
    authorized_at: timestamp(from.authorizedAt),
    authorization_expires_at: timestamp(from.expiresAt),
    // Unknown values are left out: peers take no null here. `JSON.stringify` drops undefined members.
    resource_address: from.resourceAddress,
    initiator_actor_email: from.actorEmail,
    initiator_client_version: from.clientVersion,
  };
}

function timestamp(at: UnixTime): string {
  return new Date(at * 1000).toISOString().replace(/\.\d{3}Z$/, ".000000Z");
}
