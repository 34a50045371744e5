import type { SocketAddress } from "./address.ts";

/** A datagram that a machine wants sent. The payload belongs to the receiver of the transmit. */
export interface Transmit {
  /** Set: must be the datagram's source address (direct traffic to peers). Unset: any (relays). */
  readonly source?: SocketAddress | undefined;
  readonly destination: SocketAddress;
  readonly payload: Uint8Array;
}

/** A received datagram. The payload is a view that is valid only during the call it is passed to. */
export interface Datagram {
  /** Address and port that it arrived at. */
  readonly local: SocketAddress;
  readonly from: SocketAddress;
  readonly payload: Uint8Array;
}
