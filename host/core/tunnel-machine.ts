import type { Disposition } from "./drop.ts";
import type { PeerId } from "./id.ts";
import type { Deadline, Instant } from "./time.ts";
import type { Datagram, Transmit } from "./transmit.ts";

/**
 * What the data loop drives: client, gateway, or a static tunnel.
 *
 * Packets and payloads are views that are valid only during the call; a machine that keeps one copies it.
 * After every `handle*` the loop drains `pollTransmit` and `pollEvent`, then arms one timer for `pollTimeout`.
 */
export interface TunnelMachine<Command, Event> {
  /** Slow path: one packet from the TUN device whose flow the packet core does not know. */
  handleTunPacket(packet: Uint8Array, now: Instant): Disposition;
  /** Slow path: one authenticated packet from a peer whose flow the core does not know, or a control frame. */
  handlePeerPacket(peer: PeerId, packet: Uint8Array, now: Instant): Disposition;
  /** An outbound packet of a known flow found no usable keypair or path. */
  handleNoKeypair(peer: PeerId, packet: Uint8Array, now: Instant): void;
  handleKeypairConfirmed(peer: PeerId, localIndex: number, now: Instant): void;
  /** Anything on the UDP sockets that is not WireGuard data of a live keypair. */
  handleDatagram(datagram: Datagram, now: Instant): void;
  handleCommand(command: Command, now: Instant): void;
  handleTimeout(now: Instant): void;
  pollTransmit(): Transmit | undefined;
  pollEvent(): Event | undefined;
  pollTimeout(): Deadline | undefined;
}
