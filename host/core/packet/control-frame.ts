import { type IpAddress, parseIp } from "../address.ts";
import type { ResourceId } from "../id.ts";
import { asciiLowerCase } from "../policy/pattern.ts";
import { IPV6_HEADER_BYTES, MAX_IP_BYTES, parseIpPacket, writeU16 } from "./ip-packet.ts";

// A control frame (tunnel-core §4.1):
//
//   0       IPv6 header: payload length at 4, next header 255, hop limit 0, both addresses ::
//   40      event
//   41..47  reserved
//   48      body
const NEXT_HEADER_CONTROL = 0xff;
const CONTROL_HEADER_BYTES = 8;
const EVENT_OFFSET = IPV6_HEADER_BYTES;
const BODY_OFFSET = IPV6_HEADER_BYTES + CONTROL_HEADER_BYTES;

const EVENT_ASSIGNED_IPS = 0;
const EVENT_DOMAIN_STATUS = 1;
const EVENT_GOODBYE = 2;

/** RFC 1035: 253 characters, and one for a trailing dot; room is left for escaped bytes. */
const MAX_DOMAIN_CHARACTERS = 1024;

export interface AssignedIps {
  readonly resource: ResourceId;
  /** Without trailing dot, lower case. */
  readonly domain: string;
  readonly proxyIps: readonly IpAddress[];
}

export interface DomainStatus {
  readonly resource: ResourceId;
  readonly domain: string;
  readonly active: boolean;
}

export type ControlFrame =
  | ({ readonly kind: "assigned-ips" } & AssignedIps)
  | ({ readonly kind: "domain-status" } & DomainStatus)
  | { readonly kind: "goodbye" }
  /** An event that we do not know, or a known one whose body does not parse: to be ignored. */
  | { readonly kind: "unknown"; readonly event: number };

/** Undefined: not a control frame, but an ordinary packet. */
export function decodeControlFrame(bytes: Uint8Array): ControlFrame | undefined {
  if (!isControlFrame(bytes)) return undefined;

  const event = bytes[EVENT_OFFSET] ?? 0;
  const unknown: ControlFrame = { kind: "unknown", event };
  switch (event) {
    case EVENT_ASSIGNED_IPS:
      return decodeAssignedIps(bytes) ?? unknown;
    case EVENT_DOMAIN_STATUS:
      return decodeDomainStatus(bytes) ?? unknown;
    case EVENT_GOODBYE:
      return { kind: "goodbye" };
    default:
      return unknown;
  }
}

/** Next header 255 directly behind the IPv6 header, both addresses `::`, at least 8 bytes of payload. */
export function isControlFrame(bytes: Uint8Array): boolean {
  if (bytes.length < BODY_OFFSET || bytes[6] !== NEXT_HEADER_CONTROL) return false;

  const packet = parseIpPacket(bytes);
  return packet?.version === 6 && packet.source === "::" && packet.destination === "::";
}

/** Undefined unless there are exactly 4 or 8 proxy IPs: peers rely on complete sets (tunnel-core §4.3). */
export function encodeAssignedIps({ resource, domain, proxyIps }: AssignedIps): Uint8Array | undefined {
  if (proxyIps.length !== 4 && proxyIps.length !== 8) return undefined;
  return encode(EVENT_ASSIGNED_IPS, { resource, domain, proxy_ips: proxyIps });
}

/** Undefined if the name is too long for one frame. */
export function encodeDomainStatus({ resource, domain, active }: DomainStatus): Uint8Array | undefined {
  return encode(EVENT_DOMAIN_STATUS, { resource, domain, status: active ? "Active" : "Inactive" });
}

export function encodeGoodbye(): Uint8Array {
  return frame(EVENT_GOODBYE, new Uint8Array(0));
}

function encode(event: number, body: object): Uint8Array | undefined {
  const json = new TextEncoder().encode(JSON.stringify(body));
  return BODY_OFFSET + json.length > MAX_IP_BYTES ? undefined : frame(event, json);
}

function frame(event: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(BODY_OFFSET + body.length);
  bytes[0] = 0x60;
  writeU16(bytes, 4, CONTROL_HEADER_BYTES + body.length);
  bytes[6] = NEXT_HEADER_CONTROL;
  bytes[EVENT_OFFSET] = event;
  bytes.set(body, BODY_OFFSET);
  return bytes;
}

function decodeAssignedIps(bytes: Uint8Array): ControlFrame | undefined {
  const body = parseBody(bytes);
  const subject = body && subjectOf(body);
  const list = body?.["proxy_ips"];
  if (subject === undefined || !Array.isArray(list)) return undefined;

  const proxyIps: IpAddress[] = [];
  for (const text of list as unknown[]) {
    const ip = typeof text === "string" ? parseIp(text) : undefined;
    if (ip === undefined) return undefined;
    proxyIps.push(ip);
  }
  return { kind: "assigned-ips", ...subject, proxyIps };
}

function decodeDomainStatus(bytes: Uint8Array): ControlFrame | undefined {
  const body = parseBody(bytes);
  const subject = body && subjectOf(body);
  const status = body?.["status"];
  if (subject === undefined || typeof status !== "string") return undefined;
  return { kind: "domain-status", ...subject, active: status === "Active" };
}

function subjectOf(
  body: Readonly<Record<string, unknown>>,
): { resource: ResourceId; domain: string } | undefined {
  const { resource, domain } = body;
  if (typeof resource !== "string" || typeof domain !== "string") return undefined;
  if (domain.length > MAX_DOMAIN_CHARACTERS) return undefined;

  const name = domain.endsWith(".") ? domain.slice(0, -1) : domain;
  return { resource: resource.toLowerCase() as ResourceId, domain: asciiLowerCase(name) };
}

function parseBody(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(BODY_OFFSET));
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
