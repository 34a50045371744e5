import { ADDRESSES } from "./topology.ts";

const PORT = 8081;

export const LAB_PORTAL = { url: `ws://portal:${PORT}` } as const;

/** Arguments of `culvert portal token create` for each daemon of the lab. */
export const LAB_TOKENS = {
  relay: ["--kind", "relay", "--label", "lab relay"],
  gateway: ["--kind", "gateway", "--site", "Private network", "--label", "lab gateway"],
  client: ["--kind", "client", "--actor", "laptop", "--label", "lab client"],
} as const;

/** The portal's configuration file: what a first real one looks like. */
export function portalConfiguration(): string {
  return `
account:
  slug: lab
  name: Culvert lab

listen:
  # Plain WebSockets: the lab's public segment is a namespace of this machine.
  sockets: { host: "::", port: ${PORT}, plain: true }

actors:
  - { name: laptop, kind: service }
groups:
  - { name: Developers, members: [laptop] }
sites:
  - { name: Private network }

resources:
  - name: Private web
    type: dns
    address: "**.private.test"
    site: Private network
    filters: [{ protocol: tcp, ports: ["80", "7000"] }, { protocol: icmp }]
  - name: Server network
    type: cidr
    address: ${ADDRESSES.siteWeb.v4.replace(/\d+$/, "0")}/24
    site: Private network
    filters: [{ protocol: tcp, ports: ["80", "5201", "7000"] }, { protocol: udp, ports: ["5201"] }, { protocol: icmp }]
  - name: Server network (IPv6)
    type: cidr
    address: 10:20::/64
    site: Private network
    filters: [{ protocol: tcp, ports: ["80", "5201", "7000"] }, { protocol: udp, ports: ["5201"] }, { protocol: icmp }]

policies:
  - { group: Developers, resource: Private web }
  - { group: Developers, resource: Server network }
  - { group: Developers, resource: Server network (IPv6) }
`;
}
