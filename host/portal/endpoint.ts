import { encodeKey, parseUuid } from "./fields.ts";
import type { Generation, PortalRole } from "./wire.ts";

/** Hardware hints of a client (portal §2.2). */
export interface DeviceHints {
  readonly deviceSerial?: string | undefined;
  readonly deviceUuid?: string | undefined;
  readonly identifierForVendor?: string | undefined;
  readonly firebaseInstallationId?: string | undefined;
}

export interface EndpointParameters {
  /** `wss://portal.example/`, also `https`, `ws` and `http`. */
  readonly url: string;
  readonly role: PortalRole;
  readonly generation: Generation;
  /** Clients and gateways; hashed before it is sent if the caller's id is a UUID. */
  readonly externalId?: string | undefined;
  readonly name?: string | undefined;
  readonly publicKey?: Uint8Array | undefined;
  readonly hints?: DeviceHints | undefined;
  /** Relays: the public addresses and the STUN port. */
  readonly ipv4?: string | undefined;
  readonly ipv6?: string | undefined;
  readonly port?: number | undefined;
  /** Only first-generation portals need the token in the query. */
  readonly token?: string | undefined;
}

/** Whether the id is a UUID: peers then send a hash of its text instead (portal §2.2). */
export function isUuidText(externalId: string): boolean {
  return parseUuid(externalId) !== undefined;
}

/** The WebSocket's URL (portal §2.1, §2.2). Throws TypeError on a base URL that cannot be one: an operator's error. */
export function portalEndpoint(parameters: EndpointParameters): URL {
  const { role, generation } = parameters;
  const url = new URL(parameters.url);
  const scheme = SCHEMES.get(url.protocol);
  if (scheme === undefined) throw new TypeError(`not a portal URL: scheme ${url.protocol}`);

  const versioned = generation === 2 && role !== "relay" ? `${role}/v2` : role;
  // The scheme is replaced in the text: `URL` refuses to change it.
  const base = `${scheme}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
  return new URL(`${base}/${versioned}/websocket?${query(parameters)}`);
}

const SCHEMES: ReadonlyMap<string, string> = new Map([
  ["http:", "ws:"],
  ["https:", "wss:"],
  ["ws:", "ws:"],
  ["wss:", "wss:"],
]);

function query(parameters: EndpointParameters): URLSearchParams {
  const { hints, publicKey, port } = parameters;
  const pairs: readonly (readonly [string, string | undefined])[] = [
    ["token", parameters.generation === 1 ? parameters.token : undefined],
    ["external_id", parameters.externalId],
    ["name", parameters.name],
    ["ipv4", parameters.ipv4],
    ["ipv6", parameters.ipv6],
    ["port", port === undefined ? undefined : String(port)],
    ["device_serial", hints?.deviceSerial],
    ["device_uuid", hints?.deviceUuid],
    ["identifier_for_vendor", hints?.identifierForVendor],
    ["firebase_installation_id", hints?.firebaseInstallationId],
    ["public_key", publicKey === undefined ? undefined : encodeKey(publicKey)],
  ];
  const search = new URLSearchParams();
  for (const [name, value] of pairs) if (value !== undefined) search.append(name, value);
  return search;
}
