import * as abi from "../../assembly/abi.ts";
import type { PeerId } from "../core/id.ts";
import type { FlowKey, Rewrite } from "../core/packet-core.ts";
import { type Instant, tickOf } from "../core/time.ts";
import { toSlotAddress } from "./slot-address.ts";

const REWRITES = { outgoing: abi.REWRITE_OUTGOING, incoming: abi.REWRITE_INCOMING } as const;
const FLOW = abi.ARGUMENT_BASE;

/** Writes the template for `flowAdd` to the argument slot. */
export function writeFlow(
  bytes: Uint8Array,
  view: DataView,
  key: FlowKey,
  peer: PeerId,
  rewrite: Rewrite | undefined,
  now: Instant,
): void {
  bytes.fill(0, FLOW, FLOW + abi.FLOW_BYTES);
  const version = toSlotAddress(key.source, bytes, FLOW + abi.FLOW_SOURCE);
  toSlotAddress(key.destination, bytes, FLOW + abi.FLOW_DESTINATION);
  view.setUint16(FLOW + abi.FLOW_PORTS, key.sourcePort);
  view.setUint16(FLOW + abi.FLOW_PORTS + 2, key.destinationPort);
  bytes[FLOW + abi.FLOW_KEY] = key.protocol;
  bytes[FLOW + abi.FLOW_KEY + 1] = version;
  view.setUint16(FLOW + abi.FLOW_KEY + 2, key.from === "tun" ? abi.FLOW_SCOPE_TUN : key.from, true);
  view.setUint32(FLOW + abi.FLOW_PEER, peer, true);
  view.setUint32(FLOW + abi.FLOW_USED_AT, tickOf(now), true);
  if (rewrite === undefined) return;

  view.setUint32(FLOW + abi.FLOW_REWRITE, REWRITES[rewrite.direction], true);
  view.setUint32(FLOW + abi.FLOW_NAT, rewrite.natEntry + 1, true);
  toSlotAddress(rewrite.address, bytes, FLOW + abi.FLOW_NEW_ADDRESS);
  view.setUint16(FLOW + abi.FLOW_NEW_PORT, rewrite.port);
}
