import type { NodeId, PeerId, RelayId } from "../id.ts";
import type { IceCredentials, Key, Relay } from "../messages.ts";
import type { Note } from "../note.ts";
import type { Deadline, Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";

/** What a grant says about a connection; equal parameters reuse it (connectivity §9.4). */
export interface ConnectionParameters {
  readonly remotePublicKey: Key;
  readonly presharedKey: Key;
  readonly localIce: IceCredentials;
  readonly remoteIce: IceCredentials;
  /** The client is controlling: it nominates pairs and starts WireGuard handshakes. */
  readonly role: "controlling" | "controlled";
}

export type ConnectivityEvent =
  | { readonly kind: "candidates-added"; readonly node: NodeId; readonly candidates: readonly string[] }
  | { readonly kind: "candidates-removed"; readonly node: NodeId; readonly candidates: readonly string[] }
  /** A handshake completed and a path is chosen: packets can be sealed for the peer. Once per connection. */
  | { readonly kind: "established"; readonly node: NodeId; readonly handshakeMs: number }
  /** The connection is gone (timers, ICE); its state was discarded, the peer slot was not. */
  | { readonly kind: "failed"; readonly node: NodeId; readonly reason: string }
  | { readonly kind: "no-relays" }
  | Note;

/** How one remote node is reached, for people. */
export interface ConnectionStatus {
  readonly state: "connecting" | "connected" | "idle";
  /** `10.0.0.5:52625 -> 203.0.113.9:40000 (host, server-reflexive)`; undefined while connecting. */
  readonly path: string | undefined;
  readonly since: Instant;
  /** Undefined while connecting. */
  readonly pathSince: Instant | undefined;
  readonly roundTripMs: number | undefined;
  /** When the keypair in use was made; undefined: there is none. */
  readonly handshakeAt: Instant | undefined;
}

/**
 * Everything a node needs to reach other nodes: relays' STUN answers, candidates, ICE, WireGuard.
 *
 * The role machine (client or gateway) owns peer slots and policy; connectivity owns what is between
 * a peer slot and the network, and drives the packet core's keypairs and paths. Drain `pollTransmit`
 * and `pollEvent` after every call.
 */
export interface Connectivity {
  /** Creates, reuses or replaces the connection to `node`, whose packets use core slot `peer`. */
  upsert(
    node: NodeId,
    peer: PeerId,
    parameters: ConnectionParameters,
    now: Instant,
  ): "created" | "reused" | "no-relays";
  /** Drops the connection without a word. */
  remove(node: NodeId, now: Instant): void;
  /** Sends Goodbye (connectivity §11.1) if connected, then drops the connection. */
  close(node: NodeId, now: Instant): void;
  addRemoteCandidates(node: NodeId, candidates: readonly string[], now: Instant): void;
  removeRemoteCandidates(node: NodeId, candidates: readonly string[], now: Instant): void;
  updateRelays(disconnected: readonly RelayId[], connected: readonly Relay[], now: Instant): void;
  /** Undefined: no connection. */
  status(node: NodeId, now: Instant): ConnectionStatus | undefined;
  /** New sockets (network change): forgets all connections silently, takes the new key, starts relays over. */
  reset(privateKey: Key, now: Instant): void;

  handleDatagram(datagram: Datagram, now: Instant): void;
  /** From the packet core: first message on a keypair that we answered. */
  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void;
  /** From the packet core: an outbound packet had no usable keypair. */
  handleNoKeypair(peer: PeerId, now: Instant): void;
  handleTimeout(now: Instant): void;
  pollTransmit(): Transmit | undefined;
  pollEvent(): ConnectivityEvent | undefined;
  pollTimeout(): Deadline | undefined;
}
