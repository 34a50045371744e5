import { ADDRESSES } from "./topology.ts";

/** One record of the lab's DNS servers: an address, or the data of another type. */
export type LabRecord =
  | string
  | { readonly type: "TXT"; readonly data: string }
  | { readonly type: "MX"; readonly data: { readonly preference: number; readonly exchange: string } }
  | {
      readonly type: "SRV";
      readonly data: {
        readonly priority: number;
        readonly weight: number;
        readonly port: number;
        readonly target: string;
      };
    };

/** By name, in lower case. */
export type LabRecords = Readonly<Record<string, readonly LabRecord[]>>;

const SERVICE: LabRecord = {
  type: "SRV",
  data: { priority: 10, weight: 5, port: 80, target: "web.private.test" },
};

/** What the site's DNS knows when nothing else is said. */
export const DEFAULT_RECORDS: LabRecords = {
  "web.private.test": [
    ADDRESSES.namedWeb.v4,
    ADDRESSES.namedWeb.v6,
    { type: "TXT", data: "the private web" },
  ],
  "_http._tcp.private.test": [SERVICE],
};

/** Public names that are no resources. */
export const PUBLIC_RECORDS: LabRecords = {
  "public.test": [
    ADDRESSES.publicWeb.v4,
    ADDRESSES.publicWeb.v6,
    { type: "MX", data: { preference: 10, exchange: "mail.public.test" } },
  ],
  // About 2 KB: more than one UDP answer of the tunnel holds.
  "large.public.test": texts(10),
};

/** Records of 200 bytes each, for answers of a certain size. */
export function texts(count: number): LabRecord[] {
  return Array.from({ length: count }, (_, i) => ({ type: "TXT", data: `${i} `.padEnd(200, "x") }));
}
