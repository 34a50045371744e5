import fs from "node:fs";
import path from "node:path";
import { type HostFiles, LabHost, link } from "./host.ts";

// The reference topology in its lean form: portal, relay and the public services sit on the public segment;
// client and gateway are behind NAT routers of their own; the site is reachable from the gateway only.
//
//   client ── client-router ──┐             ┌── gateway-router ── gateway ── site
//                             ├── internet ─┤
//                     portal ─┘             └─ relay

export const ADDRESSES = {
  portal: { v4: "203.0.113.10", v6: "203:0:113::10" },
  relay: { v4: "203.0.113.101", v6: "203:0:113::101" },
  publicResolver: { v4: "203.0.113.53", v6: "203:0:113::53" },
  publicWeb: { v4: "203.0.113.80", v6: "203:0:113::80" },
  clientRouter: { v4: "203.0.113.30", v6: "203:0:113::30" },
  gatewayRouter: { v4: "203.0.113.31", v6: "203:0:113::31" },
  client: { v4: "172.30.0.100", v6: "172:30:0::100" },
  gateway: { v4: "172.31.0.100", v6: "172:31:0::100" },
  /** The site's servers: by network address, by name (before and after its record changes), and DNS. */
  siteWeb: { v4: "10.20.0.100", v6: "10:20:0::100" },
  namedWeb: { v4: "172.21.0.100", v6: "172:21:0::100" },
  namedWebMoved: { v4: "172.21.0.101", v6: "172:21:0::101" },
  siteResolver: { v4: "172.21.0.53", v6: "172:21:0::53" },
} as const;

export const HOST_NAMES = [
  "internet",
  "portal",
  "relay",
  "client-router",
  "client",
  "gateway-router",
  "gateway",
  "site",
] as const;
export type HostName = (typeof HOST_NAMES)[number];
export type Topology = Readonly<Record<HostName, LabHost>>;

const HOSTS_FILE = `127.0.0.1 localhost
::1 localhost
${ADDRESSES.portal.v4} portal
${ADDRESSES.portal.v6} portal
`;

/** Builds all hosts and links. On failure what was made is torn down again. */
export async function createTopology(directory: string): Promise<Topology> {
  const hosts = new Map<HostName, LabHost>();
  try {
    await Promise.all(
      HOST_NAMES.map(async (name) => {
        const own = path.join(directory, "hosts", name);
        fs.mkdirSync(own, { recursive: true });
        hosts.set(name, await LabHost.create(name, own, filesOf(name)));
      }),
    );
    const topology = Object.fromEntries(hosts) as Record<HostName, LabHost>;
    await connect(topology);
    return topology;
  } catch (error) {
    await Promise.all([...hosts.values()].map((host) => host.destroy()));
    throw error;
  }
}

export async function destroyTopology(topology: Topology): Promise<void> {
  await Promise.all(Object.values(topology).map((host) => host.destroy()));
}

function filesOf(name: HostName): HostFiles {
  const resolver = name === "gateway" || name === "site" ? ADDRESSES.siteResolver : ADDRESSES.publicResolver;
  return { resolvConf: `nameserver ${resolver.v4}\n`, hosts: HOSTS_FILE };
}

async function connect(t: Topology): Promise<void> {
  await Promise.all(Object.values(t).map((host) => host.sysctl(commonSettings(host.name))));
  await t.internet.ip(["link add br0 type bridge", "link set br0 up"]);
  await attachPublic(t, t.portal, "eth0", ADDRESSES.portal);
  await attachPublic(t, t.relay, "eth0", ADDRESSES.relay);
  await attachPublic(t, t["client-router"], "internet", ADDRESSES.clientRouter);
  await attachPublic(t, t["gateway-router"], "internet", ADDRESSES.gatewayRouter);
  for (const { v4, v6 } of [ADDRESSES.publicResolver, ADDRESSES.publicWeb]) {
    await t.internet.ip([`addr add ${v4}/24 dev br0`, `addr add ${v6}/64 dev br0 nodad`]);
  }
  await attachLan(t["client-router"], t.client, "172.30.0.0/24", "172:30:0::/64");
  await attachLan(t["gateway-router"], t.gateway, "172.31.0.0/24", "172:31:0::/64");
  await attachSite(t.gateway, t.site);
}

function commonSettings(name: string): Record<string, string> {
  const forwards = name.endsWith("-router");
  return {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    ...(forwards ? { "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1" } : {}),
  };
}

async function attachPublic(
  t: Topology,
  host: LabHost,
  device: string,
  address: { readonly v4: string; readonly v6: string },
): Promise<void> {
  const port = `to-${host.name}`.slice(0, 15);
  await link(t.internet, port, host, device);
  await t.internet.ip([`link set ${port} master br0`, `link set ${port} up`]);
  await host.ip([
    `addr add ${address.v4}/24 dev ${device}`,
    `addr add ${address.v6}/64 dev ${device} nodad`,
    `link set ${device} up`,
  ]);
}

/** A LAN behind a NAT router: the router is .254, the host .100, and knows a route to the public segment only. */
async function attachLan(router: LabHost, host: LabHost, v4: string, v6: string): Promise<void> {
  const base4 = v4.slice(0, v4.lastIndexOf("."));
  const base6 = v6.slice(0, v6.indexOf("::"));
  await link(router, "lan", host, "eth0");
  await router.ip([
    `addr add ${base4}.254/24 dev lan`,
    `addr add ${base6}::254/64 dev lan nodad`,
    "link set lan up",
  ]);
  await host.ip([
    `addr add ${base4}.100/24 dev eth0`,
    `addr add ${base6}::100/64 dev eth0 nodad`,
    "link set eth0 up",
    `route add 203.0.113.0/24 via ${base4}.254`,
    `route add 203:0:113::/64 via ${base6}::254`,
  ]);
  await router.nft(natRules(v4, v6));
}

async function attachSite(gateway: LabHost, site: LabHost): Promise<void> {
  await link(gateway, "eth1", site, "eth0");
  await gateway.ip([
    "addr add 10.20.0.1/24 dev eth1",
    "addr add 10:20:0::1/64 dev eth1 nodad",
    "addr add 172.21.0.1/24 dev eth1",
    "addr add 172:21:0::1/64 dev eth1 nodad",
    "link set eth1 up",
  ]);
  const servers = [ADDRESSES.siteWeb, ADDRESSES.namedWeb, ADDRESSES.namedWebMoved, ADDRESSES.siteResolver];
  await site.ip([
    ...servers.flatMap(({ v4, v6 }) => [`addr add ${v4}/24 dev eth0`, `addr add ${v6}/64 dev eth0 nodad`]),
    "link set eth0 up",
  ]);
}

/**
 * A port-restricted cone NAT. Input drops by default on purpose: with accept, a packet that arrives before
 * the LAN host has sent would take the public port and turn the NAT symmetric.
 */
function natRules(v4: string, v6: string): string {
  return `
table inet router {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${v4} oifname "internet" masquerade
    ip6 saddr ${v6} oifname "internet" masquerade
  }
}
`;
}
