import { type IpAddress, ipFromBytes, ipToBytes, isIpv4, type SocketAddress } from "../../core/address.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;
/** struct sockaddr_in6; sockaddr_in needs 16. */
export const SOCKADDR_BYTES = 28;

/** Writes a sockaddr_in or sockaddr_in6; returns its length. */
export function writeSocketAddress(view: DataView, offset: number, address: SocketAddress): number {
  const bytes = ipToBytes(address.ip);
  view.setUint16(offset, isIpv4(address.ip) ? AF_INET : AF_INET6, true);
  view.setUint16(offset + 2, address.port);
  if (bytes.length === 4) {
    writeBytes(view, offset + 4, bytes);
    return 16;
  }
  view.setUint32(offset + 4, 0);
  writeBytes(view, offset + 8, bytes);
  view.setUint32(offset + 24, 0);
  return SOCKADDR_BYTES;
}

export function readSocketAddress(view: DataView, offset: number): SocketAddress {
  const v4 = view.getUint16(offset, true) === AF_INET;
  return { ip: readIp(view, offset + (v4 ? 4 : 8), v4 ? 4 : 16), port: view.getUint16(offset + 2) };
}

export function readIp(view: DataView, offset: number, length: 4 | 16): IpAddress {
  return ipFromBytes(new Uint8Array(view.buffer, view.byteOffset + offset, length));
}

export function writeBytes(view: DataView, offset: number, bytes: Uint8Array): void {
  new Uint8Array(view.buffer, view.byteOffset + offset, bytes.length).set(bytes);
}
