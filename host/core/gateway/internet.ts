import { cidr, contains, type IpAddress } from "../address.ts";

/** tunnel-core §15.5: private, reserved and link-local networks are not the internet. */
const REFUSED = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "100.64.0.0/10",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::1/128",
  "::ffff:0:0/96",
  "fc00::/7",
  "fe80::/10",
  "ff00::/8",
].map(cidr);

/** Whether the address can be reached through an internet resource. */
export function isInternetAddress(ip: IpAddress): boolean {
  return !REFUSED.some((network) => contains(network, ip));
}
