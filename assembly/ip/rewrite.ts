import {
  FLOW_IP_DELTA,
  FLOW_L4_DELTA,
  FLOW_NEW_ADDRESS,
  FLOW_NEW_PORT,
  FLOW_REWRITE,
  KIND_ECHO,
  KIND_UDP,
  REWRITE_OUTGOING,
} from "../abi";
import { delta16, updated, updateField } from "./checksum";

const CHECKSUM_TCP: usize = 16;
const CHECKSUM_UDP: usize = 6;
const CHECKSUM_ICMP: usize = 2;
const ECHO_IDENTIFIER: usize = 4;
const ECN_CE = 3;

/**
 * Applies the rewrite of `flow` to the parsed packet at `packet` whose transport header is at pointer `l4`.
 *
 * `kind` is KIND_TCP, KIND_UDP or KIND_ECHO, `version` 4 or 6: those of the flow's key. With `updateL4` = 0 the
 * transport checksum is left for the caller to compute (unfinished checksums of TUN frames). The IPv4 header
 * checksum is always patched (tunnel-core §3.3). A flow without rewrite leaves the packet as it is.
 */
export function applyRewrite(
  packet: usize,
  flow: usize,
  l4: usize,
  kind: i32,
  version: i32,
  updateL4: i32,
): void {
  const rewrite = load<u32>(flow, FLOW_REWRITE);
  if (rewrite === 0) return;
  const isOutgoing = (rewrite & REWRITE_OUTGOING) !== 0;

  if (version === 4) {
    store<u32>(packet + (isOutgoing ? 16 : 12), load<u32>(flow, FLOW_NEW_ADDRESS));
    updateField(packet + 10, load<u16>(flow, FLOW_IP_DELTA), 0);
  } else {
    const address = packet + (isOutgoing ? 24 : 8);
    store<u64>(address, load<u64>(flow, FLOW_NEW_ADDRESS));
    store<u64>(address, load<u64>(flow, FLOW_NEW_ADDRESS + 8), 8);
  }

  const port = load<u16>(flow, FLOW_NEW_PORT);
  if (kind === KIND_ECHO) {
    store<u16>(l4 + ECHO_IDENTIFIER, port);
  } else {
    store<u16>(l4 + (isOutgoing ? 0 : 2), port);
  }
  if (updateL4 !== 0) patchL4(l4, kind, version, load<u16>(flow, FLOW_L4_DELTA));
}

function patchL4(l4: usize, kind: i32, version: i32, delta: u32): void {
  if (kind === KIND_UDP) {
    updateField(l4 + CHECKSUM_UDP, delta, 1);
  } else if (kind !== KIND_ECHO) {
    updateField(l4 + CHECKSUM_TCP, delta, 0);
  } else if (version === 6) {
    updateField(l4 + CHECKSUM_ICMP, delta, 0);
  } else {
    // An ICMPv4 echo reply may consist of zeros only, and then only 0xffff verifies; where 0 would verify,
    // 0xffff does as well, so it serves both.
    const after = updated(load<u16>(l4 + CHECKSUM_ICMP), delta);
    store<u16>(l4 + CHECKSUM_ICMP, <u16>(after === 0 ? 0xffff : after));
  }
}

/** Merges the ECN codepoint of the outer datagram into the parsed inner packet (tunnel-core §3.7). */
export function mergeEcn(packet: usize, outer: i32): void {
  if (outer !== ECN_CE) return;
  const isIpv4 = load<u8>(packet) >> 4 === 4;
  const shift = isIpv4 ? 0 : 4;
  const inner = (<i32>load<u8>(packet, 1) >> shift) & 3;
  if (inner === 0 || inner === ECN_CE) return;

  const before = <u32>load<u16>(packet);
  store<u8>(packet, <u8>(<i32>load<u8>(packet, 1) | (ECN_CE << shift)), 1);
  if (isIpv4) updateField(packet + 10, delta16(before, load<u16>(packet)), 0);
}
