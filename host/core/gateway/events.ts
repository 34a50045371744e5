import type { Cidr, IpAddress } from "../address.ts";
import type { GatewayEgress, GatewayIngress } from "../messages.ts";
import type { Note } from "../note.ts";

/**
 * Answer to a `resolve` event. `addresses` may be empty: the name does not exist or has no addresses.
 * `timeout` and `failed`: nobody could say.
 */
export type ResolveResult =
  | { readonly kind: "addresses"; readonly addresses: readonly IpAddress[] }
  | { readonly kind: "timeout" }
  | { readonly kind: "failed" };

export type GatewayCommand =
  | { readonly kind: "portal"; readonly message: GatewayIngress }
  | { readonly kind: "resolved"; readonly id: number; readonly result: ResolveResult }
  /** Says Goodbye to all clients and forgets them; flush the transmits afterwards. */
  | { readonly kind: "shutdown" };

export interface GatewayTunConfig {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly routes: readonly Cidr[];
}

export type GatewayEvent =
  | { readonly kind: "portal"; readonly message: GatewayEgress }
  /** The TUN device's addresses and routes; the DNS server listens on these addresses (tunnel-core §13.9). */
  | { readonly kind: "tun-config"; readonly config: GatewayTunConfig }
  /** Look up A and AAAA through the host's resolver and answer with `resolved` within 10 s. */
  | { readonly kind: "resolve"; readonly id: number; readonly name: string }
  | Note;
