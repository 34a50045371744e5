import type { IpAddress } from "./address.ts";
import type { PathId, PeerId } from "./id.ts";
import type { Instant } from "./time.ts";

/** Transport identity of a packet (tunnel-core §3.2): protocol with port or echo identifier. */
export type Identity =
  | { readonly kind: "tcp" | "udp"; readonly port: number }
  | { readonly kind: "echo"; readonly port: number }
  /** ICMP that is no echo: only filters can judge it. */
  | { readonly kind: "icmp" }
  | { readonly kind: "other"; readonly protocol: number };

export interface FilterRule {
  readonly kind: "tcp" | "udp" | "icmp";
  /** Inclusive; ignored for icmp. */
  readonly firstPort: number;
  readonly lastPort: number;
}
/** Handle of a filter set in the packet core; 0 permits everything. */
export type FilterId = number & { readonly brand?: "filter-id" };

export interface FlowKey {
  /** The peer it came from, or "tun". */
  readonly from: PeerId | "tun";
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  /** TCP and UDP ports; for ICMP echo source = identifier, destination = 0; otherwise both 0. */
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Replacement of one address and one port, with the NAT entry that every packet refreshes. */
export interface Rewrite {
  /** outgoing: destination address and source port or identifier; incoming: source and destination port. */
  readonly direction: "outgoing" | "incoming";
  readonly address: IpAddress;
  readonly port: number;
  readonly natEntry: number;
}

export interface Keypair {
  /** What the remote puts into data messages: bits 8–18 are the peer id, bits 0–7 the handshake number. */
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  /** We initiated: usable at once. Otherwise confirmed by the first message received on it. */
  readonly initiated: boolean;
}

/** Undefined instants have not happened. */
export interface PeerActivity {
  readonly receivedAt: Instant | undefined;
  readonly sentAt: Instant | undefined;
  readonly dataSentAt: Instant | undefined;
  readonly dataReceivedAt: Instant | undefined;
  /** First non-empty packet sealed since anything authenticated was received. */
  readonly unansweredSince: Instant | undefined;
  /** First non-empty packet received since anything was sealed. */
  readonly unacknowledgedSince: Instant | undefined;
  readonly innerAt: Instant | undefined;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
}

export interface NatTuple {
  readonly kind: "tcp" | "udp" | "echo";
  readonly port: number;
  readonly ip: IpAddress;
}

/**
 * What machines see of the packet core: its tables, and two ways to emit a packet.
 *
 * Synchronous and deterministic. The machines decide and install; the core then handles each further
 * packet of the flow alone. Implemented by `host/wasm`; arrays passed in are copied.
 */
export interface PacketCore {
  /** Takes a free slot; undefined when all are in use. */
  addPeer(): PeerId | undefined;
  /** Frees the slot, its keypairs, flows and NAT entries. */
  removePeer(peer: PeerId): void;
  /**
   * Where its trains go; undefined: nowhere, outbound packets take the slow path.
   * `channel`: on a path through our relay, the channel number; each datagram then goes out as ChannelData.
   */
  setPath(peer: PeerId, path: PathId | undefined, channel?: number): void;
  /** Invalidates all flows from and to this peer: their next packets take the slow path. */
  invalidatePeer(peer: PeerId): void;
  /** Invalidates all flows. */
  invalidateAll(): void;

  addKeypair(peer: PeerId, keypair: Keypair): void;
  removeKeypair(peer: PeerId, localIndex: number): void;
  /** Chooses the keypair to send with; undefined: none, outbound packets take the slow path. */
  selectKeypair(peer: PeerId, localIndex: number | undefined): void;
  /** Counter of the next message on that keypair (WireGuard's message limits). */
  sendCounter(peer: PeerId, localIndex: number): bigint;
  activity(peer: PeerId, now: Instant): PeerActivity;
  /** Peers whose activity fields changed from "none" since the last call, each once. */
  drainTouched(): PeerId[];

  /** Adds a filter set; an empty list gives 0. Throws when the pool is exhausted (an operator's limit). */
  addFilter(rules: readonly FilterRule[]): FilterId;
  removeFilter(filter: FilterId): void;
  /** Tests the port towards the resource (tunnel-core §15.1). */
  permits(filter: FilterId, identity: Identity): boolean;
  /** The first rule by which it permits; `any`: the set has no rules; undefined: it refuses. */
  permittedBy(filter: FilterId, identity: Identity): FilterRule | "any" | undefined;

  /** Installs or replaces a flow. `peer`: where packets from TUN go, or where packets from a peer come from. */
  addFlow(key: FlowKey, peer: PeerId, rewrite: Rewrite | undefined, now: Instant): void;

  /** tunnel-core §14.2: the entry for `inside`, new if needed; undefined: no outside value is free. */
  natOutgoing(
    peer: PeerId,
    inside: NatTuple,
    real: IpAddress,
    now: Instant,
  ): { readonly entry: number; readonly outside: NatTuple } | undefined;
  /** tunnel-core §14.4: what an outside tuple stands for. */
  natIncoming(
    peer: PeerId,
    outside: NatTuple,
    now: Instant,
  ): { readonly entry: number; readonly inside: NatTuple } | "expired" | "none";
  /** Notes a packet that was translated without a flow (ICMP errors, first packets). `tcpFlags`: the flags byte or 0. */
  natNote(entry: number, direction: "outgoing" | "incoming", tcpFlags: number, now: Instant): void;
  /** Removes all entries of a peer, forgetting expired ones too (tunnel-core §13.7 step 1). */
  natReset(peer: PeerId): void;
  /** Removes what is due; call at least once a second while `natCount` > 0. */
  natHandleTimeout(now: Instant): void;
  natCount(): number;

  /**
   * Seals one inner packet (may be empty: keepalive) for this peer and queues it on the peer's path.
   * No flow lookup, no policy: for packets that the machine itself makes. False: no keypair or no path.
   */
  seal(peer: PeerId, packet: Uint8Array, now: Instant): boolean;
  /** Queues one complete IP packet for the TUN device. */
  writeTun(packet: Uint8Array): void;
}
