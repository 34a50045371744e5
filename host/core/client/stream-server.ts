import type { IpAddress } from "../address.ts";
import { decodeQuery } from "../dns/message.ts";
import { frameMessage, MAX_STREAM_MESSAGE_BYTES, takeMessage } from "../dns/stream-framing.ts";
import type { TcpConnection } from "../netstack/connection.ts";
import { TcpStack } from "../netstack/stack.ts";
import type { IpPacket } from "../packet/ip-packet.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { AskedQuery } from "./tunnel-queries.ts";

/** tunnel-core §2.5. */
const CONNECTIONS_PER_SENTINEL = 10;
/** All sentinels together: bounds the buffers. */
const CONNECTIONS = 128;
/** Queries of one connection that wait for their answers; further ones are not read. */
const QUERIES_IN_WORK = 64;
/** A connection on which nothing was asked or answered for so long is closed (RFC 7766 §6.2.3). */
const IDLE_MS = 30_000;

interface Stream {
  readonly connection: TcpConnection;
  /** Answers that the send buffer has no room for. */
  readonly waiting: Uint8Array[];
  inWork: number;
  idleAt: Instant;
}

/**
 * DNS over TCP on the sentinels (tunnel-core §11.9): queries may be pipelined, but none is read while an
 * answer still waits to be sent.
 *
 * After every call take all of `takeQuery`, then drain `pollPacket`.
 */
export class StreamServer {
  readonly #stack: TcpStack;
  /** By connection id. */
  readonly #streams = new Map<number, Stream>();

  constructor(random: Random) {
    this.#stack = new TcpStack(random, { perLocal: CONNECTIONS_PER_SENTINEL, total: CONNECTIONS });
  }

  /** A TCP packet to port 53 of a mapped sentinel. */
  handlePacket(packet: IpPacket, now: Instant): void {
    this.#stack.handlePacket(packet, now);
    for (const connection of this.#stack.connections()) {
      if (this.#streams.has(connection.id)) continue;
      this.#streams.set(connection.id, { connection, waiting: [], inWork: 0, idleAt: now + IDLE_MS });
    }
  }

  /** The next query that may be worked on; it is answered with `answer`, once. */
  takeQuery(now: Instant): AskedQuery | undefined {
    for (const [id, stream] of this.#streams) {
      if (stream.connection.state === "closed") this.#streams.delete(id);
      else if (mayRead(stream)) {
        const asked = this.#read(stream, now);
        if (asked !== undefined) return asked;
      }
    }
    return undefined;
  }

  /** Ignored if the connection that asked is gone. */
  answer(id: number, response: Uint8Array, now: Instant): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;

    stream.inWork -= 1;
    stream.idleAt = now + IDLE_MS;
    if (response.length > MAX_STREAM_MESSAGE_BYTES || !stream.connection.canSend) {
      stream.connection.abort();
      return;
    }
    stream.waiting.push(frameMessage(response));
    this.#write(stream, now);
  }

  /** Ends the connections of sentinels that are no more; all of them if none is named. */
  abortExcept(isMapped: (sentinel: IpAddress) => boolean): void {
    for (const { connection } of this.#streams.values()) {
      if (!isMapped(connection.ends.local.ip)) connection.abort();
    }
  }

  handleTimeout(now: Instant): void {
    this.#stack.handleTimeout(now);
    for (const stream of this.#streams.values()) {
      if (now < stream.idleAt) continue;
      stream.connection.close(now);
      stream.idleAt = Number.POSITIVE_INFINITY;
    }
  }

  /** The next packet to the device. */
  pollPacket(now: Instant): Uint8Array | undefined {
    const packet = this.#stack.pollPacket(now);
    if (packet !== undefined) return packet;
    for (const stream of this.#streams.values()) if (stream.waiting.length > 0) this.#write(stream, now);
    return this.#stack.pollPacket(now);
  }

  pollTimeout(): Deadline | undefined {
    let idle: Deadline | undefined;
    for (const { idleAt } of this.#streams.values()) {
      if (Number.isFinite(idleAt)) idle = earliest(idle, { at: idleAt, reason: "DNS connection is idle" });
    }
    return earliest(idle, this.#stack.pollTimeout());
  }

  #read(stream: Stream, now: Instant): AskedQuery | undefined {
    const { connection } = stream;
    const message = takeMessage(connection);
    if (message === undefined) {
      // Half-closed, and all that came was answered: our half ends too.
      if (connection.hasPeerFinished && stream.inWork === 0) connection.close(now);
      return undefined;
    }
    const query = decodeQuery(message);
    if (query === undefined) {
      connection.abort();
      return undefined;
    }
    stream.inWork += 1;
    stream.idleAt = now + IDLE_MS;
    const { local, remote } = connection.ends;
    return { query, sentinel: local, asker: remote, stream: connection.id };
  }

  #write({ connection, waiting }: Stream, now: Instant): void {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      if (!connection.canSend) waiting.length = 0;
      else if (!connection.send(next, now)) return;
      else waiting.shift();
    }
  }
}

function mayRead({ connection, waiting, inWork }: Stream): boolean {
  const canAnswer = connection.state === "established" || connection.state === "close-wait";
  return canAnswer && waiting.length === 0 && connection.unsent === 0 && inWork < QUERIES_IN_WORK;
}
