import { ipToBytes, isIpv4, type SocketAddress } from "../address.ts";
import { finishChecksum, pseudoHeaderSum, sumWords } from "./checksum.ts";
import { startPacket } from "./ip-header.ts";
import { MAX_IP_BYTES, PROTOCOL_UDP, UDP_HEADER_BYTES, writeU16 } from "./ip-packet.ts";

const HOP_LIMIT = 64;

export interface UdpPacketFields {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly payload: Uint8Array;
}

/**
 * Builds a UDP packet with hop limit 64 (tunnel-core §3.4).
 * Undefined if it would not fit into a tunnelled packet or if the addresses differ in family.
 */
export function udpPacket({ source, destination, payload }: UdpPacketFields): Uint8Array | undefined {
  if (isIpv4(source.ip) !== isIpv4(destination.ip)) return undefined;

  const udpBytes = UDP_HEADER_BYTES + payload.length;
  if (udpBytes > MAX_IP_BYTES) return undefined;

  const { bytes, transportOffset } = startPacket(
    { source: source.ip, destination: destination.ip, protocol: PROTOCOL_UDP, hopLimit: HOP_LIMIT },
    udpBytes,
  );
  if (bytes.length > MAX_IP_BYTES) return undefined;

  const udp = bytes.subarray(transportOffset);
  writeU16(udp, 0, source.port);
  writeU16(udp, 2, destination.port);
  writeU16(udp, 4, udpBytes);
  udp.set(payload, UDP_HEADER_BYTES);
  const pseudo = pseudoHeaderSum(ipToBytes(source.ip), ipToBytes(destination.ip), PROTOCOL_UDP, udpBytes);
  // RFC 768: a computed 0 is sent as all ones, since 0 means "no checksum".
  writeU16(udp, 6, finishChecksum(sumWords(udp, pseudo)) || 0xffff);
  return bytes;
}
