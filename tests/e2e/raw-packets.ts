// Frames on the wire, for tests that must send what no socket would: an AF_PACKET socket on one interface,
// and UDP in IP in Ethernet built by hand.
import { execFileSync } from "node:child_process";
import { type IpAddress, ipToBytes, isIpv4, type SocketAddress } from "../../host/core/address.ts";
import * as libc from "../../host/io/linux/libc.ts";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0x800;
const ETH_P_ALL_BE = 0x0300;
const SOCKADDR_LL_BYTES = 20;
const MAX_FRAME_BYTES = 65536;
const ETHERNET_BYTES = 14;
const UDP = 17;
const TCP = 6;

/** Everything that passes one interface, in both directions, and a way to put frames onto it. */
export class RawSocket {
  readonly #fd: number;
  readonly #in = new libc.PinnedBuffer(MAX_FRAME_BYTES);
  readonly #out = new libc.PinnedBuffer(MAX_FRAME_BYTES);

  constructor(device: string) {
    this.#fd = libc.checked(libc.socket(AF_PACKET, SOCK_RAW_NONBLOCK, ETH_P_ALL_BE), "socket(AF_PACKET)");
    const address = new libc.PinnedBuffer(128);
    address.view.setUint16(0, AF_PACKET, true);
    address.view.setUint16(2, ETH_P_ALL_BE, true);
    address.view.setInt32(4, link(device).ifindex, true);
    libc.checked(libc.bind(this.#fd, address.address, SOCKADDR_LL_BYTES), `bind to ${device}`);
  }

  /** The next frame; undefined when there is none. The bytes are the caller's. */
  receive(): Uint8Array | undefined {
    const length = libc.read(this.#fd, this.#in.address, MAX_FRAME_BYTES);
    return length <= 0 ? undefined : Uint8Array.from(this.#in.bytes.subarray(0, length));
  }

  /** False when the queue is full. */
  send(frame: Uint8Array): boolean {
    this.#out.bytes.set(frame);
    return libc.write(this.#fd, this.#out.address, frame.length) >= 0;
  }
}

/** A datagram or TCP segment as it was seen on the wire. */
export interface Seen {
  readonly protocol: "udp" | "tcp";
  readonly from: { readonly ip: Uint8Array; readonly port: number };
  readonly to: { readonly ip: Uint8Array; readonly port: number };
  readonly payload: Uint8Array;
}

/** Undefined: neither UDP nor TCP. */
export function parseFrame(frame: Uint8Array): Seen | undefined {
  const view = viewOf(frame);
  const isV6 = view.getUint16(12) === 0x86dd;
  if (frame.length < ETHERNET_BYTES + 40 && isV6) return undefined;
  if (!isV6 && (view.getUint16(12) !== 0x0800 || frame.length < ETHERNET_BYTES + 20)) return undefined;

  const ip = ETHERNET_BYTES;
  const number = isV6 ? frame[ip + 6] : frame[ip + 9];
  const transport = ip + (isV6 ? 40 : ((frame[ip] ?? 0) & 15) * 4);
  if ((number !== UDP && number !== TCP) || frame.length < transport + 8) return undefined;
  const [source, length] = isV6 ? [ip + 8, 16] : [ip + 12, 4];
  const header = number === UDP ? 8 : ((frame[transport + 12] ?? 0) >> 4) * 4;
  const end = isV6 ? ip + 40 + view.getUint16(ip + 4) : ip + view.getUint16(ip + 2);
  return {
    protocol: number === UDP ? "udp" : "tcp",
    from: { ip: frame.subarray(source, source + length), port: view.getUint16(transport) },
    to: { ip: frame.subarray(source + length, source + 2 * length), port: view.getUint16(transport + 2) },
    payload: frame.subarray(transport + header, end),
  };
}

export interface FrameParts {
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly sourceMac: Uint8Array;
  readonly destinationMac: Uint8Array;
  readonly payload: Uint8Array;
  readonly breakChecksum?: "ip" | "udp" | undefined;
}

export function udpFrame(parts: FrameParts): Uint8Array {
  const isV4 = isIpv4(parts.to.ip);
  const transport = ETHERNET_BYTES + (isV4 ? 20 : 40);
  const frame = new Uint8Array(transport + 8 + parts.payload.length);
  const view = viewOf(frame);
  frame.set(parts.destinationMac, 0);
  frame.set(parts.sourceMac, 6);
  view.setUint16(12, isV4 ? 0x0800 : 0x86dd);
  view.setUint16(transport, parts.from.port);
  view.setUint16(transport + 2, parts.to.port);
  view.setUint16(transport + 4, 8 + parts.payload.length);
  frame.set(parts.payload, transport + 8);
  if (isV4) writeIpv4(frame, parts);
  else writeIpv6(frame, parts);
  mendUdpChecksum(frame);
  if (parts.breakChecksum === "udp") view.setUint16(transport + 6, view.getUint16(transport + 6) ^ 0x5555);
  if (parts.breakChecksum === "ip" && isV4) view.setUint16(24, view.getUint16(24) ^ 0x5555);
  return frame;
}

/** Fills in the UDP checksum: frames captured on their way to a virtual device have none yet. */
export function mendUdpChecksum(frame: Uint8Array): void {
  const view = viewOf(frame);
  const isV4 = view.getUint16(12) === 0x0800;
  const transport = ETHERNET_BYTES + (isV4 ? ((frame[ETHERNET_BYTES] ?? 0) & 15) * 4 : 40);
  const length = view.getUint16(transport + 4);
  view.setUint16(transport + 6, 0);
  const addresses = isV4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
  const total = sum(addresses) + sum(frame.subarray(transport, transport + length)) + UDP + length;
  view.setUint16(transport + 6, folded(total) || 0xffff);
}

/** Hardware address of an interface of this host. */
export function macOf(device: string): Uint8Array {
  return Buffer.from(link(device).address.replaceAll(":", ""), "hex");
}

/** Hardware address of a neighbour: asks for it with a ping, and reads what the kernel learned. */
export function macOfNeighbour(ip: IpAddress): Uint8Array {
  execFileSync("ping", ["-c", "1", "-W", "2", ip], { stdio: "ignore" });
  const [entry] = JSON.parse(execFileSync("ip", ["-j", "neigh", "show", ip], { encoding: "utf8" })) as {
    lladdr: string;
  }[];
  if (entry === undefined) throw new Error(`no hardware address for ${ip}`);
  return Buffer.from(entry.lladdr.replaceAll(":", ""), "hex");
}

function link(device: string): { ifindex: number; address: string } {
  const text = execFileSync("ip", ["-j", "link", "show", "dev", device], { encoding: "utf8" });
  const [found] = JSON.parse(text) as { ifindex: number; address: string }[];
  if (found === undefined) throw new Error(`no interface ${device}`);
  return found;
}

function writeIpv4(frame: Uint8Array, { from, to, payload }: FrameParts): void {
  const view = viewOf(frame);
  frame.set([0x45, 0], 14);
  view.setUint16(16, 28 + payload.length);
  frame.set([0x40, 0, 64, UDP], 20);
  frame.set(ipToBytes(from.ip), 26);
  frame.set(ipToBytes(to.ip), 30);
  view.setUint16(24, folded(sum(frame.subarray(14, 34))));
}

function writeIpv6(frame: Uint8Array, { from, to, payload }: FrameParts): void {
  frame[14] = 0x60;
  viewOf(frame).setUint16(18, 8 + payload.length);
  frame.set([UDP, 64], 20);
  frame.set(ipToBytes(from.ip), 22);
  frame.set(ipToBytes(to.ip), 38);
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  return total;
}

function folded(total: number): number {
  let value = total;
  while (value > 0xffff) value = (value & 0xffff) + (value >>> 16);
  return ~value & 0xffff;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
