import assert from "node:assert/strict";
import { ip as address, type IpAddress } from "../../../host/core/address.ts";
import type { TcpConnection } from "../../../host/core/netstack/connection.ts";
import { TcpStack } from "../../../host/core/netstack/stack.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import { checksumsHold, ip, u16, u32 } from "../packet/packets.ts";

export const SERVER = { ip: address("100.100.111.1"), port: 53 };
export const CLIENT = { ip: address("100.64.0.1"), port: 40_000 };
/** Our first sequence number, chosen so that it wraps around after 16 bytes. */
export const OURS = 0xfffffff0;
/** The peer's. */
export const THEIRS = 1000;

const BITS = { F: 1, S: 2, R: 4, P: 8, A: 16 } as const;

/** A segment from the peer; numbers are relative: `seq` to THEIRS, `ack` to OURS. */
export interface From {
  readonly flags: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  readonly mss?: number;
  readonly data?: string | Uint8Array;
  readonly port?: number;
}

/** Builds the packet by hand, so that a defect of our codec shows. */
export function packetFrom(from: From, to: { ip: IpAddress; port: number } = SERVER): Uint8Array {
  const { flags, seq = 0, ack = 0, window = 0xffff, mss, data = "", port = CLIENT.port } = from;
  const bits = [...flags].reduce((sum, flag) => sum | BITS[flag as keyof typeof BITS], 0);
  const options = mss === undefined ? [] : [1, 1, 2, 4, ...u16(mss), 1, 1];
  const payload = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const header = [
    ...u16(port),
    ...u16(to.port),
    ...u32((THEIRS + seq) >>> 0),
    ...u32(flags.includes("A") ? (OURS + ack) >>> 0 : 0),
    ((20 + options.length) / 4) << 4,
    bits,
    ...u16(window),
    ...[0, 0, 0, 0],
    ...options,
  ];
  return ip({ from: CLIENT.ip, to: to.ip }, 6, [...header, ...payload], 16);
}

/** One line per segment of ours: `flags seq ack "payload"`; long payloads as their length. */
export function text(packet: Uint8Array): string {
  assert.ok(checksumsHold(packet), "checksums hold");
  const parsed = parseIpPacket(packet);
  assert.ok(parsed?.kind === "tcp");
  const view = new DataView(packet.buffer, packet.byteOffset + parsed.transportOffset);
  const bits = parsed.tcpFlags;
  const flags = Object.entries(BITS)
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([flag]) => flag)
    .join("");
  const seq = (view.getUint32(4) - OURS) | 0;
  const ack = (bits & BITS.A) !== 0 ? ` ${(view.getUint32(8) - THEIRS) | 0}` : "";
  const payload = packet.subarray(parsed.payloadOffset);
  const shown =
    payload.length > 20 ? `[${payload.length}]` : JSON.stringify(new TextDecoder().decode(payload));
  return `${flags} ${seq}${ack}${payload.length > 0 ? ` ${shown}` : ""}`;
}

/** A stack that listens on SERVER, driven like the client drives it. Time is `now`. */
export class Wire {
  readonly stack = new TcpStack(
    { bytes: (length) => Uint8Array.from(u32(OURS)).slice(0, length), uniform: () => 0.5 },
    { perLocal: 10, total: 20 },
  );
  now = 1000;

  /** What we say to a segment. */
  send(from: From): string[] {
    const packet = parseIpPacket(packetFrom(from));
    assert.ok(packet !== undefined);
    this.stack.handlePacket(packet, this.now);
    return this.drain();
  }

  /** What we say by ourselves when time passes. */
  advance(milliseconds: number): string[] {
    this.now += milliseconds;
    this.stack.handleTimeout(this.now);
    return this.drain();
  }

  drain(): string[] {
    return this.packets().map(text);
  }

  packets(): Uint8Array[] {
    const packets: Uint8Array[] = [];
    for (
      let next = this.stack.pollPacket(this.now);
      next !== undefined;
      next = this.stack.pollPacket(this.now)
    ) {
      packets.push(next);
      assert.ok(packets.length < 1000, "the stack never stops sending");
    }
    return packets;
  }

  /** Until the handshake is done. */
  establish(mss?: number, window?: number): this {
    assert.deepEqual(this.send({ flags: "S", ...(mss === undefined ? {} : { mss }) }), ["SA 0 1"]);
    assert.deepEqual(
      this.send({ flags: "A", seq: 1, ack: 1, ...(window === undefined ? {} : { window }) }),
      [],
    );
    return this;
  }

  /** The only connection. */
  get connection(): TcpConnection {
    const [connection] = this.stack.connections();
    assert.ok(connection !== undefined, "no connection");
    return connection;
  }

  write(data: string | number): string[] {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data).fill(0x78);
    assert.ok(this.connection.send(bytes, this.now));
    return this.drain();
  }

  read(): string {
    const { connection } = this;
    const { readable } = connection;
    const bytes = connection.peek(readable);
    connection.drop(readable);
    return new TextDecoder().decode(bytes);
  }

  close(): string[] {
    this.connection.close(this.now);
    return this.drain();
  }
}
