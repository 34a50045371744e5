import { type SocketAddress, socketAddressText } from "../address.ts";
import { type IpPacket, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from "../packet/ip-packet.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import { TcpConnection } from "./connection.ts";
import { decodeSegment, encodeSegment, type TcpEnds, type TcpSegment } from "./segment.ts";
import { advance } from "./sequence.ts";

/** RSTs to nobody's segments that wait to be polled; more are not sent. */
const WAITING_RESETS = 32;

export interface StackLimits {
  /** Connections that one local address may have. */
  readonly perLocal: number;
  readonly total: number;
}

/**
 * TCP over packets: connections by their two ends (RFC 9293).
 *
 * After every call, also of a connection, drain `pollPacket`. A connection that is closed and drained is
 * forgotten at once, so that its ends may meet again.
 */
export class TcpStack {
  readonly #random: Random;
  readonly #limits: StackLimits;
  readonly #connections = new Map<string, TcpConnection>();
  #resets: Uint8Array[] = [];
  #nextId = 1;

  constructor(random: Random, limits: StackLimits) {
    this.#random = random;
    this.#limits = limits;
  }

  connections(): Iterable<TcpConnection> {
    return this.#connections.values();
  }

  get size(): number {
    return this.#connections.size;
  }

  has(ends: TcpEnds): boolean {
    return this.#connections.has(keyOf(ends));
  }

  /** Undefined: no room, or the same ends are connected already. */
  open(ends: TcpEnds, now: Instant): TcpConnection | undefined {
    if (this.has(ends) || !this.#hasRoom(ends.local)) return undefined;
    return this.#add(TcpConnection.open(this.#nextId++, ends, this.#initialSequence(), now));
  }

  /** A TCP packet to an address where we listen; a SYN makes a connection while there is room. */
  handlePacket(packet: IpPacket, now: Instant): void {
    const segment = decodeSegment(packet);
    if (segment === undefined) return;

    const ends = {
      local: { ip: packet.destination, port: packet.destinationPort },
      remote: { ip: packet.source, port: packet.sourcePort },
    };
    const connection = this.#connections.get(keyOf(ends));
    if (connection !== undefined) {
      connection.handleSegment(segment, now);
      return;
    }
    const isSyn = (segment.flags & (TCP_SYN | TCP_ACK | TCP_RST)) === TCP_SYN;
    if (isSyn && this.#hasRoom(ends.local)) {
      this.#add(TcpConnection.accept(this.#nextId++, ends, segment, this.#initialSequence(), now));
    } else {
      this.#refuse(ends, segment);
    }
  }

  /** A TCP packet that may belong to a connection that we opened; false if it does not. */
  handleReply(packet: IpPacket, ends: TcpEnds, now: Instant): boolean {
    const connection = this.#connections.get(keyOf(ends));
    if (connection === undefined) return false;
    const segment = decodeSegment(packet);
    if (segment !== undefined) connection.handleSegment(segment, now);
    return true;
  }

  handleTimeout(now: Instant): void {
    for (const connection of this.#connections.values()) connection.handleTimeout(now);
  }

  pollPacket(now: Instant): Uint8Array | undefined {
    const reset = this.#resets.shift();
    if (reset !== undefined) return reset;
    for (const [key, connection] of this.#connections) {
      const packet = connection.pollPacket(now);
      if (packet !== undefined) return packet;
      if (connection.state === "closed") this.#connections.delete(key);
    }
    return undefined;
  }

  pollTimeout(): Deadline | undefined {
    let first: Deadline | undefined;
    for (const connection of this.#connections.values()) first = earliest(first, connection.pollTimeout());
    return first;
  }

  #add(connection: TcpConnection): TcpConnection {
    this.#connections.set(keyOf(connection.ends), connection);
    return connection;
  }

  #hasRoom(local: SocketAddress): boolean {
    if (this.#connections.size >= this.#limits.total) return false;
    let count = 0;
    for (const { ends } of this.#connections.values()) {
      if (ends.local.ip === local.ip && ends.local.port === local.port) count += 1;
    }
    return count < this.#limits.perLocal;
  }

  /** RFC 9293 §3.10.7.1. */
  #refuse(ends: TcpEnds, { flags, sequence, acknowledgment, payload }: TcpSegment): void {
    if ((flags & TCP_RST) !== 0 || this.#resets.length >= WAITING_RESETS) return;

    const length = payload.length + Number((flags & TCP_SYN) !== 0) + Number((flags & TCP_FIN) !== 0);
    const isAck = (flags & TCP_ACK) !== 0;
    this.#resets.push(
      encodeSegment(ends, {
        sequence: isAck ? acknowledgment : 0,
        acknowledgment: isAck ? 0 : advance(sequence, length),
        flags: isAck ? TCP_RST : TCP_RST | TCP_ACK,
        window: 0,
        mss: undefined,
        payload: new Uint8Array(0),
      }),
    );
  }

  #initialSequence(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#random.bytes(4);
    return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  }
}

function keyOf({ local, remote }: TcpEnds): string {
  return `${socketAddressText(local)} ${socketAddressText(remote)}`;
}
