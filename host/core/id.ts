/** UUIDs as lower-case hyphenated text, told apart by what they name. */
export type ClientId = string & { readonly brand: "client-id" };
export type GatewayId = string & { readonly brand: "gateway-id" };
export type ResourceId = string & { readonly brand: "resource-id" };
export type SiteId = string & { readonly brand: "site-id" };
export type RelayId = string & { readonly brand: "relay-id" };
/** The node at the other end of a connection. */
export type NodeId = ClientId | GatewayId;

/** Slot of a remote node in the packet core, 0 … PEER_CAPACITY − 1. */
export type PeerId = number & { readonly brand?: "peer-id" };
/** Number of a path in the driver's path table, ≥ 1; the packet core only carries it. */
export type PathId = number & { readonly brand?: "path-id" };
