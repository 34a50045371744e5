import type { Cidr, IpAddress, SocketAddress } from "../address.ts";
import type { Upstream } from "../dns/sentinels.ts";
import type { DnsRecord } from "../dns/stub-resolver.ts";
import type { ResourceId } from "../id.ts";
import type { ClientEgress, ClientIngress, Key } from "../messages.ts";
import type { Note } from "../note.ts";
import type { Resource, Site } from "../policy/resource.ts";
import type { SiteStatus } from "./site-status.ts";

export type HostDnsResult =
  /** As received; its id need not be that of the query. */
  | { readonly kind: "answer"; readonly message: Uint8Array }
  | { readonly kind: "timeout" }
  | { readonly kind: "failed" };

export type ClientCommand =
  | { readonly kind: "portal"; readonly message: ClientIngress }
  | { readonly kind: "system-resolvers"; readonly servers: readonly IpAddress[] }
  /** Answers the `host-dns-query` or `host-doh-query` with the same id; later ones for that id are ignored. */
  | { readonly kind: "host-dns-result"; readonly id: number; readonly result: HostDnsResult }
  | { readonly kind: "internet-resource"; readonly active: boolean }
  /** The network changed and the sockets are new (tunnel-core §18.1). */
  | { readonly kind: "reset"; readonly privateKey: Key }
  /** Says goodbye to every gateway; the machine does nothing useful afterwards. */
  | { readonly kind: "shutdown" };

/** What the TUN interface must look like (tunnel-core §6.6). */
export interface TunConfig {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  /** The sentinels to configure as the system's DNS servers, in order. */
  readonly dns: readonly { readonly sentinel: IpAddress; readonly upstream: Upstream }[];
  readonly searchDomain: string | undefined;
  readonly routes: readonly Cidr[];
}

/** A resource as it is shown to people (tunnel-core §6.7). */
export interface ResourceView {
  readonly id: ResourceId;
  readonly kind: Resource["kind"];
  readonly name: string;
  /** Pattern or network; undefined for the internet resource. */
  readonly address: string | undefined;
  readonly description: string | undefined;
  readonly sites: readonly Site[];
  readonly status: SiteStatus;
  /** Only for the internet resource: whether the user switched it on. */
  readonly isActive: boolean | undefined;
}

export type ClientEvent =
  | { readonly kind: "portal"; readonly message: ClientEgress }
  | { readonly kind: "tun-config"; readonly config: TunConfig }
  | {
      readonly kind: "host-dns-query";
      readonly id: number;
      readonly server: SocketAddress;
      /** As the application asked. */
      readonly transport: "udp" | "tcp";
      readonly message: Uint8Array;
    }
  /** Like `host-dns-query`; the message has the id 0 (RFC 8484 §4.1). */
  | {
      readonly kind: "host-doh-query";
      readonly id: number;
      readonly url: string;
      readonly message: Uint8Array;
    }
  | { readonly kind: "resources"; readonly list: readonly ResourceView[] }
  /** All names with their proxy IPs; hand the newest to the next machine of this process. */
  | { readonly kind: "records"; readonly records: readonly DnsRecord[] }
  | Note;
