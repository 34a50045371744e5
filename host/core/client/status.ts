import type { IpAddress } from "../address.ts";
import type { SentinelMapping } from "../dns/sentinels.ts";
import type { GatewayId, ResourceId } from "../id.ts";
import { type PeerStatus, peerStatus } from "../peer-status.ts";
import type { Instant } from "../time.ts";
import type { ResourceView } from "./events.ts";
import type { ClientExplainParts } from "./explain.ts";

export interface ClientStatus {
  readonly role: "client";
  /** Undefined until the portal configured us. */
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
  readonly dns: readonly SentinelMapping[];
  readonly peers: readonly (PeerStatus & {
    /** What is reached through this gateway now. */
    readonly resources: readonly ResourceId[];
  })[];
  readonly resources: readonly (ResourceView & { readonly gateway: GatewayId | undefined })[];
}

/** Changes nothing. */
export function clientStatus(parts: ClientExplainParts, now: Instant): ClientStatus {
  const { outbound, dns, access, resources, statuses } = parts;
  const views = resources
    .views(statuses)
    .map((view) => ({ ...view, gateway: access.gatewayOf(view.id)?.id }));
  return {
    role: "client",
    ipv4: outbound.addresses?.ipv4,
    ipv6: outbound.addresses?.ipv6,
    dns: dns.mapping,
    peers: access.gateways.all().map((gateway) => ({
      ...peerStatus(parts, gateway, now),
      resources: views.filter((view) => view.gateway === gateway.id).map((view) => view.id),
    })),
    resources: views,
  };
}
