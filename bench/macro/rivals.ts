import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { Lab } from "../../host/lab/lab.ts";
import { waitForLine } from "../../host/lab/log-watch.ts";
import { ADDRESSES } from "../../host/lab/topology.ts";

// All contenders take the same hosts, routers and NATs to the same server. Each has an address of the server of
// its own, so that all of them can be up at once and take turns.

/** The server as Culvert's network resource. */
export const CULVERT_TARGET = ADDRESSES.siteWeb.v4;
const PLAIN_TARGET = "10.30.0.100";
const WIREGUARD_GO_TARGET = "10.40.0.100";
const WIREGUARD_PORT = 51820;
const TUNNEL_MTU = 1280;

/** The path without a tunnel: routed and translated as everything else; the ceiling of this machine. */
export async function setUpPlainPath(lab: Lab): Promise<string> {
  await addServerAddress(lab, "10.30.0");
  await lab.host("client").ip(["route add 10.30.0.0/24 via 172.30.0.254"]);
  await lab.host("client-router").ip([`route add 10.30.0.0/24 via ${ADDRESSES.gatewayRouter.v4}`]);
  await lab.host("gateway-router").ip([`route add 10.30.0.0/24 via ${ADDRESSES.gateway.v4}`]);
  await masquerade(lab, "203.0.113.0/24");
  return PLAIN_TARGET;
}

/** Debian's wireguard-go between the same two hosts. */
export async function setUpWireguardGo(lab: Lab): Promise<string> {
  const client = newKeyPair();
  const gateway = newKeyPair();
  await addServerAddress(lab, "10.40.0");
  await lab.host("gateway-router").nft(`
table ip forwarded {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "internet" udp dport ${WIREGUARD_PORT} dnat to ${ADDRESSES.gateway.v4}
  }
}
`);
  await startWireguardGo(lab, "gateway", gateway.privateKey, [
    `PublicKey = ${client.publicKey}`,
    "AllowedIPs = 10.41.0.1/32",
  ]);
  await startWireguardGo(lab, "client", client.privateKey, [
    `PublicKey = ${gateway.publicKey}`,
    "AllowedIPs = 10.40.0.0/24, 10.41.0.2/32",
    `Endpoint = ${ADDRESSES.gatewayRouter.v4}:${WIREGUARD_PORT}`,
  ]);
  await lab
    .host("client")
    .ip([
      "addr add 10.41.0.1/24 dev wg-client",
      `link set wg-client mtu ${TUNNEL_MTU} up`,
      "route add 10.40.0.0/24 dev wg-client",
    ]);
  await lab
    .host("gateway")
    .ip(["addr add 10.41.0.2/24 dev wg-gateway", `link set wg-gateway mtu ${TUNNEL_MTU} up`]);
  await masquerade(lab, "10.41.0.0/24");
  return WIREGUARD_GO_TARGET;
}

async function startWireguardGo(
  lab: Lab,
  host: "client" | "gateway",
  privateKey: string,
  peer: readonly string[],
): Promise<void> {
  const name = `wireguard-go-${host}`;
  // wireguard-go keeps its control socket in the machine's /run, by interface name.
  const device = `wg-${host}`;
  lab.spawn(name, lab.host(host), ["env", "LOG_LEVEL=debug", "wireguard-go", "-f", device]);
  await waitForLine(lab.logFile(name), (line) => line.message.includes("UAPI listener started"), {
    timeoutMs: 5000,
  });
  const file = path.join(lab.directory, `${name}.conf`);
  const lines = [
    "[Interface]",
    `PrivateKey = ${privateKey}`,
    `ListenPort = ${WIREGUARD_PORT}`,
    "[Peer]",
    ...peer,
  ];
  fs.writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  const { code, stderr } = await lab.host(host).exec(["wg", "setconf", device, file]);
  if (code !== 0) throw new Error(`wg setconf: ${stderr}`);
}

async function addServerAddress(lab: Lab, network: string): Promise<void> {
  await lab.host("site").ip([`addr add ${network}.100/24 dev eth0`]);
  await lab.host("gateway").ip([`addr add ${network}.1/24 dev eth1`]);
}

/** The server knows no way back to the sources, as in any private network behind a gateway. */
async function masquerade(lab: Lab, sources: string): Promise<void> {
  const name = `bench_${sources.replace(/\W/g, "_")}`;
  await lab.host("gateway").nft(`
table ip ${name} {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${sources} oifname "eth1" masquerade
  }
}
`);
}

function newKeyPair(): { privateKey: string; publicKey: string } {
  const raw = randomBytes(32);
  // RFC 8410: the fixed PKCS #8 prefix of an X25519 private key.
  const prefix = Buffer.from("302e020100300506032b656e04220420", "hex");
  const key = createPrivateKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { privateKey: raw.toString("base64"), publicKey: publicKey.toString("base64") };
}
