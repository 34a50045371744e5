/** IPv4 or IPv6 address as canonical text (RFC 5952): equal addresses are equal strings. */
export type IpAddress = string & { readonly brand: "ip-address" };

export interface SocketAddress {
  readonly ip: IpAddress;
  readonly port: number;
}

/** A network: its address has no host bits set. */
export interface Cidr {
  readonly ip: IpAddress;
  readonly prefix: number;
}

export function isIpv4(ip: IpAddress): boolean {
  return !ip.includes(":");
}

export function addressBits(ip: IpAddress): 32 | 128 {
  return isIpv4(ip) ? 32 : 128;
}

/** Undefined if the text is not an address. IPv4-mapped IPv6 addresses stay IPv6. Scope ids are refused. */
export function parseIp(text: string): IpAddress | undefined {
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  return bytes === undefined ? undefined : ipFromBytes(bytes);
}

/** Throws on anything but an address: for constants and for values that were validated before. */
export function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new TypeError(`not an IP address: ${text}`);
  return parsed;
}

/** 4 or 16 bytes in network order. */
export function ipToBytes(address: IpAddress): Uint8Array {
  const bytes = isIpv4(address) ? parseIpv4(address) : parseIpv6(address);
  if (bytes === undefined) throw new TypeError(`not an IP address: ${address}`);
  return bytes;
}

/** Reads 4 or 16 bytes in network order. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress;
  if (bytes.length !== 16) throw new RangeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`);

  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return compressGroups(groups) as IpAddress;
}

export function sameSocketAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.ip === b.ip;
}

/** `198.51.100.20:3478` or `[2001:db8::1]:3478`; also the key for maps. */
export function socketAddressText(address: SocketAddress): string {
  return isIpv4(address.ip) ? `${address.ip}:${address.port}` : `[${address.ip}]:${address.port}`;
}

export function parseSocketAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;

  const address = parseIp(match[1] ?? match[2] ?? "");
  const port = Number(match[3]);
  if (address === undefined || port > 65535) return undefined;
  if ((match[1] === undefined) !== isIpv4(address)) return undefined;
  return { ip: address, port };
}

export function cidrText(cidr: Cidr): string {
  return `${cidr.ip}/${cidr.prefix}`;
}

/** A bare address counts as a host route. Undefined if malformed or if host bits are set. */
export function parseCidr(text: string): Cidr | undefined {
  const [address, length, ...rest] = text.split("/");
  if (address === undefined || rest.length > 0) return undefined;

  const parsed = parseIp(address);
  if (parsed === undefined) return undefined;

  const bits = addressBits(parsed);
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return undefined;
  const prefix = length === undefined ? bits : Number(length);
  if (prefix > bits) return undefined;

  const network = networkOf(parsed, prefix);
  return network.ip === parsed ? network : undefined;
}

export function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (parsed === undefined) throw new TypeError(`not a network: ${text}`);
  return parsed;
}

/** The network of that length which contains the address. */
export function networkOf(address: IpAddress, prefix: number): Cidr {
  const bytes = ipToBytes(address);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (bytes[i] ?? 0) & maskByte(prefix, i);
  return { ip: ipFromBytes(bytes), prefix };
}

export function contains(network: Cidr, address: IpAddress): boolean {
  if (isIpv4(network.ip) !== isIpv4(address)) return false;

  const left = ipToBytes(network.ip);
  const right = ipToBytes(address);
  for (let i = 0; i * 8 < network.prefix; i++) {
    if (((left[i] ?? 0) ^ (right[i] ?? 0)) & maskByte(network.prefix, i)) return false;
  }
  return true;
}

/** Orders by family, then numerically. */
export function compareIp(a: IpAddress, b: IpAddress): number {
  const left = ipToBytes(a);
  const right = ipToBytes(b);
  if (left.length !== right.length) return left.length - right.length;
  for (let i = 0; i < left.length; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The address `offset` places after the first one of the network (offset below 2^32). */
export function hostOf(network: Cidr, offset: number): IpAddress {
  const bytes = ipToBytes(network.ip);
  let carry = offset;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    carry += bytes[i] ?? 0;
    bytes[i] = carry & 0xff;
    carry = Math.floor(carry / 256);
  }
  return ipFromBytes(bytes);
}

// ── Address plan (tunnel-core §2.1) ─────────────────────────────────────────────────────────────

/** TUN addresses of clients and gateways. */
export const IPV4_TUNNEL = cidr("100.64.0.0/11");
export const IPV6_TUNNEL = cidr("fd00:2021:1111::/107");
/** Proxy IPs that a client hands out for names of DNS resources. */
export const IPV4_RESOURCES = cidr("100.96.0.0/11");
export const IPV6_RESOURCES = cidr("fd00:2021:1111:8000::/107");
/** Tunnel addresses that stand for DNS upstreams. */
export const DNS_SENTINELS_V4 = cidr("100.100.111.0/24");
export const DNS_SENTINELS_V6 = cidr("fd00:2021:1111:8000:100:100:111:0/120");
const MULTICAST_V4 = cidr("224.0.0.0/4");
const MULTICAST_V6 = cidr("ff00::/8");

export function isTunnelAddress(address: IpAddress): boolean {
  return contains(IPV4_TUNNEL, address) || contains(IPV6_TUNNEL, address);
}

export function isProxyAddress(address: IpAddress): boolean {
  return contains(IPV4_RESOURCES, address) || contains(IPV6_RESOURCES, address);
}

export function isSentinel(address: IpAddress): boolean {
  return contains(DNS_SENTINELS_V4, address) || contains(DNS_SENTINELS_V6, address);
}

export function isMulticast(address: IpAddress): boolean {
  return contains(MULTICAST_V4, address) || contains(MULTICAST_V6, address);
}

function maskByte(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return (0xff00 >> bits) & 0xff;
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;

  const bytes = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[i] = Number(part);
  }
  return bytes;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;

  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;

  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;

  const bytes = new Uint8Array(16);
  for (const [i, group] of [...head, ...Array<number>(missing).fill(0), ...tail].entries()) {
    bytes[i * 2] = group >> 8;
    bytes[i * 2 + 1] = group & 0xff;
  }
  return bytes;
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];

  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (mayEndInIpv4 && i === parts.length - 1 && part.includes(".")) {
      const v4 = parseIpv4(part);
      if (v4 === undefined) return undefined;
      groups.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

/** RFC 5952: lower case, the longest run of two or more zero groups becomes "::". */
function compressGroups(groups: readonly number[]): string {
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      bestStart = i;
      bestLength = length;
    }
    i += length;
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(":");
  return `${hex.slice(0, bestStart).join(":")}::${hex.slice(bestStart + bestLength).join(":")}`;
}
