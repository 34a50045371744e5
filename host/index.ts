// The embeddable API. Everything that is not exported here is internal.
export type { FilterRule } from "./core/packet-core.ts";
export type { Resource, Site } from "./core/policy/resource.ts";
export { ClientDaemon, type ClientOptions } from "./daemon/client.ts";
export { GatewayDaemon, type GatewayOptions } from "./daemon/gateway.ts";
export { createLogger, type Logger, type LogOptions } from "./daemon/log.ts";
export { startPortal } from "./daemon/portal-server.ts";
export { RelayDaemon, type RelayOptions } from "./daemon/relay.ts";
export type { TunnelDaemonOptions } from "./daemon/tunnel-options.ts";
export { loadPacketCore } from "./wasm/loader.ts";
export type { WasmPacketCore } from "./wasm/packet-core.ts";
