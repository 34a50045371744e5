// Packets for tests, built byte by byte and without the code under test, so that the two can disagree.
import { type IpAddress, ipToBytes, isIpv4 } from "../../../host/core/address.ts";

export const TCP = 6;
export const UDP = 17;
export const SYN = 0x02;
export const ACK = 0x10;
export const RST = 0x04;
export const FIN = 0x01;

export interface Ends {
  readonly from: IpAddress;
  readonly to: IpAddress;
}

export function udp(ends: Ends, sourcePort: number, destinationPort: number, payload = "ping"): Uint8Array {
  const body = new TextEncoder().encode(payload);
  const segment = [...u16(sourcePort), ...u16(destinationPort), ...u16(8 + body.length), 0, 0, ...body];
  return ip(ends, UDP, segment, 6);
}

export interface TcpOptions {
  readonly flags?: number;
  readonly sequence?: number;
  /** Value of a timestamps option. */
  readonly timestamp?: number;
}

export function tcp(
  ends: Ends,
  sourcePort: number,
  destinationPort: number,
  { flags = SYN, sequence = 1, timestamp = 1 }: TcpOptions = {},
): Uint8Array {
  const options = [1, 1, 8, 10, ...u32(timestamp), 0, 0, 0, 0];
  const header = [...u16(sourcePort), ...u16(destinationPort), ...u32(sequence), 0, 0, 0, 0];
  return ip(ends, TCP, [...header, 0x80, flags, 0xff, 0xff, 0, 0, 0, 0, ...options], 16);
}

export function echo(
  ends: Ends,
  identifier: number,
  direction: "request" | "reply" = "request",
  sequence = 1,
): Uint8Array {
  const types = isIpv4(ends.from) ? { request: 8, reply: 0 } : { request: 128, reply: 129 };
  return icmp(ends, [types[direction], 0, 0, 0, ...u16(identifier), ...u16(sequence), 0x61, 0x62]);
}

/** `message` starts with type, code and two zero bytes for the checksum. */
export function icmp(ends: Ends, message: readonly number[]): Uint8Array {
  return ip(ends, isIpv4(ends.from) ? 1 : 58, message, 2);
}

/** An ICMP error of the given type and code about `failed`, whose quote is cut at `quoteBytes`. */
export function icmpError(
  ends: Ends,
  error: { readonly type: number; readonly code: number; readonly mtu?: number },
  failed: Uint8Array,
  quoteBytes = failed.length,
): Uint8Array {
  return icmp(ends, [
    error.type,
    error.code,
    0,
    0,
    ...u32(error.mtu ?? 0),
    ...failed.subarray(0, quoteBytes),
  ]);
}

/** `checksumAt`: offset of the transport's checksum, −1: none. */
export function ip(
  ends: Ends,
  protocol: number,
  payload: readonly number[],
  checksumAt = -1,
  options: readonly number[] = [],
): Uint8Array {
  const isV4 = isIpv4(ends.from);
  const source = [...ipToBytes(ends.from)];
  const destination = [...ipToBytes(ends.to)];
  const body = [...payload];
  if (checksumAt >= 0) {
    const pseudo = protocol === 1 ? [] : [...source, ...destination, ...u16(protocol), ...u16(body.length)];
    const value = onesComplement([...pseudo, ...body]);
    body.splice(checksumAt, 2, ...u16(value === 0 && protocol === UDP ? 0xffff : value));
  }
  if (!isV4) {
    return Uint8Array.from([
      0x60,
      0,
      0,
      0,
      ...u16(body.length),
      protocol,
      64,
      ...source,
      ...destination,
      ...body,
    ]);
  }
  const ihl = 5 + options.length / 4;
  const header = [0x40 + ihl, 0, ...u16(ihl * 4 + body.length), 0, 0, 0, 0, 64, protocol, 0, 0];
  header.push(...source, ...destination, ...options);
  header.splice(10, 2, ...u16(onesComplement(header)));
  return Uint8Array.from([...header, ...body]);
}

/** Whether the IPv4 header's and the transport's checksums hold; an absent UDP checksum does. */
export function checksumsHold(bytes: Uint8Array): boolean {
  const isV4 = (bytes[0] ?? 0) >> 4 === 4;
  const headerBytes = isV4 ? ((bytes[0] ?? 0) & 15) * 4 : 40;
  if (isV4 && onesComplement([...bytes.subarray(0, headerBytes)]) !== 0) return false;

  const protocol = bytes[isV4 ? 9 : 6] ?? 0;
  const body = [...bytes.subarray(headerBytes)];
  if (protocol === UDP && body[6] === 0 && body[7] === 0) return isV4;
  const addresses = bytes.subarray(isV4 ? 12 : 8, isV4 ? 20 : 40);
  const pseudo = protocol === 1 ? [] : [...addresses, ...u16(protocol), ...u16(body.length)];
  return onesComplement([...pseudo, ...body]) === 0;
}

export function u16(value: number): [number, number] {
  return [(value >> 8) & 0xff, value & 0xff];
}

export function u32(value: number): [number, number, number, number] {
  return [...u16(value >>> 16), ...u16(value & 0xffff)];
}

function onesComplement(bytes: readonly number[]): number {
  let sum = 0;
  for (const [i, byte] of bytes.entries()) sum += i % 2 === 0 ? byte * 256 : byte;
  return (0xffff - (sum % 0xffff)) % 0xffff;
}
