import type { SocketAddress } from "../address.ts";
import type { IceCredentials } from "../messages.ts";
import type { StunAttribute } from "../stun/attribute.ts";
import { attributeValue, encodeStun, type StunMessage } from "../stun/message.ts";
import type { IceRole } from "./checklist.ts";

/** What a check says (connectivity §8.2). */
export interface PeerRequest {
  /** `<ufrag of the receiver>:<ufrag of the sender>`. */
  readonly username: string;
  readonly role: IceRole | undefined;
  readonly tieBreaker: Uint8Array | undefined;
  readonly priority: number;
  readonly nominates: boolean;
}

export interface CheckContents {
  readonly transactionId: Uint8Array;
  readonly local: IceCredentials;
  readonly remote: IceCredentials;
  readonly role: IceRole;
  readonly tieBreaker: Uint8Array;
  readonly priority: number;
  readonly nominates: boolean;
}

/** RFC 8445 §7.3.1.1. */
const ROLE_CONFLICT = { code: 487, reason: "Role Conflict" };

const toBytes = new TextEncoder();

export function passwordKey(credentials: IceCredentials): Uint8Array {
  return toBytes.encode(credentials.password);
}

/** The USERNAME by which a node recognises checks meant for it. */
export function expectedUsername(local: IceCredentials, remote: IceCredentials): string {
  return `${local.username}:${remote.username}`;
}

/** Undefined if it lacks what every check must have; the integrity is not verified here. */
export function readPeerRequest(message: StunMessage): PeerRequest | undefined {
  const username = attributeValue(message, "username");
  const priority = attributeValue(message, "priority");
  if (message.integrityOffset === undefined || priority === undefined) return undefined;
  if (username === undefined || !username.includes(":")) return undefined;

  const controlling = attributeValue(message, "ice-controlling");
  const controlled = attributeValue(message, "ice-controlled");
  return {
    username,
    role: controlling !== undefined ? "controlling" : controlled !== undefined ? "controlled" : undefined,
    tieBreaker: controlling ?? controlled,
    priority,
    nominates: attributeValue(message, "use-candidate") !== undefined,
  };
}

export function encodeCheck(check: CheckContents): Uint8Array {
  const attributes: StunAttribute[] = [
    { kind: "username", value: expectedUsername(check.remote, check.local) },
    check.role === "controlling"
      ? { kind: "ice-controlling", value: check.tieBreaker }
      : { kind: "ice-controlled", value: check.tieBreaker },
    { kind: "priority", value: check.priority },
  ];
  if (check.nominates) attributes.push({ kind: "use-candidate", value: true });
  return encodeStun({
    method: "binding",
    class: "request",
    transactionId: check.transactionId,
    attributes,
    integrityKey: passwordKey(check.remote),
    fingerprint: "append",
  });
}

export function encodeCheckSuccess(
  request: StunMessage,
  from: SocketAddress,
  local: IceCredentials,
): Uint8Array {
  return encodeStun({
    method: "binding",
    class: "success",
    transactionId: request.transactionId,
    attributes: [{ kind: "xor-mapped-address", value: from }],
    integrityKey: passwordKey(local),
    fingerprint: "append",
  });
}

export function encodeRoleConflict(request: StunMessage, local: IceCredentials): Uint8Array {
  return encodeStun({
    method: "binding",
    class: "error",
    transactionId: request.transactionId,
    attributes: [{ kind: "error-code", value: ROLE_CONFLICT }],
    integrityKey: passwordKey(local),
    fingerprint: "append",
  });
}

/** Orders two tie-breakers as the unsigned integers that they are. */
export function compareTieBreakers(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
