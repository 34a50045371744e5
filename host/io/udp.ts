import type { SocketAddress } from "../core/address.ts";
import type { Path } from "../core/path.ts";
import type { Transmit } from "../core/transmit.ts";

/** Memory that datagrams are received into and sent from; the packet core's, seen from outside. */
export interface DatagramMemory {
  readonly bytes: Uint8Array;
  /** Address of `bytes[0]` in this process. */
  readonly address: number;
  /** Offsets of the receive buffers in `bytes`, each `bufferBytes` long. */
  readonly buffers: readonly number[];
  readonly bufferBytes: number;
  /** Describes one received buffer: a single datagram (`segmentBytes` 0) or a train. */
  describe(index: number, offset: number, length: number, segmentBytes: number, ecn: number): void;
}

export interface UdpCounters {
  receivedBuffers: number;
  sentTrains: number;
  sendErrors: number;
  sendBlocked: number;
}

/** The node's two UDP sockets (connectivity §4.1), behind one of two backends: native or portable. */
export interface UdpSockets {
  /** Addresses that the sockets are bound to (wildcard or concrete); a missing family is undefined. */
  readonly local: { readonly v4: SocketAddress | undefined; readonly v6: SocketAddress | undefined };
  readonly counters: UdpCounters;
  /** Receives what is there into the memory, without blocking; the number of buffers described. */
  receive(family: 4 | 6): number;
  /** Addresses of a buffer that the last `receive` described. */
  source(index: number): { readonly local: SocketAddress; readonly from: SocketAddress };
  /**
   * Sends a run of datagrams of `segmentBytes` each (the last may be shorter) that lies at `offset` in the
   * memory, to the path's destination and from its source. Done with the memory when it returns.
   */
  sendTrain(offset: number, length: number, segmentBytes: number, ecn: number, path: Path): void;
  send(transmit: Transmit): void;
  close(): void;
}
