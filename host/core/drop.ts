import * as abi from "../../assembly/abi.ts";

/** Why bytes were refused by the packet core; index = DROP_* of the ABI. */
export const CORE_DROP_NAMES: readonly string[] = (() => {
  const names: string[] = [];
  for (const [name, value] of Object.entries(abi)) {
    if (name.startsWith("DROP_") && name !== "DROP_REASONS") {
      names[value as number] = name.slice(5).toLowerCase().replaceAll("_", "-");
    }
  }
  return names;
})();

/** Why a machine refused a packet; counted by the driver. */
export type DropReason =
  | "malformed"
  | "not-tunnel-source"
  | "packet-to-self"
  | "multicast"
  | "unknown-resource"
  | "unsupported-protocol"
  | "not-connected"
  | "not-a-peer"
  | "not-allowed"
  | "nat-expired"
  | "nat-exhausted"
  | "outbound-icmp-error"
  | "unmapped-sentinel"
  | "bad-dns-message"
  | "unknown-control-frame"
  | "unconfigured"
  | "buffer-full"
  | "not-wireguard"
  | "unknown-sender"
  | "bad-handshake"
  | "stun-unmatched"
  | "stun-bad-integrity";

/**
 * What a machine did with a packet of the slow path.
 * `forward`: the flow is installed now; the driver runs the packet through the packet core again.
 * `consumed`: answered, buffered or used up.
 */
export type Disposition = "forward" | "consumed" | { readonly drop: DropReason };

export function drop(reason: DropReason): Disposition {
  return { drop: reason };
}
