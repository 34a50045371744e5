import type { IpAddress, SocketAddress } from "../../core/address.ts";
import type { ClientId, GatewayId, RelayId, ResourceId, SiteId } from "../../core/id.ts";
import type { Instant } from "../../core/time.ts";
import type { ClientDialect } from "../client-messages.ts";
import type { DeviceHints } from "../endpoint.ts";
import type { Generation } from "../wire.ts";
import type { ClientKind, UserAgent, Version } from "./component.ts";
import type { TokenRecord } from "./tokens.ts";

/** Number of one WebSocket, never used again. */
export type ConnectionId = number & { readonly brand?: "connection-id" };

interface PeerBase {
  readonly connection: ConnectionId;
  readonly generation: Generation;
  readonly openedAt: Instant;
  /** Peer's address as the socket says. */
  readonly address: string;
  readonly userAgent: UserAgent;
  lastSeenAt: Instant;
  isJoined: boolean;
  /** Messages that it may still send at once, as of `allowanceAt` (portal §22.6). */
  allowance: number;
  allowanceAt: Instant;
}

/** A machine that the portal remembers while it runs: same identity, same id and addresses (portal §15.3). */
interface DeviceBase {
  readonly name: string;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  /** Enters the pre-shared keys; never leaves the portal. */
  readonly pskBase: Uint8Array;
  /** Base64, as text: derivations use it so. */
  publicKey: string;
}

export interface ClientDevice extends DeviceBase {
  readonly kind: "client";
  readonly id: ClientId;
  readonly actorId: string;
}

export interface GatewayDevice extends DeviceBase {
  readonly kind: "gateway";
  readonly id: GatewayId;
  readonly siteId: SiteId;
}

export interface ClientPeer extends PeerBase {
  readonly role: "client";
  readonly token: Extract<TokenRecord, { kind: "client" }>;
  readonly device: ClientDevice;
  readonly kind: ClientKind;
  readonly version: Version;
  readonly versionText: string;
  readonly hints: DeviceHints;
  readonly dialect: ClientDialect;
  /** What the client was told that it may use: comparable text, and the site it is in. */
  listed: Map<ResourceId, { readonly text: string; readonly siteText: string }>;
  interfaceText: string;
  relays: readonly RelayId[];
}

export interface GatewayPeer extends PeerBase {
  readonly role: "gateway";
  readonly token: Extract<TokenRecord, { kind: "gateway" }>;
  readonly device: GatewayDevice;
  /** Undefined: never selected (portal §2.4). */
  readonly version: Version | undefined;
  relays: readonly RelayId[];
}

export interface RelayPeer extends PeerBase {
  readonly role: "relay";
  readonly token: Extract<TokenRecord, { kind: "relay" }>;
  readonly v4: SocketAddress | undefined;
  readonly v6: SocketAddress | undefined;
  /** Set by the join. */
  id: RelayId | undefined;
  stampSecret: string;
}

export type Peer = ClientPeer | GatewayPeer | RelayPeer;
