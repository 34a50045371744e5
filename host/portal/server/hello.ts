import type { SocketAddress } from "../../core/address.ts";
import { parseIp } from "../../core/address.ts";
import type { DeviceHints } from "../endpoint.ts";
import { parseKey } from "../fields.ts";
import type { Generation, PortalRole } from "../wire.ts";
import { isClientKind, parseUserAgent, type UserAgent } from "./component.ts";

/** A request for a WebSocket, as the driver read it. */
export interface Hello {
  /** Path and query. */
  readonly target: string;
  /** Value of `X-Authorization`. */
  readonly authorization: string | undefined;
  readonly userAgent: string | undefined;
  /** IP address of the peer. */
  readonly address: string;
}

/** Answer to a hello that is refused: problem+json (portal §3.1). */
export interface Refusal {
  readonly status: number;
  readonly title: string;
  readonly code: string;
  readonly detail: string;
  readonly retryAfterS: number | undefined;
}

export function refusal(status: number, code: string, detail: string, retryAfterS?: number): Refusal {
  return { status, title: TITLES.get(status) ?? "Error", code, detail, retryAfterS };
}

const TITLES: ReadonlyMap<number, string> = new Map([
  [400, "Bad Request"],
  [401, "Unauthorized"],
  [404, "Not Found"],
  [409, "Conflict"],
  [503, "Service Unavailable"],
]);

export interface Route {
  readonly role: PortalRole;
  readonly generation: Generation;
}

const ROUTES: ReadonlyMap<string, Route> = new Map([
  ["/client/websocket", { role: "client", generation: 1 }],
  ["/client/v2/websocket", { role: "client", generation: 2 }],
  ["/gateway/websocket", { role: "gateway", generation: 1 }],
  ["/gateway/v2/websocket", { role: "gateway", generation: 2 }],
  ["/relay/websocket", { role: "relay", generation: 1 }],
]);

/** Undefined: no such socket. */
export function parseTarget(
  target: string,
): { readonly route: Route; readonly query: URLSearchParams } | undefined {
  const at = target.indexOf("?");
  const route = ROUTES.get(at < 0 ? target : target.slice(0, at));
  return route && { route, query: new URLSearchParams(at < 0 ? "" : target.slice(at + 1)) };
}

/** The token text: a `Bearer` header beats the query; any other header counts as absent (portal §2.3). */
export function tokenText(hello: Hello, query: URLSearchParams): string | undefined {
  const { authorization } = hello;
  const text = authorization?.startsWith("Bearer ") ? authorization.slice(7).trim() : query.get("token");
  return text === null || text === "" ? undefined : text;
}

export interface DeviceParameters {
  readonly externalId: string;
  readonly name: string | undefined;
  readonly publicKey: string;
  readonly hints: DeviceHints;
  readonly userAgent: UserAgent;
}

export interface RelayParameters {
  readonly v4: SocketAddress | undefined;
  readonly v6: SocketAddress | undefined;
  readonly userAgent: UserAgent;
}

const MAX_TEXT = 255;
const KEY_CHARACTERS = 44;
const DEFAULT_STUN_PORT = 3478;

/** Checks all parameters of a client or gateway and names every fault at once (portal §22.3). */
export function parseDevice(
  query: URLSearchParams,
  hello: Hello,
  role: "client" | "gateway",
): DeviceParameters | readonly string[] {
  const faults: string[] = [];
  const userAgent = parseUserAgent(hello.userAgent?.slice(0, 512) ?? "");
  const externalId = query.get("external_id") ?? query.get("firezone_id") ?? "";
  const publicKey = query.get("public_key") ?? "";

  if (externalId === "") faults.push("external_id can't be blank");
  if (externalId.length > MAX_TEXT) faults.push(`external_id should be at most ${MAX_TEXT} character(s)`);
  if (publicKey.length !== KEY_CHARACTERS) {
    faults.push(`public_key should be ${KEY_CHARACTERS} character(s)`);
  } else if (parseKey(publicKey) === undefined) {
    faults.push("public_key is not the base64 of 32 bytes");
  }
  const { component } = userAgent;
  if (role === "client" && (component === undefined || !isClientKind(component.kind))) {
    faults.push("user_agent names no client with a version");
  }
  const texts = optionalTexts(query, faults);
  return faults.length > 0 ? faults : { externalId, publicKey, userAgent, ...texts };
}

function optionalTexts(
  query: URLSearchParams,
  faults: string[],
): { name: string | undefined; hints: DeviceHints } {
  const read = (parameter: string) => {
    const text = query.get(parameter) ?? "";
    if (text.length > MAX_TEXT) faults.push(`${parameter} should be at most ${MAX_TEXT} character(s)`);
    return text === "" ? undefined : text;
  };
  return {
    name: read("name"),
    hints: {
      deviceSerial: read("device_serial"),
      deviceUuid: read("device_uuid"),
      identifierForVendor: read("identifier_for_vendor"),
      firebaseInstallationId: read("firebase_installation_id"),
    },
  };
}

export function parseRelay(query: URLSearchParams, hello: Hello): RelayParameters | readonly string[] {
  const faults: string[] = [];
  const portText = query.get("port");
  const port = portText === null ? DEFAULT_STUN_PORT : Number(portText);
  if (!Number.isInteger(port) || port < 1 || port > 65535) faults.push("port is not a port number");

  const v4 = relayAddress(query, "ipv4", port, faults);
  const v6 = relayAddress(query, "ipv6", port, faults);
  if (v4 === undefined && v6 === undefined && faults.length === 0) {
    faults.push("ipv4 or ipv6 must be given");
  }
  if (faults.length > 0) return faults;
  return { v4, v6, userAgent: parseUserAgent(hello.userAgent?.slice(0, 512) ?? "") };
}

function relayAddress(
  query: URLSearchParams,
  family: "ipv4" | "ipv6",
  port: number,
  faults: string[],
): SocketAddress | undefined {
  const text = query.get(family);
  if (text === null || text === "") return undefined;
  const ip = parseIp(text);
  if (ip !== undefined && ip.includes(":") === (family === "ipv6")) return { ip, port };
  faults.push(`${family} is invalid`);
  return undefined;
}
