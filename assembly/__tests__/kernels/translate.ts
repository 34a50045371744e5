// Entry of the module that bench/micro/nat.ts times: the NAT kernels, and a loop over a batch of packets.
import { FLOW_NAT, FLOW_REWRITE, REWRITE_OUTGOING } from "../../abi";
import { flowFind, flowTouch } from "../../flow/table";
import {
  parse,
  parsedKind,
  parsedL4,
  parsedLength,
  parsedPayload,
  parsedTcpFlags,
  parsedVersion,
} from "../../ip/parse";
import { applyRewrite } from "../../ip/rewrite";
import { natNote } from "../../nat/table";

export { flowAdd } from "../../flow/table";
export { natCount, natOutgoing, natTick } from "../../nat/table";

/** Parses and translates `count` packets of `length` bytes, `stride` apart, as the pipelines do; returns the hits. */
export function translateBatch(
  first: usize,
  count: i32,
  stride: i32,
  length: i32,
  scope: i32,
  now: u32,
): i32 {
  let hits = 0;
  for (let i = 0; i < count; i++) {
    const packet = first + <usize>(i * stride);
    if (parse(packet, length, 1280) !== 0) continue;
    const flow = flowFind(packet, scope);
    if (flow === 0) continue;
    flowTouch(flow, parsedLength - parsedPayload, now);
    const isOutgoing = load<u32>(flow, FLOW_REWRITE) & REWRITE_OUTGOING;
    natNote(load<i32>(flow, FLOW_NAT) - 1, isOutgoing, parsedTcpFlags, now);
    applyRewrite(packet, flow, packet + <usize>parsedL4, parsedKind, parsedVersion, 1);
    hits += 1;
  }
  return hits;
}
