// Portal messages as the machines see them: decoded, validated, names independent of the protocol generation.
// `host/portal` maps them to the wire (tunnel-core §5, portal.md §§6–8).
import type { IpAddress, SocketAddress } from "./address.ts";
import type { ClientId, GatewayId, RelayId, ResourceId, SiteId } from "./id.ts";
import type { Resource } from "./policy/resource.ts";
import type { UnixTime } from "./time.ts";

/** Key as 32 raw bytes. */
export type Key = Uint8Array;

export interface IceCredentials {
  readonly username: string;
  readonly password: string;
}

/** One relay; at least one of the addresses is set. */
export interface Relay {
  readonly id: RelayId;
  readonly v4: SocketAddress | undefined;
  readonly v6: SocketAddress | undefined;
  readonly username: string;
  readonly password: string;
  readonly expiresAt: UnixTime;
}

export interface ClientInterface {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly searchDomain: string | undefined;
  /** Portal-configured Do53 servers, port 53; empty: the system's resolvers. */
  readonly upstreamDo53: readonly IpAddress[];
  readonly upstreamDoh: readonly string[];
}

export interface GatewayInterface {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

export type FailReason = "not_found" | "offline" | "forbidden" | "version_mismatch" | "disabled" | "unknown";

export type ClientIngress =
  | {
      readonly kind: "init";
      readonly interface: ClientInterface;
      readonly resources: readonly Resource[];
      readonly relays: readonly Relay[];
    }
  | { readonly kind: "config-changed"; readonly interface: ClientInterface }
  | { readonly kind: "resource-created-or-updated"; readonly resource: Resource }
  | { readonly kind: "resource-deleted"; readonly resource: ResourceId }
  | {
      readonly kind: "authorization-created";
      readonly resource: ResourceId;
      readonly gateway: GatewayId;
      readonly site: SiteId;
      readonly gatewayPublicKey: Key;
      readonly gatewayIpv4: IpAddress;
      readonly gatewayIpv6: IpAddress;
      readonly presharedKey: Key;
      readonly clientIce: IceCredentials;
      readonly gatewayIce: IceCredentials;
    }
  | {
      readonly kind: "authorization-failed";
      readonly resource: ResourceId;
      readonly reason: FailReason;
      readonly violatedProperties: readonly string[];
    }
  | { readonly kind: "ice-candidates"; readonly gateway: GatewayId; readonly candidates: readonly string[] }
  | {
      readonly kind: "invalidate-ice-candidates";
      readonly gateway: GatewayId;
      readonly candidates: readonly string[];
    }
  | {
      readonly kind: "relays-presence";
      readonly disconnected: readonly RelayId[];
      readonly connected: readonly Relay[];
    };

export type ClientEgress =
  | {
      readonly kind: "request-authorization";
      readonly resource: ResourceId;
      readonly connectedGateways: readonly GatewayId[];
    }
  | { readonly kind: "ice-candidates"; readonly gateway: GatewayId; readonly candidates: readonly string[] }
  | {
      readonly kind: "invalidate-ice-candidates";
      readonly gateway: GatewayId;
      readonly candidates: readonly string[];
    }
  | { readonly kind: "no-relays" };

/** Resource as a gateway sees it: no sites. */
export type GatewayResource = Resource;

export interface GrantedClient {
  readonly id: ClientId;
  /** Whose device it is, for people; not every portal says. */
  readonly actorName?: string | undefined;
  readonly publicKey: Key;
  readonly presharedKey: Key;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

export type GatewayIngress =
  | {
      readonly kind: "init";
      readonly interface: GatewayInterface;
      readonly relays: readonly Relay[];
      readonly authorizations: readonly {
        readonly client: ClientId;
        readonly resource: ResourceId;
        readonly expiresAt: UnixTime | undefined;
      }[];
    }
  | {
      readonly kind: "create-authorization";
      readonly ref: string;
      readonly resource: GatewayResource;
      readonly client: GrantedClient;
      readonly clientIce: IceCredentials;
      readonly gatewayIce: IceCredentials;
      /** Undefined: never. */
      readonly expiresAt: UnixTime | undefined;
    }
  | { readonly kind: "reject-access"; readonly client: ClientId; readonly resource: ResourceId }
  | { readonly kind: "resource-updated"; readonly resource: GatewayResource }
  | { readonly kind: "ice-candidates"; readonly client: ClientId; readonly candidates: readonly string[] }
  | {
      readonly kind: "invalidate-ice-candidates";
      readonly client: ClientId;
      readonly candidates: readonly string[];
    }
  | {
      readonly kind: "relays-presence";
      readonly disconnected: readonly RelayId[];
      readonly connected: readonly Relay[];
    };

export type GatewayEgress =
  | { readonly kind: "authorization-created"; readonly ref: string }
  | {
      readonly kind: "ice-candidates";
      readonly clients: readonly ClientId[];
      readonly candidates: readonly string[];
    }
  | {
      readonly kind: "invalidate-ice-candidates";
      readonly clients: readonly ClientId[];
      readonly candidates: readonly string[];
    }
  | { readonly kind: "no-relays" };
