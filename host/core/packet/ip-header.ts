import { type IpAddress, ipToBytes, isIpv4 } from "../address.ts";
import { checksum } from "./checksum.ts";
import { IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, writeU16 } from "./ip-packet.ts";

export interface IpHeaderFields {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  /** TTL or hop limit. */
  readonly hopLimit: number;
}

/**
 * A new packet with a plain IP header (no options, identification 0, not to be fragmented) and zeros
 * behind it for `transportBytes`; the transport starts at the returned offset. Both addresses are of one family.
 */
export function startPacket(
  fields: IpHeaderFields,
  transportBytes: number,
): { readonly bytes: Uint8Array; readonly transportOffset: number } {
  return isIpv4(fields.source) ? startIpv4(fields, transportBytes) : startIpv6(fields, transportBytes);
}

function startIpv4(fields: IpHeaderFields, transportBytes: number) {
  const bytes = new Uint8Array(IPV4_HEADER_BYTES + transportBytes);
  bytes[0] = 0x45;
  writeU16(bytes, 2, bytes.length);
  bytes[6] = 0x40;
  bytes[8] = fields.hopLimit;
  bytes[9] = fields.protocol;
  bytes.set(ipToBytes(fields.source), 12);
  bytes.set(ipToBytes(fields.destination), 16);
  writeU16(bytes, 10, checksum(bytes.subarray(0, IPV4_HEADER_BYTES)));
  return { bytes, transportOffset: IPV4_HEADER_BYTES };
}

function startIpv6(fields: IpHeaderFields, transportBytes: number) {
  const bytes = new Uint8Array(IPV6_HEADER_BYTES + transportBytes);
  bytes[0] = 0x60;
  writeU16(bytes, 4, transportBytes);
  bytes[6] = fields.protocol;
  bytes[7] = fields.hopLimit;
  bytes.set(ipToBytes(fields.source), 8);
  bytes.set(ipToBytes(fields.destination), 24);
  return { bytes, transportOffset: IPV6_HEADER_BYTES };
}
