import { type IpPacket, parseIpPacket, TCP_ACK, TCP_SYN } from "./ip-packet.ts";

/**
 * Holds back packets until they may go, without duplicates (tunnel-core §2.6).
 *
 * Keeps copies. When full the oldest packet is dropped.
 */
export class PacketBuffer {
  readonly #capacity: number;
  #packets: Uint8Array[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#packets.length;
  }

  /**
   * Ignores a packet that is held already, byte for byte. A SYN replaces the held SYN of the same
   * connection, since its timestamps are newer. `overflowed`: the oldest packet made room for it.
   */
  push(packet: Uint8Array): "added" | "duplicate" | "replaced" | "overflowed" {
    const syn = connectionRequest(packet);
    for (const [i, held] of this.#packets.entries()) {
      if (sameBytes(held, packet)) return "duplicate";
      if (syn === undefined || !sameConnectionRequest(syn, connectionRequest(held))) continue;
      this.#packets[i] = packet.slice();
      return "replaced";
    }
    return this.#append(packet.slice());
  }

  /** Appends packets of another buffer, which this one owns from now on, without looking for duplicates. */
  append(packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.#append(packet);
  }

  /** Hands over all packets, oldest first; the buffer is empty afterwards. */
  drain(): Uint8Array[] {
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }

  #append(packet: Uint8Array): "added" | "overflowed" {
    this.#packets.push(packet);
    if (this.#packets.length <= this.#capacity) return "added";
    this.#packets.shift();
    return "overflowed";
  }
}

function connectionRequest(bytes: Uint8Array): IpPacket | undefined {
  const packet = parseIpPacket(bytes);
  return packet !== undefined && (packet.tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN ? packet : undefined;
}

function sameConnectionRequest(a: IpPacket, b: IpPacket | undefined): boolean {
  return (
    b !== undefined &&
    a.source === b.source &&
    a.destination === b.destination &&
    a.sourcePort === b.sourcePort &&
    a.destinationPort === b.destinationPort &&
    sameBytes(sequenceNumber(a), sequenceNumber(b))
  );
}

function sequenceNumber(packet: IpPacket): Uint8Array {
  return packet.bytes.subarray(packet.transportOffset + 4, packet.transportOffset + 8);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
