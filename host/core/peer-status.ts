import type { IpAddress } from "./address.ts";
import type { ConnectionStatus, Connectivity } from "./connection/connectivity.ts";
import type { ExplainedPeer } from "./explanation.ts";
import type { NodeId, PeerId } from "./id.ts";
import type { PacketCore } from "./packet-core.ts";
import type { Instant } from "./time.ts";

/** How one peer is reached, for people and programs; durations count back from the moment of asking. */
export interface PeerStatus {
  readonly id: NodeId;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  /** `gone`: what we know about it outlived its connection. */
  readonly state: ConnectionStatus["state"] | "gone";
  readonly forMs: number | undefined;
  /** `10.0.0.5:52625 -> 203.0.113.9:40000 (host, server-reflexive)`. */
  readonly path: string | undefined;
  /** Undefined without a path. */
  readonly via: "direct" | "relay" | undefined;
  readonly pathForMs: number | undefined;
  readonly roundTripMs: number | undefined;
  /** Age of the keypair in use; undefined: none. */
  readonly handshakeAgeMs: number | undefined;
  readonly sent: Traffic;
  readonly received: Traffic;
}

/** Inner packets, keepalives included. */
export interface Traffic {
  readonly packets: number;
  readonly bytes: number;
}

export interface StatusParts {
  readonly core: PacketCore;
  readonly connectivity: Connectivity;
}

export interface StatusSubject {
  readonly id: NodeId;
  readonly peer: PeerId;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
}

/** Changes nothing. */
export function peerStatus({ core, connectivity }: StatusParts, of: StatusSubject, now: Instant): PeerStatus {
  const status = connectivity.status(of.id, now);
  const { txPackets, txBytes, rxPackets, rxBytes } = core.activity(of.peer, now);
  return {
    id: of.id,
    ipv4: of.ipv4,
    ipv6: of.ipv6,
    state: status?.state ?? "gone",
    forMs: age(status?.since, now),
    path: status?.path,
    via: status?.path === undefined ? undefined : /\brelayed\b/.test(status.path) ? "relay" : "direct",
    pathForMs: age(status?.pathSince, now),
    roundTripMs: status?.roundTripMs,
    handshakeAgeMs: age(status?.handshakeAt, now),
    sent: { packets: txPackets, bytes: txBytes },
    received: { packets: rxPackets, bytes: rxBytes },
  };
}

export function explainedPeer(
  connectivity: Connectivity,
  { id, name }: { readonly id: NodeId; readonly name: string | undefined },
  now: Instant,
): ExplainedPeer {
  const status = connectivity.status(id, now);
  return { id, name, state: status?.state ?? "gone", path: status?.path };
}

export function age(since: Instant | undefined, now: Instant): number | undefined {
  return since === undefined ? undefined : Math.max(0, Math.round(now - since));
}
