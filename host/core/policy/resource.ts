import { type Cidr, cidrText } from "../address.ts";
import type { ResourceId, SiteId } from "../id.ts";
import type { FilterRule } from "../packet-core.ts";

export interface Site {
  readonly id: SiteId;
  readonly name: string;
}

export type IpStack = "dual" | "ipv4_only" | "ipv6_only";

/** What access is granted to (tunnel-core §5.2). Filters: empty permits everything. */
export type Resource =
  | {
      readonly kind: "dns";
      readonly id: ResourceId;
      readonly name: string;
      /** A pattern in the grammar of tunnel-core §11.10. */
      readonly address: string;
      readonly description: string | undefined;
      readonly ipStack: IpStack;
      readonly filters: readonly FilterRule[];
      readonly sites: readonly Site[];
    }
  | {
      readonly kind: "cidr";
      readonly id: ResourceId;
      readonly name: string;
      readonly address: Cidr;
      readonly description: string | undefined;
      readonly filters: readonly FilterRule[];
      readonly sites: readonly Site[];
    }
  | {
      readonly kind: "internet";
      readonly id: ResourceId;
      readonly name: string;
      readonly sites: readonly Site[];
    };

/** Pattern or network; undefined for the internet resource. */
export function addressText(resource: Resource): string | undefined {
  switch (resource.kind) {
    case "dns":
      return resource.address;
    case "cidr":
      return cidrText(resource.address);
    case "internet":
      return undefined;
  }
}
