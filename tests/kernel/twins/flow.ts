// Flow templates as the host writes them, and what a rewrite means, byte by byte.
import {
  FLOW_BYTES,
  FLOW_DESTINATION,
  FLOW_KEY,
  FLOW_NAT,
  FLOW_NEW_ADDRESS,
  FLOW_NEW_PORT,
  FLOW_PEER,
  FLOW_PORTS,
  FLOW_REWRITE,
  FLOW_SOURCE,
  FLOW_USED_AT,
  REWRITE_INCOMING,
  REWRITE_OUTGOING,
} from "../../../assembly/abi.ts";
import { ICMP, ICMPV6 } from "./checksum.ts";

export interface FlowParts {
  readonly scope: number;
  readonly peer: number;
  readonly now: number;
  readonly natEntry?: number;
  readonly rewrite?: Rewrite;
}

export interface Rewrite {
  readonly direction: "outgoing" | "incoming";
  readonly address: Uint8Array;
  readonly port: number;
}

/** The template of a flow whose key is that of `packet`. */
export function flowTemplate(packet: Uint8Array, parts: FlowParts): Uint8Array {
  const { version, l4, protocol } = headers(packet);
  const bytes = new Uint8Array(FLOW_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(version === 4 ? packet.subarray(12, 16) : packet.subarray(8, 24), FLOW_SOURCE);
  bytes.set(version === 4 ? packet.subarray(16, 20) : packet.subarray(24, 40), FLOW_DESTINATION);
  bytes.set(isEcho(protocol) ? packet.subarray(l4 + 4, l4 + 6) : packet.subarray(l4, l4 + 4), FLOW_PORTS);
  bytes[FLOW_KEY] = protocol;
  bytes[FLOW_KEY + 1] = version;
  view.setUint16(FLOW_KEY + 2, parts.scope, true);
  view.setUint32(FLOW_PEER, parts.peer, true);
  view.setUint32(FLOW_NAT, parts.natEntry === undefined ? 0 : parts.natEntry + 1, true);
  view.setUint32(FLOW_USED_AT, parts.now, true);
  if (parts.rewrite !== undefined) {
    const { direction, address, port } = parts.rewrite;
    view.setUint32(FLOW_REWRITE, direction === "outgoing" ? REWRITE_OUTGOING : REWRITE_INCOMING, true);
    bytes.set(address, FLOW_NEW_ADDRESS);
    view.setUint16(FLOW_NEW_PORT, port);
  }
  return bytes;
}

/** The packet with address and port replaced; checksums are not touched. */
export function rewritten(packet: Uint8Array, { direction, address, port }: Rewrite): Uint8Array {
  const { version, l4, protocol } = headers(packet);
  const copy = Uint8Array.from(packet);
  const isOutgoing = direction === "outgoing";
  copy.set(address, version === 4 ? (isOutgoing ? 16 : 12) : isOutgoing ? 24 : 8);
  new DataView(copy.buffer).setUint16(l4 + (isEcho(protocol) ? 4 : isOutgoing ? 0 : 2), port);
  return copy;
}

export function headers(packet: Uint8Array): { version: number; l4: number; protocol: number } {
  const version = packet[0]! >> 4;
  return version === 4
    ? { version, protocol: packet[9]!, l4: (packet[0]! & 15) * 4 }
    : { version, protocol: packet[6]!, l4: 40 };
}

function isEcho(protocol: number): boolean {
  return protocol === ICMP || protocol === ICMPV6;
}
